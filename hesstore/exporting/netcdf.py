"""A store as a netCDF-4 file: the same variables, labels and attributes, for programs that read HDF5.

The file is a finished copy, never the store itself, because a live HDF5 file does not survive a kill. Grid points that
are not complete keep their place on the grid, and ``status`` marks them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.custom_code import calls_back
from hesstore.dataset.point_selection import chosen_l2, chosen_runs
from hesstore.errors import ExportError
from hesstore.exporting.netcdf_writer import digest_texts, import_h5netcdf, write_netcdf
from hesstore.exporting.output_folder import check_room
from hesstore.exporting.snapshot import Snapshot
from hesstore.store import open as open_store
from hesstore.store.places.location import expand_home
from hesstore.store.reading import check_dataset
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

_LEAST_SHARE = 0.6
"""A lower limit of the size of compressed values, relative to their uncompressed size."""
_GZIP = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
_COMPARED = ("status", "digest", "entries_digest")
"""Variables that show whether two files of the same config have the same contents."""


@calls_back("progress")
def export_netcdf(
    store: xr.Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    runs: Sequence[int] | None = None,
    l2: Sequence[float] | None = None,
    vectors: bool = True,
    force: bool = False,
    compress: str | None = None,
    split_runs: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, ...]:
    """Write a store as a netCDF-4 file, which appears complete or not at all; memory holds one grid point at a time.

    Each eigenvector is one chunk, and so is each other large array at a grid point. All numbers have a checksum
    (Fletcher-32), so that damage is noticed when they are read. A sweep may be running on the store: the file contains
    the results that the status promised at the beginning of the export.

    Parameters
    ----------
    store : Dataset, path or URL
        An open store, or its location.
    out : path
        The file, ``NAME.nc``; missing folders are created.
    runs, l2 : sequences, optional
        The run IDs and λ to export; all by default.
    vectors : bool
        Whether to include eigenvectors, gradients, weights, and the labels of the parameters. Without them, the file
        is always compressed.
    force : bool
        Whether to replace an existing file.
    compress : str, optional
        ``gz``: zlib, which every HDF5 library reads.
    split_runs : bool
        Whether to write one file per run, ``NAME-ID.nc``.
    progress : callable, optional
        Called with (bytes written, bytes in total), both before compression.

    Returns
    -------
    tuple of Path
        The files that were written, without those that existed already with the same contents.

    Raises
    ------
    ExportError
        Before anything is written: if the store does not have a chosen run or λ, another file is in the way, there is
        not enough space, or a package is missing.
    CorruptStoreError
        If a result that the status promises is missing or damaged; no file is written then.
    """
    if compress not in {None, "gz"}:
        raise ExportError(f"compress: {compress!r} is not gz, the only method that every netCDF library reads")
    import_h5netcdf()
    file = expand_home(out)
    if file.suffix != ".nc":
        raise ExportError(f"{file}: is not the name of a netCDF file: give one that ends in .nc")
    ds = check_dataset(store) if isinstance(store, xr.Dataset) else open_store(store, chunked=False, check=True)
    chosen = ds.sel(run=chosen_runs(ds, runs)).isel({axis_of(ds): chosen_l2(ds, l2)})
    snapshot = Snapshot.take(chosen if vectors else chosen.drop_dims("param", errors="ignore"))
    parts = {file: snapshot}
    if split_runs:
        ids = snapshot.ds["run"].values.tolist()
        parts = {file.with_name(f"{file.stem}-{run}.nc"): snapshot.of_run(run) for run in ids}
    parts = {path: part for path, part in parts.items() if force or not _exists(path, part.ds)}
    compression: dict[str, Any] = _GZIP if compress is not None or not vectors else {}
    total = sum(part.nbytes() for part in parts.values())
    check_room(_nearest_folder(file.parent), total * (_LEAST_SHARE if compression else 1))
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    for path, part in parts.items():
        write_netcdf(path, part, compression, report)
    return tuple(parts)


def _nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest of its parents that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())


def _exported(ds: xr.Dataset, name: str) -> xr.Variable:
    """A variable as the file has it."""
    variable = ds.variables[name]
    return digest_texts(variable) if variable.dtype == np.uint64 else variable


def _exists(path: Path, ds: xr.Dataset) -> bool:
    """Whether the file exists with the contents of ``ds``; raises :class:`ExportError` if it has other contents."""
    if not path.exists():
        return False
    if path.is_dir():
        raise ExportError(f"{path}: is a folder: give a file with -o")
    compared = ("run", axis_of(ds), *_COMPARED)
    try:
        with xr.open_dataset(path, engine="h5netcdf") as existing:
            is_same = (
                existing.attrs.get("fingerprint") == ds.attrs.get("fingerprint")
                and existing.variables.keys() == ds.variables.keys()
                and existing.sizes == ds.sizes
                and all(np.array_equal(existing[name], _exported(ds, name)) for name in compared if name in ds)
            )
    except (OSError, RuntimeError, ValueError, KeyError):
        is_same = False
    if not is_same:
        raise ExportError(
            f"{path}: exists already, with other contents: pass --force to replace it, or -o for another file"
        )
    return True
