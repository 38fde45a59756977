"""Tidy tables: a row an observation, named columns, as CSV or Parquet.

Each kind is one table: the variables of the store that have the same dimensions, and a column a dimension.
Eigenvectors, gradients and weights have a file a λ in a folder of their own; together they are one table, which most
readers take by the pattern ``eigenvectors/*.parquet``.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hesstore.dataset.point_selection import read
from hesstore.exporting.compression import opened, suffix
from hesstore.exporting.file_names import l2_texts
from hesstore.exporting.output_folder import File
from hesstore.store.schema import BY_NAME, VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.dataset.point_selection import Cell, PointSelection

TABLES: dict[str, tuple[str, ...]] = {
    "strengths": (),
    "splits": ("split",),
    "classes": ("split", "label"),
    "confusion": ("split", "label", "pred"),
    "eigenvalues": ("mode",),
    "class_directions": ("mode", "split", "label"),
    "steps": ("mode", "sign"),
    "class_responses": ("mode", "sign", "label"),
    "class_cosines": ("split", "label", "other"),
    "density": ("mu",),
}
"""Small tables: the dimensions of their variables after run and l2."""

LARGE = {"eigenvectors": "eigenvectors", "gradients": "gradient", "weights": "weights"}
"""Tables of a value a parameter, each of one variable."""

TIDY_KINDS = (*TABLES, *LARGE)
FORMATS = ("csv", "parquet")

_COLUMNS = {"eigenvalues": "eigenvalue"}
_SAME_EVERYWHERE = frozenset({"status", "failure"})
"""Variables without information in the tables, which contain only complete grid points."""
_FLAGS = frozenset({"converged"})
_LABELS = ("layer", "kind", "out_index", "in_index")
_BYTES = {"csv": 12.0, "parquet": 5.0}  # a number takes
_BYTES_A_PARAMETER = {"csv": 40.0, "parquet": 4.0}


def tidy_files(selection: PointSelection, kinds: Sequence[str], format: str, compress: str | None) -> Iterator[File]:  # noqa: A002
    """The files of the ``kinds`` that are asked for, in a format of :data:`FORMATS`."""
    ending = f".{format}{suffix(compress)}"
    for kind in (kind for kind in TABLES if kind in kinds):
        names = [name for name in _variables(TABLES[kind]) if name in selection.ds]
        if names:
            rows = len(selection.cells) * np.prod([selection.ds.sizes[dim] for dim in TABLES[kind]])
            yield File(
                name=f"{kind}{ending}",
                kind=kind,
                source=selection.source(selection.cells),
                estimate=float(rows * len(names) * _BYTES[format]),
                write=partial(_write_small, selection, TABLES[kind], names, format, compress),
            )
    texts = l2_texts(selection.ds["l2"].values)
    for kind in (kind for kind in LARGE if kind in kinds):
        for cell in selection.having(kind):
            size = selection.array(LARGE[kind], cell).size
            yield File(
                name=f"{kind}/{kind}-{cell[0]}-{texts[cell[1]]}{ending}",
                kind=kind,
                source=selection.source([cell]),
                estimate=size * _BYTES_A_PARAMETER[format],
                write=partial(_write_large, selection, LARGE[kind], cell, format, compress),
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
    _put(small_table(selection, dims, names), path, format, compress)


def small_table(selection: PointSelection, dims: tuple[str, ...], names: Sequence[str]) -> pl.DataFrame:
    """Run, λ, ``dims`` and the variables ``names``, a row each; what is not there is null."""
    ds, cells = selection.ds, selection.cells
    runs = np.array([run for run, _ in cells], np.int32)
    grid = ds["l2"].values[[index for _, index in cells]]
    shape = tuple(ds.sizes[dim] for dim in dims)
    each = int(np.prod(shape, dtype=np.int64))
    columns: dict[str, pl.Series] = {"run": pl.Series(np.repeat(runs, each)), "l2": pl.Series(np.repeat(grid, each))}
    if not dims:
        seeds, directions = (
            dict(zip(ds["run"].values, ds[name].values, strict=True)) for name in ("seed", "direction")
        )
        columns["seed"] = pl.Series([int(seeds[run]) for run in runs])
        columns["direction"] = pl.Series([str(directions[run]) for run in runs])
    places = np.indices(shape).reshape(len(dims), each)
    for dim, place in zip(dims, places, strict=True):
        columns[dim] = pl.Series(np.tile(_labels(ds, dim)[place], len(cells)))
    for name in names:
        columns[_COLUMNS.get(name, name)] = _column(name, _values(selection, name))
    return pl.DataFrame(columns)


def _labels(ds: xr.Dataset, dim: str) -> NDArray[np.generic]:
    return np.array([str(label) for label in ds[dim].values]) if dim == "split" else ds[dim].values


def _values(selection: PointSelection, name: str) -> NDArray[np.generic]:
    """(cells · …,) a variable at all chosen λ, read run by run."""
    parts = []
    for run, group in itertools.groupby(selection.cells, key=lambda cell: cell[0]):
        indices = [index for _, index in group]
        parts.append(read(selection.ds[name].sel(run=run)[indices], gaps=selection.is_import).reshape(-1))
    return np.concatenate(parts)


def _column(name: str, values: NDArray[np.generic]) -> pl.Series:
    series = pl.Series(values)
    if series.dtype.is_float():
        return series.fill_nan(None)
    known = series.replace(-1, None) if BY_NAME[name].fill == -1 else series
    return known.cast(pl.Boolean) if name in _FLAGS else known


# -- a value a parameter ----------------------------------------------------------------------------------


def _write_large(
    selection: PointSelection,
    name: str,
    cell: Cell,
    format: str,  # noqa: A002
    compress: str | None,
    path: Path,
) -> None:
    parts = large_parts(selection, name, cell)
    if format == "parquet":
        pl.concat([part.lazy() for part in parts]).sink_parquet(
            path, compression="zstd", row_group_size=selection.ds.sizes["param"]
        )
        return
    with opened(path, compress) as file:
        for number, part in enumerate(parts):
            part.write_csv(file, include_header=number == 0)


def large_parts(selection: PointSelection, name: str, cell: Cell) -> Iterator[pl.DataFrame]:
    """One λ of a variable over the parameters: run, λ, perhaps mode, the parameters' labels, and the value."""
    ds, array = selection.ds, selection.array(name, cell)
    run, index = cell
    labels = pl.DataFrame({label: _parameter_label(ds, label) for label in _LABELS})
    known: dict[str, pl.Expr] = {
        "run": pl.lit(run, pl.Int32),
        "l2": pl.lit(float(ds["l2"].values[index]), pl.Float64),
    }
    modes = [int(mode) for mode in ds["mode"].values] if "mode" in array.dims else []
    for position in range(len(modes) or 1):
        if modes:
            known["mode"] = pl.lit(modes[position], pl.Int32)
        value = pl.Series(read(array[position] if modes else array)).fill_nan(None)
        yield labels.with_columns(**known, value=value).select(*known, *_LABELS, "value")


def _parameter_label(ds: xr.Dataset, label: str) -> pl.Series:
    values = ds[label].values
    if label not in {"layer", "kind"}:
        return pl.Series(values)
    texts = [str(value) for value in values]
    return pl.Series(texts, dtype=pl.Enum(list(dict.fromkeys(texts))))


def _put(table: pl.DataFrame, path: Path, format: str, compress: str | None) -> None:  # noqa: A002
    if format == "parquet":
        table.write_parquet(path, compression="zstd")
        return
    with opened(path, compress) as file:
        table.write_csv(file)
