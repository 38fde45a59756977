"""``hesstore.export``: one function for all formats."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.analysis.selection import analysing_advice, has_analyses
from hesstore.config.suggestions import did_you_mean
from hesstore.custom_code import calls_back
from hesstore.dataset.point_selection import PointSelection
from hesstore.errors import ExportError, ModelWarning
from hesstore.exporting import checkpoints, original_csv, tidy_tables
from hesstore.exporting.compression import check_method
from hesstore.exporting.manifest import Manifest, header_of
from hesstore.exporting.netcdf import export_netcdf
from hesstore.exporting.output_folder import File, write_files
from hesstore.exporting.zip_archive import pack
from hesstore.store import open as open_store
from hesstore.store.places.location import expand_home
from hesstore.store.reading import check_dataset

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

FORMATS = ("csv", "parquet", "pth", "safetensors", "netcdf", "zip", "hub")
STYLES = ("classic", "tidy")
FOLDERS = {"csv": "test_data", "parquet": "tables", "pth": "weights", "safetensors": "weights"}
"""Default folders."""

ENDINGS = {"netcdf": ".nc", "zip": ".zarr.zip"}
"""Formats that put everything into one file, and the endings of its name."""
WHOLE = ("zip", "hub")
"""Formats that contain the store itself."""

VECTOR_KINDS = frozenset(tidy_tables.LARGE)


@dataclass(frozen=True)
class ExportSummary:
    """The result of an export.

    Attributes
    ----------
    path : Path
        The folder, or the file.
    files, bytes : int
        Number of files that were written, and their total size.
    present : int
        Number of files that existed already and are up to date.
    skipped : tuple of (int, float)
        Run ID and λ of the chosen grid points that are not complete, and so are not exported.
    """

    path: Path
    files: int
    bytes: int
    present: int
    skipped: tuple[tuple[int, float], ...] = ()


@calls_back("progress")
def export(
    store: xr.Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "csv",  # noqa: A002 - the name of the option of the command
    style: str = "classic",
    l2: Sequence[float] | None = None,
    runs: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    compress: str | None = None,
    vectors: bool = True,
    split_runs: bool = False,
    reg_loss: str = "full",
    licence: str | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ExportSummary:
    """Write all complete grid points of a store, or some of them, as files; each appears complete or not at all.

    Files that exist already and are up to date are left alone; the manifest in the folder, or the contents of the
    file, show whether they are.

    Parameters
    ----------
    store : Dataset or path
        An open store, or its path or URL. The formats ``zip`` and ``hub`` need the path or URL.
    out : path, optional
        The folder or the file to write; by default, a folder in :data:`FOLDERS`, or a file with the name of the store
        and another ending.
    format : str
        ``csv``; ``parquet``; ``pth`` or ``safetensors`` (only weights); ``netcdf``: one netCDF-4/HDF5 file; ``zip``:
        the store itself in one file; ``hub``: a folder for a data set hub, with a card, a figure, Parquet tables,
        RO-Crate metadata and the store in one file.
    style : str
        Style of CSV files: ``classic`` for the files that the original scripts read, or ``tidy`` for tables. Parquet
        files are always tidy.
    l2, runs : sequences, optional
        The λ and run IDs to export; all by default.
    only : sequence of str, optional
        The kinds of file to write; see :func:`kinds_of`. All kinds by default.
    compress : str, optional
        ``gz`` or ``zst`` for text files; ``gz`` for netCDF.
    vectors : bool
        Whether to export eigenvectors, gradients and weights.
    split_runs : bool
        Whether to write one netCDF file per run.
    reg_loss : str
        What ``Train_Reg_Loss`` adds to ``Train_Loss`` in classic CSV files: ``full`` for λ‖θ‖², as in the published
        tables, or ``objective`` for the penalty of the objective, which is half of that with the penalty ``half``.
    licence : str, optional
        Identifier of the licence of the data, such as ``cc-by-4.0``, for the card of the format ``hub``.
    force : bool
        Whether to write all files again and overwrite existing ones.
    progress : callable, optional
        Called with (bytes written, bytes expected in total).

    Raises
    ------
    ExportError
        Before anything is written: if a value is unknown, a combination of options has no meaning, the store does not
        have a chosen λ, run or kind, no chosen grid point is complete, a file of another origin is in the way, or
        there is not enough space.
    CorruptStoreError
        If the results to export are damaged.
    """
    _check_kinds(format, style, only)
    _check_options(format, compress, l2=l2, runs=runs, vectors=vectors, split_runs=split_runs)
    if licence is not None and format != "hub":
        raise ExportError(f"licence: applies to hub only, not to {format}: leave it out")
    _check_reg_loss(format, style, only, reg_loss)
    if format in WHOLE and isinstance(store, xr.Dataset):
        raise ExportError(f"{format}: packs the files of a store: give its path, not a Dataset")
    if format == "zip":
        file = expand_home(out) if out else _default_file(str(store), format)
        packed = pack(store, file, vectors=vectors, force=force, progress=progress)
        return _file_summary(file, () if packed is None else (packed,))
    ds = check_dataset(store) if isinstance(store, xr.Dataset) else open_store(store, chunked=False, check=True)
    selection = PointSelection.of(ds, runs, l2)
    if format == "hub":
        return _export_hub(str(store), out, selection, vectors=vectors, licence=licence, force=force, progress=progress)
    if format == "netcdf":
        source = ds.encoding.get("source", "store") if isinstance(store, xr.Dataset) else store
        file = expand_home(out) if out else _default_file(str(source), format)
        written = export_netcdf(
            ds,
            file,
            runs=runs,
            l2=l2,
            vectors=vectors,
            split_runs=split_runs,
            force=force,
            compress=compress,
            progress=progress,
        )
        return _file_summary(file.parent if split_runs else file, written, selection.skipped)
    folder = expand_home(out or FOLDERS["parquet" if style == "tidy" and format == "csv" else format])
    kinds = [kind for kind in only or kinds_of(format, style) if vectors or kind not in VECTOR_KINDS]
    files = list(_files(selection, format, style, kinds, compress, reg_loss))
    return _write_folder(folder, selection, kinds, files, force=force, progress=progress)


def kinds_of(format: str, style: str = "classic") -> tuple[str, ...]:  # noqa: A002 - as in export
    """The kinds of file of a format; empty for the formats that contain everything."""
    if format in checkpoints.FORMATS:
        return ("weights",)
    if format in ENDINGS or format in WHOLE:
        return ()
    return original_csv.KINDS if (format, style) == ("csv", "classic") else tidy_tables.KINDS


def _export_hub(
    store: str,
    out: str | os.PathLike[str] | None,
    selection: PointSelection,
    *,
    vectors: bool,
    licence: str | None,
    force: bool,
    progress: Callable[[int, int], None],
) -> ExportSummary:
    from hesstore.exporting.hub import export_hub  # noqa: PLC0415 - matplotlib, for this format only

    name = _stem(store)
    folder = expand_home(out or f"{name}-hub")
    done = export_hub(store, folder, name, selection, vectors=vectors, licence=licence, force=force, progress=progress)
    return ExportSummary(folder, done.files, done.bytes, done.present, selection.skipped)


def _write_folder(
    folder: Path,
    selection: PointSelection,
    kinds: Sequence[str],
    files: Sequence[File],
    *,
    force: bool,
    progress: Callable[[int, int], None],
) -> ExportSummary:
    """Write the files of the given kinds, with a manifest."""
    ds = selection.ds
    if not files:
        lacks = "" if has_analyses(ds) else f"; the store was made without analyses (k = 0): {analysing_advice(ds)}"
        raise ExportError(
            f"there is nothing to export: the chosen grid points have no files of the chosen kinds{lacks}"
        )
    if "weights" in kinds:
        _warn_of_buffers(json.loads(ds.attrs["identity"]).get("buffers", []))
    done = write_files(folder, files, Manifest(folder, header_of(ds.attrs)), force=force, progress=progress)
    return ExportSummary(folder, done.files, done.bytes, done.present, selection.skipped)


def _warn_of_buffers(buffers: Sequence[Sequence[Any]]) -> None:
    names = ", ".join(name for name, _, _, *values in buffers if not values)
    if names:
        warnings.warn(
            f"the weight files lack the network's buffers ({names}), which are constants: load them with "
            "load_state_dict(…, strict=False) into a module from the factory, or use hesstore.load_model",
            ModelWarning,
            stacklevel=4,
        )


def _check_kinds(format: str, style: str, only: Sequence[str] | None) -> None:  # noqa: A002
    """Raise :class:`ExportError` for an unknown format, style or kind of file."""
    for name, value, known in (("format", format, FORMATS), ("style", style, STYLES)):
        if value not in known:
            raise ExportError(f"{name}: {value!r} is not one of {', '.join(known)}{did_you_mean(value, known)}")
    if only is None:
        return
    kinds = kinds_of(format, style)
    if not kinds:
        raise ExportError(
            f"only: {format} files have no kinds to choose from: leave it out, or pass --no-vectors for a small file"
        )
    if not only:
        raise ExportError(f"only: is empty: give some of {', '.join(kinds)}")
    unknown = [kind for kind in only if kind not in kinds]
    if unknown:
        hint = did_you_mean(unknown[0], kinds)
        raise ExportError(f"only: {unknown[0]!r} is not one of {', '.join(kinds)}{hint}")


def _check_options(
    format: str,  # noqa: A002
    compress: str | None,
    *,
    l2: Sequence[float] | None,
    runs: Sequence[int] | None,
    vectors: bool,
    split_runs: bool,
) -> None:
    """Raise :class:`ExportError` for options that have no meaning for the format."""
    check_method(compress)
    if compress and format not in {"csv", "netcdf"}:
        raise ExportError(f"compress: {format} files are not text: leave it out")
    if format in checkpoints.FORMATS and not vectors:
        raise ExportError(f"vectors: {format} files contain only weights: nothing would be left without them")
    if format in WHOLE and (l2 is not None or runs):
        raise ExportError(f"{format}: packs the whole store: leave out l2 and runs, or export to netcdf")
    if split_runs and format != "netcdf":
        raise ExportError(f"split_runs: applies to netcdf only, not to {format}: leave it out")


def _check_reg_loss(format: str, style: str, only: Sequence[str] | None, reg_loss: str) -> None:  # noqa: A002
    """Raise :class:`ExportError` for an unknown definition of ``Train_Reg_Loss``, or if no file has that column."""
    known = original_csv.REG_LOSSES
    if reg_loss not in known:
        raise ExportError(f"reg_loss: {reg_loss!r} is not one of {', '.join(known)}{did_you_mean(reg_loss, known)}")
    if reg_loss != "full" and ((format, style) != ("csv", "classic") or "accuracy" not in (only or ("accuracy",))):
        raise ExportError(
            f"reg_loss: {reg_loss} applies only to the tables of losses in classic CSV files: leave it out"
        )


def _files(
    selection: PointSelection,
    format: str,  # noqa: A002
    style: str,
    kinds: Sequence[str],
    compress: str | None,
    reg_loss: str,
) -> Iterator[File]:
    if format in checkpoints.FORMATS:
        return checkpoints.weight_files(selection, format)
    if (format, style) == ("csv", "classic"):
        return original_csv.classic_files(selection, kinds, compress, reg_loss)
    return tidy_tables.tidy_files(selection, kinds, format, compress)


def _file_summary(path: Path, written: Sequence[Path], skipped: tuple[tuple[int, float], ...] = ()) -> ExportSummary:
    return ExportSummary(path, len(written), sum(each.stat().st_size for each in written), int(not written), skipped)


def _default_file(source: str, format: str) -> Path:  # noqa: A002
    """A file in the working folder with the name of the store."""
    return Path(f"{_stem(source)}{ENDINGS[format]}")


def _stem(source: str) -> str:
    """The name of a store without its ending."""
    return source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip").removesuffix(".zarr")
