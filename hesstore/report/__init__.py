"""The report: one HTML page about a store, which needs no network.

It imports ``plots``, ``dataset``, ``analysis``, ``store`` and lower layers; it needs no torch.

::

    from hesstore.report import report

    report("run.zarr", Path("report.html"))
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import xarray as xr

from hesstore.analysis.selection import run_position
from hesstore.custom_code import calls_back
from hesstore.durable_files import encode_text, write_file
from hesstore.report.html_page import page
from hesstore.store import open as open_store
from hesstore.store.reading import check_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hesstore.store.places.location import Location

__all__ = ["page", "report"]


@calls_back("progress")
def report(
    source: xr.Dataset | Location,
    path: Path,
    *,
    runs: Sequence[int] | None = None,
    title: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    overlap: bool = True,
) -> None:
    """Write a page about a store to ``path``; the file appears complete or not at all.

    Parameters
    ----------
    source : Dataset, path, ``file://`` URL or ``s3://`` URL
        The store.
    path : Path
        The file; an existing file is replaced.
    runs : sequence of int, optional
        IDs of the runs that the page shows; by default all.
    title : str, optional
        Title of the page; by default the name of the store.
    progress : callable, optional
        Called with (grid points read, all grid points); with the overlap maps, each grid point counts twice.
    overlap : bool
        Whether the page has a map of the overlap of the top spans, for which eigenvectors are read.

    Raises
    ------
    AnalysisError
        If plotly is not installed, a run does not exist, or no grid point is complete.
    CorruptStoreError
        If a result is missing or damaged.
    """
    if isinstance(source, xr.Dataset):
        ds, name = check_dataset(source), "hesstore sweep"
    else:
        ds, name = open_store(source, chunked=False, check=True), PurePosixPath(str(source)).name
    if runs is not None:
        ds = ds.isel(run=[run_position(ds, run) for run in dict.fromkeys(runs)])
    write_file(path, encode_text(page(ds, title or name, progress, overlap=overlap)))
