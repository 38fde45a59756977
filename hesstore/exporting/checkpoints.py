"""Weights as state dicts in ``.pth`` and safetensors files, one file per grid point."""

from __future__ import annotations

import importlib.util
import io
import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hesstore.dataset.networks import named_statistics, named_weights
from hesstore.errors import ExportError
from hesstore.exporting.file_names import value_texts
from hesstore.exporting.output_folder import File
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from hesstore.dataset.point_selection import PointSelection
    from hesstore.store.schema import Point

FORMATS = ("pth", "safetensors")
_OVERHEAD = 4096  # bytes of a file in addition to the weights


def weight_files(selection: PointSelection, format: str) -> Iterator[File]:  # noqa: A002 - as in export
    """The files with weights, in a format of :data:`FORMATS`.

    Raises
    ------
    ExportError
        If safetensors is not installed.
    """
    if format == "safetensors" and importlib.util.find_spec("safetensors") is None:
        raise ExportError('format: safetensors needs the package safetensors: pip install "hesstore[files]"')
    texts = value_texts(selection.ds[axis_of(selection.ds)])
    write = {"pth": _write_pth, "safetensors": _write_safetensors}[format]
    for point in selection.points_with("weights"):
        yield File(
            name=f"model_weights-{point.run.id}-{texts[point.index]}.{format}",
            kind="weights",
            source=selection.source([point]),
            estimate=4.0 * selection.ds.sizes["param"] + _OVERHEAD,
            write=partial(write, selection, point),
        )


def _values(selection: PointSelection, point: Point) -> dict[str, NDArray[np.float32]]:
    """The weights and the running statistics of batch norm, by name."""
    return {**named_weights(selection, point), **named_statistics(selection, point)}


def _write_pth(selection: PointSelection, point: Point, path: Path) -> None:
    import torch  # noqa: PLC0415 - other exports do not need it

    state = {name: torch.from_numpy(values) for name, values in _values(selection, point).items()}
    buffer = io.BytesIO()  # if it is given a path, PyTorch writes the file name into the file
    torch.save(state, buffer)
    path.write_bytes(buffer.getbuffer())


def _write_safetensors(selection: PointSelection, point: Point, path: Path) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415 - an optional dependency

    facts = {
        "run": str(point.run.id),
        point.axis: repr(point.value),
        "fingerprint": selection.ds.attrs["fingerprint"],
    }
    named = {name: np.ascontiguousarray(values) for name, values in _values(selection, point).items()}
    save_file(named, path, metadata={"hesstore": json.dumps(facts)})  # several keys would be in random order
