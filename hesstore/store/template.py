"""The template of a store: all of its variables and coordinates, without any results."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from hesstore.config import fingerprint
from hesstore.config.l2_grid import AXIS
from hesstore.store.metadata import document, seal
from hesstore.store.parameter_coordinates import layer_names, parameter_coordinates, statistic_names
from hesstore.store.schema import (
    REFERENCES,
    SCHEMA_VERSION,
    SIGNS,
    SPLITS,
    StoreSpec,
    axis_attrs,
    coordinate_attrs,
    coordinate_names,
    density_grid,
    grid_axis,
)
from hesstore.store.variable import HESSIAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer


def template(spec: StoreSpec) -> dict[str, bytes]:
    """The files or objects of an empty store that ``spec`` describes: their contents by key."""
    files: dict[str, Buffer] = {}
    _write(MemoryStore(files), spec)
    return {key: contents.to_bytes() for key, contents in files.items()}


def _write(store: Store, spec: StoreSpec) -> None:
    root = zarr.create_group(store, zarr_format=3)
    root.attrs.update(
        {
            "schema_version": SCHEMA_VERSION,
            "title": _title(spec.identity),
            "fingerprint": fingerprint(spec.identity),
            "identity": json.dumps(spec.identity),
            "runs": json.dumps([[run.seed, run.direction] for run in spec.runs]),
            **spec.attrs,
        }
    )
    for variable in spec.variables:
        on_dims = " ".join(_auxiliary(variable.dims, spec.references))
        root.create_array(
            variable.name,
            shape=tuple(spec.sizes[dim] for dim in variable.dims),
            chunks=variable.chunks(spec.sizes),
            shards=variable.shards(spec.sizes),
            dtype=variable.dtype,
            fill_value=variable.fill,
            dimension_names=variable.dims,
            compressors=_codecs(),
            attributes={
                **variable.attributes,
                **spec.notes.get(variable.name, {}),
                "coordinates": on_dims,
            },
        )
    axis = grid_axis(spec.identity)
    references = {name: (("param",), values) for name, values in spec.references.items()}
    for name, (dims, values) in {**coordinates(spec), **references}.items():
        is_text = values.dtype == object
        array = root.create_array(
            name,
            shape=values.shape,
            chunks=tuple(max(1, length) for length in values.shape),
            dtype="string" if is_text else values.dtype,
            fill_value="" if is_text else None,
            dimension_names=dims,
            compressors=_codecs(),
            attributes=axis_attrs(axis) if name == axis else coordinate_attrs(name, spec.identity),
        )
        array[...] = values
    documents = {name: document(array) for name, array in root.arrays()}
    root.attrs["seal"] = seal(root.attrs.asdict(), documents)
    with warnings.catch_warnings():  # other readers may not know consolidated metadata; they read those of each array
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store, zarr_format=3)


def _title(identity: Mapping[str, Any]) -> str:
    axis = grid_axis(identity)
    along = "an L2 sweep" if axis == AXIS else f"checkpoints by {axis}"
    matrix = "Hessian" if identity.get("operator", HESSIAN) == HESSIAN else "Gauss-Newton"
    return f"hesstore: {matrix} spectra along {along}"


def _codecs() -> tuple[BloscCodec, Crc32cCodec]:
    # Eigenvectors of digits shrink to 0.72–0.82 of their size, in 12 ms per grid point; zstd at level 3 reaches
    # 0.64–0.75, but takes 110 ms.
    return BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()


def _auxiliary(dims: tuple[str, ...], references: Iterable[str]) -> list[str]:
    """Return the names of the coordinates that label one of these dimensions without being its index."""
    names = {
        "run": ("seed", "direction"),
        "param": ("layer", "kind", "out_index", "in_index", *references),
        "statistic": ("buffer",),
    }
    return [name for dim in dims for name in names.get(dim, ())]


def coordinates(spec: StoreSpec) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Return the dimensions and values of every coordinate that follows from the config: all except references."""
    classes, axis = np.arange(spec.num_classes, dtype=np.int32), grid_axis(spec.identity)
    known: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
        "run": (("run",), np.array([run.id for run in spec.runs], dtype=np.int32)),
        axis: ((axis,), np.array(spec.grid, dtype=np.float64)),
        "mode": (("mode",), np.arange(spec.k, dtype=np.int32)),
        "lowest": (("lowest",), np.arange(spec.sizes["lowest"], dtype=np.int32)),
        "split": (("split",), np.array(SPLITS, dtype=object)),
        "label": (("label",), classes),
        "pred": (("pred",), classes),
        "other": (("other",), classes),
        "sign": (("sign",), np.array(SIGNS, dtype=np.int8)),
        "block": (("block",), np.array(layer_names(spec.identity.get("parameters", ())), dtype=object)),
        "block_mode": (("block_mode",), np.arange(spec.sizes["block_mode"], dtype=np.int32)),
        "mu": (("mu",), np.array(density_grid(), dtype=np.float64)),
        "seed": (("run",), np.array([run.seed for run in spec.runs], dtype=np.int64)),
        "direction": (("run",), np.array([run.direction for run in spec.runs], dtype=object)),
        **{name: (("param",), values) for name, values in parameter_coordinates(spec.parameters).items()},
        "buffer": (("statistic",), statistic_names(spec.identity.get("statistics", ()))),
    }
    return {name: known[name] for name in coordinate_names(spec.identity) if name not in REFERENCES}
