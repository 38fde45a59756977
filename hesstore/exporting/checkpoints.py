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

    from hesstore.dataset.point_selection import PointSelection
    from hesstore.store.schema import Point

FORMATS = ("pth", "safetensors")
_OVERHEAD = 4096  # bytes of a file beside the values


def weight_files(selection: PointSelection, format: str) -> Iterator[File]:  # noqa: A002 - as in export
    """A file a λ."""
    if format == "safetensors" and importlib.util.find_spec("safetensors") is None:
        raise ExportError('format: safetensors needs a further package: pip install "hesstore[files]"')
    names = l2_texts(selection.ds["l2"].values)
    write = {"pth": _write_pth, "safetensors": _write_safetensors}[format]
    for point in selection.points_with("weights"):
        yield File(
            name=f"model_weights-{point.run.id}-{names[point.index]}.{format}",
            kind="weights",
            source=selection.source([point]),
            estimate=4.0 * selection.ds.sizes["param"] + _OVERHEAD,
            write=partial(write, selection, point),
        )


def _write_pth(selection: PointSelection, point: Point, path: Path) -> None:
    import torch  # noqa: PLC0415 - other exports need none

    state = {name: torch.from_numpy(values) for name, values in named_weights(selection, point).items()}
    buffer = io.BytesIO()  # given a path, PyTorch writes its name into the file
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


def _write_safetensors(selection: PointSelection, point: Point, path: Path) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415 - an extra

    facts = {
        "run": str(point.run.id),
        "l2": repr(point.l2),
        "fingerprint": selection.ds.attrs["fingerprint"],
    }
    named = {name: np.ascontiguousarray(values) for name, values in named_weights(selection, point).items()}
    save_file(named, path, metadata={"hesstore": json.dumps(facts)})  # the order of several keys would be random
