"""A store as one page for a browser, which needs no network.

::

    from hesstore.report import report

    report("run.zarr", Path("report.html"))
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import xarray as xr

from hesstore.analysis.selection import run_position
from hesstore.files import write_file
from hesstore.report.page import page
from hesstore.store import open as open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hesstore.store.places.location import Location

__all__ = ["page", "report"]


def report(
    source: xr.Dataset | Location,
    path: Path,
    *,
    runs: Sequence[int] | None = None,
    title: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a page about a store to ``path``: it appears whole or not at all.

    Parameters
    ----------
    source : Dataset, path, ``file://`` URL or ``s3://`` URL
        The store.
    path : Path
        The file, replaced if it is there.
    runs : sequence of int, optional
        IDs of the runs that the page has; by default all.
    title : str, optional
        By default the store's name.
    progress : callable, optional
        Is told (λ read, all λ).

    Raises
    ------
    AnalysisError
        If plotly is not installed, a run is not there, or no λ is complete.
    """
    if isinstance(source, xr.Dataset):
        ds, name = source, "A sweep of hesstore"
    else:
        ds, name = open_store(source, chunked=False), PurePosixPath(str(source)).name
    if runs is not None:
        ds = ds.isel(run=[run_position(ds, run) for run in dict.fromkeys(runs)])
    write_file(path, page(ds, title or name, progress).encode())
