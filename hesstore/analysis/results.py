"""The results of a store as users look at them: a Dataset without book-keeping, and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis.selection import require_variables
from hesstore.store.schema import BY_NAME, Status, axis_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

_NOT_IN_TABLES = frozenset({"status", "failure"})
"""Variables that the table has in a column of its own, or not at all."""


def results(ds: xr.Dataset) -> xr.Dataset:
    """Return a store without book-keeping, at the λ at which a run has a complete grid point.

    Nothing is read but the status. Where a run has no results at a λ, floating-point values are NaN, and counts are −1.

    Parameters
    ----------
    ds : Dataset
        A store.

    Returns
    -------
    Dataset
        The variables of ``ds`` without digests and messages of the solver.

    Raises
    ------
    AnalysisError
        If ``ds`` has no status.
    """
    require_variables(ds, "status")
    bookkeeping = [name for name in ds.data_vars if name in BY_NAME and BY_NAME[str(name)].is_bookkeeping]
    is_complete = (ds["status"].transpose("run", axis_of(ds)).values == Status.COMPLETE).any(axis=0)
    return ds.drop_vars(bookkeeping).isel({axis_of(ds): np.flatnonzero(is_complete)})


def table(ds: xr.Dataset) -> pd.DataFrame:
    """Return a table with one row for each run and λ, and a column for each number that a grid point has.

    Quantities of a split have two columns, such as ``loss_train`` and ``loss_test``. Of eigenvalues the table has the
    first one, and the lowest one. Values of grid points that are not complete are missing. Several stores in one
    Dataset have a column ``store`` too.

    Parameters
    ----------
    ds : Dataset
        A store.

    Returns
    -------
    pandas.DataFrame
        With the columns run, seed, direction, l2 (or the other name of the grid) and status first.

    Raises
    ------
    AnalysisError
        If ``ds`` has no status.

    Examples
    --------
    >>> import hesstore
    >>> ds = hesstore.open("quickstart.zarr")  # doctest: +SKIP
    >>> ds.hess.table().groupby("l2")["accuracy_test"].mean()  # doctest: +SKIP
    """
    import pandas as pd  # noqa: PLC0415 - xarray has it already; other analyses do not need it

    require_variables(ds, "status")
    status = ds["status"].transpose("run", axis_of(ds)).values
    runs, count = ds.sizes["run"], ds.sizes[axis_of(ds)]
    columns: dict[str, Any] = {}
    for name in ("store", "store_run", "run", "seed", "direction"):
        if name in ds.coords:
            columns[name] = np.repeat(ds[name].values, count)
    columns[axis_of(ds)] = np.tile(ds[axis_of(ds)].values, runs)
    columns["status"] = [Status(value).name.lower() for value in status.ravel()]
    is_missing = status.ravel() != Status.COMPLETE
    for name, values in _columns(ds):
        is_float = np.issubdtype(values.dtype, np.floating)
        column = pd.Series(values.ravel() if is_float else values.ravel().astype(np.float64))
        column[is_missing] = np.nan
        columns[name] = column if is_float else column.astype("Int64")
    return pd.DataFrame(columns)


def _columns(ds: xr.Dataset) -> list[tuple[str, NDArray[np.generic]]]:
    """Return the names and the values, (run, λ), of the columns of numbers."""
    found = []
    for name, array in ds.data_vars.items():
        variable = BY_NAME.get(str(name))
        if variable is None or variable.is_bookkeeping or name in _NOT_IN_TABLES or variable.dtype == "string":
            continue
        further = [dim for dim in array.dims if dim not in {"run", axis_of(ds)}]
        if not further:
            found.append((str(name), array.transpose("run", axis_of(ds)).values))
        elif further == ["split"]:
            splits = {str(split): array.sel(split=split).transpose("run", axis_of(ds)) for split in ds["split"].values}
            found += [(f"{name}_{split}", part.values) for split, part in splits.items()]
        elif name in {"eigenvalues", "lowest_eigenvalues"} and array.sizes[further[0]]:
            first = array.isel({further[0]: 0}).transpose("run", axis_of(ds)).values
            found.append((str(name).removesuffix("s") if name != "eigenvalues" else "first_eigenvalue", first))
    return found
