"""Weights as state dicts: in ``.pth`` and safetensors files, and in modules."""

from __future__ import annotations

import importlib.util
import io
import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hesstore.dataset.networks import named_weights
from hesstore.errors import ExportError
from hesstore.exporting.file_names import l2_texts
from hesstore.exporting.output_folder import File

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hesstore.dataset.point_selection import Cell, PointSelection

FORMATS = ("pth", "safetensors")
_OVERHEAD = 4096  # bytes of a file beside the values


def weight_files(selection: PointSelection, format: str) -> Iterator[File]:  # noqa: A002 - as in export
    """A file a λ."""
    if format == "safetensors" and importlib.util.find_spec("safetensors") is None:
        raise ExportError('format: safetensors needs a further package: pip install "hesstore[files]"')
    names = l2_texts(selection.ds["l2"].values)
    write = {"pth": _write_pth, "safetensors": _write_safetensors}[format]
    for cell in selection.having("weights"):
        yield File(
            name=f"model_weights-{cell[0]}-{names[cell[1]]}.{format}",
            kind="weights",
            source=selection.source([cell]),
            estimate=4.0 * selection.ds.sizes["param"] + _OVERHEAD,
            write=partial(write, selection, cell),
        )


def _write_pth(selection: PointSelection, cell: Cell, path: Path) -> None:
    import torch  # noqa: PLC0415 - other exports need none

    state = {name: torch.from_numpy(values) for name, values in named_weights(selection, cell).items()}
    buffer = io.BytesIO()  # given a path, PyTorch writes its name into the file
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


def _write_safetensors(selection: PointSelection, cell: Cell, path: Path) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415 - an extra

    run, index = cell
    facts = {
        "run": str(run),
        "l2": repr(float(selection.ds["l2"][index])),
        "fingerprint": selection.ds.attrs["fingerprint"],
    }
    named = {name: np.ascontiguousarray(values) for name, values in named_weights(selection, cell).items()}
    save_file(named, path, metadata={"hesstore": json.dumps(facts)})  # the order of several keys would be random
