"""Tidy tables as CSV or Parquet: one row per observation, with named columns.

Each kind is one table: it contains the variables that have the same dimensions, and one column per dimension.
Eigenvectors, gradients and weights each have a folder with one file per grid point. Together these files form one
table, which most readers open with a pattern such as ``eigenvectors/*.parquet``.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hesstore.dataset.point_selection import read
from hesstore.exporting.compression import open_for_writing, suffix
from hesstore.exporting.file_names import value_texts
from hesstore.exporting.output_folder import File
from hesstore.store.schema import BY_NAME, VARIABLES, axis_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.dataset.point_selection import PointSelection
    from hesstore.store.schema import Point

TABLES: dict[str, tuple[str, ...]] = {
    "strengths": (),
    "splits": ("split",),
    "classes": ("split", "label"),
    "confusion": ("split", "label", "pred"),
    "eigenvalues": ("mode",),
    "lowest_eigenvalues": ("lowest",),
    "class_directions": ("mode", "split", "label"),
    "steps": ("mode", "sign"),
    "class_responses": ("mode", "sign", "label"),
    "class_cosines": ("split", "label", "other"),
    "density": ("mu",),
    "blocks": ("block",),
    "block_eigenvalues": ("block", "block_mode"),
}
"""Small tables: the dimensions of their variables in addition to run and λ."""

LARGE = {
    "eigenvectors": "eigenvectors",
    "lowest_eigenvectors": "lowest_eigenvectors",
    "gradients": "gradient",
    "weights": "weights",
}
"""Tables with one value per parameter, each with one variable."""

KINDS = (*TABLES, *LARGE)

_COLUMNS = {
    "eigenvalues": "eigenvalue",
    "lowest_eigenvalues": "eigenvalue",
    "block_eigenvalues": "eigenvalue",
    "block_residual_norm": "residual_norm",
    "lowest_residual_norm": "residual_norm",
    "lowest_converged": "converged",
}
"""The names of columns that differ from those of their variables."""
_SAME_EVERYWHERE = frozenset({"status", "failure"})
"""Variables without information in the tables, which contain only complete grid points."""
_FLAGS = frozenset({"converged", "lowest_converged"})
_LABELS = ("layer", "kind", "out_index", "in_index")
_BYTES_PER_NUMBER = {"csv": 12.0, "parquet": 5.0}
_BYTES_PER_PARAMETER = {"csv": 40.0, "parquet": 4.0}


def tidy_files(selection: PointSelection, kinds: Sequence[str], format: str, compress: str | None) -> Iterator[File]:  # noqa: A002
    """The files of the given ``kinds``, which are some of :data:`KINDS`, as ``csv`` or ``parquet``."""
    ending = f".{format}{suffix(compress)}"
    for kind in (kind for kind in TABLES if kind in kinds):
        names = [name for name in _variables(TABLES[kind]) if name in selection.ds]
        if names:
            rows = len(selection.points) * np.prod([selection.ds.sizes[dim] for dim in TABLES[kind]])
            yield File(
                name=f"{kind}{ending}",
                kind=kind,
                source=selection.source(selection.points),
                estimate=float(rows * len(names) * _BYTES_PER_NUMBER[format]),
                write=partial(_write_small, selection, TABLES[kind], names, format, compress),
            )
    texts = value_texts(selection.ds[axis_of(selection.ds)])
    for kind in (kind for kind in LARGE if kind in kinds and LARGE[kind] in selection.ds):
        for point in selection.points_with(kind):
            size = selection.array(LARGE[kind], point).size
            yield File(
                name=f"{kind}/{kind}-{point.run.id}-{texts[point.index]}{ending}",
                kind=kind,
                source=selection.source([point]),
                estimate=size * _BYTES_PER_PARAMETER[format],
                write=partial(_write_large, selection, LARGE[kind], point, format, compress),
            )


def _variables(dims: tuple[str, ...]) -> list[str]:
    of_table = [each for each in VARIABLES if each.dims[2:] == dims and not each.is_bookkeeping]
    return [each.name for each in of_table if each.name not in _SAME_EVERYWHERE]


# -- small tables -----------------------------------------------------------------------------------------


def _write_small(
    selection: PointSelection,
    dims: tuple[str, ...],
    names: list[str],
    format: str,  # noqa: A002
    compress: str | None,
    path: Path,
) -> None:
    table = _small_table(selection, dims, names)
    if format == "parquet":
        with path.open("wb") as file:  # polars takes no path that is not text
            table.write_parquet(file, compression="zstd")
        return
    with open_for_writing(path, compress) as file:
        table.write_csv(file)


def _small_table(selection: PointSelection, dims: tuple[str, ...], names: Sequence[str]) -> pl.DataFrame:
    """A table with the columns run, λ, ``dims`` and the variables ``names``; missing values are null."""
    ds, points = selection.ds, selection.points
    runs = np.array([point.run.id for point in points], np.int32)
    axis = axis_of(ds)
    values = ds[axis].values[[point.index for point in points]]
    shape = tuple(ds.sizes[dim] for dim in dims)
    each = int(np.prod(shape, dtype=np.int64))
    columns: dict[str, pl.Series] = {"run": pl.Series(np.repeat(runs, each)), axis: pl.Series(np.repeat(values, each))}
    if not dims:
        seeds, directions = (
            dict(zip(ds["run"].values, ds[name].values, strict=True)) for name in ("seed", "direction")
        )
        columns["seed"] = pl.Series([int(seeds[run]) for run in runs])
        columns["direction"] = pl.Series([str(directions[run]) for run in runs])
    places = np.indices(shape).reshape(len(dims), each)
    for dim, place in zip(dims, places, strict=True):
        columns[dim] = pl.Series(np.tile(_labels(ds, dim)[place], len(points)))
    for name in names:
        columns[_COLUMNS.get(name, name)] = _column(name, _values(selection, name))
    return pl.DataFrame(columns)


def _labels(ds: xr.Dataset, dim: str) -> NDArray[np.generic]:
    return np.array([str(label) for label in ds[dim].values]) if dim in {"split", "block"} else ds[dim].values


def _values(selection: PointSelection, name: str) -> NDArray[np.generic]:
    """(points · …,) the values of one variable at all selected grid points, read run by run."""
    parts = []
    for run, group in itertools.groupby(selection.points, key=lambda point: point.run.id):
        indices = [point.index for point in group]
        parts.append(read(selection.ds[name].sel(run=run)[indices], gaps=selection.is_import).reshape(-1))
    return np.concatenate(parts)


def _column(name: str, values: NDArray[np.generic]) -> pl.Series:
    series = pl.Series(values)
    if series.dtype.is_float():
        return series.fill_nan(None)
    known = series.replace(-1, None) if BY_NAME[name].fill == -1 else series
    return known.cast(pl.Boolean) if name in _FLAGS else known


# -- one value per parameter ----------------------------------------------------------------------------------


def _write_large(
    selection: PointSelection,
    name: str,
    point: Point,
    format: str,  # noqa: A002
    compress: str | None,
    path: Path,
) -> None:
    parts = _large_parts(selection, name, point)
    if format == "parquet":
        with path.open("wb") as file:
            pl.concat([part.lazy() for part in parts]).sink_parquet(
                file, compression="zstd", row_group_size=selection.ds.sizes["param"]
            )
        return
    with open_for_writing(path, compress) as file:
        for number, part in enumerate(parts):
            part.write_csv(file, include_header=number == 0)


def _large_parts(selection: PointSelection, name: str, point: Point) -> Iterator[pl.DataFrame]:
    """One variable at one grid point, in tables of P rows: run, λ, number of the vector, labels of parameters, value.

    The number of the vector is left out for variables with a single one.
    """
    ds, array = selection.ds, selection.array(name, point)
    labels = pl.DataFrame({label: _parameter_label(ds, label) for label in _LABELS})
    known: dict[str, pl.Expr] = {
        "run": pl.lit(point.run.id, pl.Int32),
        point.axis: pl.lit(point.value, pl.Float64),
    }
    dim = next((str(dim) for dim in array.dims if dim != "param"), "")
    modes = [int(mode) for mode in ds[dim].values] if dim else []
    rows: Iterable[NDArray[np.generic]]
    if modes:
        rows = (block[0] for block in selection.blocks(name, point, 1))
    else:
        rows = [selection.weights(point)] if name == "weights" else selection.blocks(name, point, len(array))
    for position, row in enumerate(rows):
        if modes:
            known[dim] = pl.lit(modes[position], pl.Int32)
        value = pl.Series(row).fill_nan(None)
        yield labels.with_columns(**known, value=value).select(*known, *_LABELS, "value")


def _parameter_label(ds: xr.Dataset, label: str) -> pl.Series:
    values = ds[label].values
    if label not in {"layer", "kind"}:
        return pl.Series(values)
    texts = [str(value) for value in values]
    return pl.Series(texts, dtype=pl.Enum(list(dict.fromkeys(texts))))
