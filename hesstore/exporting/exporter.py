"""``hesstore.export``: one function for all formats."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.config.suggestions import did_you_mean
from hesstore.dataset.point_selection import PointSelection
from hesstore.errors import ExportError, ModelWarning
from hesstore.exporting import checkpoints, classic, tidy_tables
from hesstore.exporting.compression import check_method
from hesstore.exporting.manifest import Manifest, header_of
from hesstore.exporting.netcdf import export_netcdf
from hesstore.exporting.output_folder import File, write_files
from hesstore.exporting.zip_archive import pack
from hesstore.store import open as open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

FORMATS = ("csv", "parquet", "pth", "safetensors", "netcdf", "zip")
STYLES = ("classic", "tidy")
FOLDERS = {"csv": "test_data", "parquet": "tables", "pth": "weights", "safetensors": "weights"}
"""Where files go by default."""

FILES = {"netcdf": ".nc", "zip": ".zarr.zip"}
"""Formats that put all into one file, and what its name ends in."""


@dataclass(frozen=True)
class ExportSummary:
    """What an export did.

    Attributes
    ----------
    path : Path
        The folder, or the file.
    files, bytes : int
        Files that were written, and their bytes.
    present : int
        Files that were there already, complete.
    skipped : tuple of (int, float)
        Run ID and λ, of those asked for, that are not complete and so have no files.
    """

    path: Path
    files: int
    bytes: int
    present: int
    skipped: tuple[tuple[int, float], ...] = ()


def export(
    store: xr.Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "csv",  # noqa: A002 - what it is called on the command line
    style: str = "classic",
    l2: Sequence[float] | None = None,
    runs: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    compress: str | None = None,
    vectors: bool = True,
    split_runs: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ExportSummary:
    """Write files of all complete λ of a store, or of those chosen; each file appears whole or not at all.

    Files that are there already and complete are left alone: the manifest beside them, or what is in them, says so.

    Parameters
    ----------
    store : Dataset or path
        An open store or where it is. A ``zip`` is made from where it is.
    out : path, optional
        Folder of the files, or the file; by default one of :data:`FOLDERS`, or the store's name with another ending.
    format : str
        ``csv``; ``parquet``; ``pth`` or ``safetensors`` (weights alone); ``netcdf``: one file, netCDF-4/HDF5;
        ``zip``: the store itself in one file.
    style : str
        Of CSV: ``classic``, the files of the field's scripts, or ``tidy``, a table a kind. Parquet is always tidy.
    l2, runs : sequences, optional
        The λ and run IDs to export; all by default.
    only : sequence of str, optional
        Some of the kinds of file that the format has, see :func:`kinds_of`.
    compress : str, optional
        ``gz`` or ``zst``, for text; ``gz`` for netCDF.
    vectors : bool
        Whether eigenvectors, gradients and weights are exported.
    split_runs : bool
        Whether netCDF makes a file a run.
    force : bool
        Whether all files are written anew, over any that are there.
    progress : callable, optional
        Called with (bytes written, bytes expected in all).

    Raises
    ------
    ExportError
        Before anything is written: for an unknown value or a combination that means nothing, if a λ, run or kind is
        not there, nothing is complete, a file of another origin is in the way, or there is no room.
    CorruptStoreError
        If what is to be exported is damaged.
    """
    _check(store, format, style, only, compress, l2=l2, runs=runs, vectors=vectors)
    if split_runs and format != "netcdf":
        raise ExportError(f"split_runs: {format} files are a run each, or a store: it is for netcdf")
    if format == "zip":
        return _packed(store, out, vectors=vectors, force=force, progress=progress)
    ds = store if isinstance(store, xr.Dataset) else open_store(store, chunked=False)
    selection = PointSelection.of(ds, runs, l2)
    if format == "netcdf":
        path = Path(out).expanduser() if out else _beside(store, ds, format)
        written = export_netcdf(
            ds,
            path,
            runs=runs,
            l2=l2,
            vectors=vectors,
            split_runs=split_runs,
            force=force,
            compress=compress,
            progress=progress,
        )
        return _of_files(path.parent if split_runs else path, written, selection.skipped)
    kinds = [
        kind
        for kind in (only or kinds_of(format, style))
        if vectors or kind not in {"eigenvectors", "gradients", "weights"}
    ]
    kind_of_folder = "parquet" if (format, style) == ("csv", "tidy") else format
    folder = Path(out or FOLDERS[kind_of_folder]).expanduser()
    files = list(_files(selection, format, style, kinds, compress))
    if not files:
        raise ExportError("there is nothing to export: the chosen λ have no such files")
    if "weights" in kinds:
        _warn_of_buffers(json.loads(ds.attrs["identity"]).get("buffers", []))
    done = write_files(folder, files, Manifest(folder, header_of(ds.attrs)), force=force, progress=progress)
    return ExportSummary(folder, done.files, done.bytes, done.present, selection.skipped)


def _warn_of_buffers(buffers: Sequence[Sequence[Any]]) -> None:
    if buffers:
        names = ", ".join(name for name, *_ in buffers)
        warnings.warn(
            f"the files of weights lack the network's buffers ({names}), which are constants: load_state_dict(…, "
            "strict=False) takes them into a module that its factory made, and so does hesstore.load_model",
            ModelWarning,
            stacklevel=3,
        )


def kinds_of(format: str, style: str = "classic") -> tuple[str, ...]:  # noqa: A002 - as above
    """The kinds of file that a format has; none for those that put all into one."""
    if format in checkpoints.FORMATS:
        return ("weights",)
    if format in FILES:
        return ()
    return classic.KINDS if (format, style) == ("csv", "classic") else tidy_tables.TIDY_KINDS


def _check(
    store: object,
    format: str,  # noqa: A002
    style: str,
    only: Sequence[str] | None,
    compress: str | None,
    *,
    l2: Sequence[float] | None,
    runs: Sequence[int] | None,
    vectors: bool,
) -> None:
    for name, value, known in (("format", format, FORMATS), ("style", style, STYLES)):
        if value not in known:
            raise ExportError(f"{name}: {value!r} is not one of {', '.join(known)}{did_you_mean(value, known)}")
    kinds = kinds_of(format, style)
    if only is not None and not kinds:
        raise ExportError(f"only: a {format} file is of no kind: leave it out, or --no-vectors for a small file")
    if only is not None and not only:
        raise ExportError(f"only: is empty: name some of {', '.join(kinds)}")
    unknown = [kind for kind in only or () if kind not in kinds]
    if unknown:
        hint = did_you_mean(unknown[0], kinds)
        raise ExportError(f"only: {unknown[0]!r} is not one of {', '.join(kinds)}{hint}")
    check_method(compress)
    if compress and format not in {"csv", "netcdf"}:
        raise ExportError(f"compress: {format} files are not text: leave it out")
    if format in checkpoints.FORMATS and not vectors:
        raise ExportError(f"vectors: {format} files hold weights alone: nothing is left without them")
    if format == "zip" and (l2 is not None or runs):
        raise ExportError("zip: packs the whole store: leave out l2 and runs, or export to netcdf")
    if format == "zip" and isinstance(store, xr.Dataset):
        raise ExportError("zip: packs the store's own files: give its path, not a Dataset")


def _files(
    selection: PointSelection,
    format: str,  # noqa: A002
    style: str,
    kinds: Sequence[str],
    compress: str | None,
) -> Iterator[File]:
    if format in checkpoints.FORMATS:
        return checkpoints.weight_files(selection, format)
    if (format, style) == ("csv", "classic"):
        return classic.classic_files(selection, kinds, compress)
    return tidy_tables.tidy_files(selection, kinds, format, compress)


def _packed(
    store: Any,
    out: str | os.PathLike[str] | None,
    *,
    vectors: bool,
    force: bool,
    progress: Callable[[int, int], None],
) -> ExportSummary:
    path = Path(out).expanduser() if out else _beside(store, None, "zip")
    done = pack(store, path, vectors=vectors, force=force, progress=progress)
    return _of_files(path, () if done is None else (done,))


def _of_files(path: Path, written: Sequence[Path], skipped: tuple[tuple[int, float], ...] = ()) -> ExportSummary:
    return ExportSummary(path, len(written), sum(each.stat().st_size for each in written), int(not written), skipped)


def _beside(store: object, ds: xr.Dataset | None, format: str) -> Path:  # noqa: A002
    """In the working folder, by the store's name."""
    source = str(store) if ds is None or not isinstance(store, xr.Dataset) else str(ds.encoding.get("source", "store"))
    name = source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip").removesuffix(".zarr")
    return Path(f"{name}{FILES[format]}")
