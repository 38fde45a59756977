"""A store as one netCDF-4 file: the same variables, labels and attributes, for whatever reads HDF5.

A finished copy to hand on, never the store itself: a live HDF5 file does not survive a kill. λ that are not complete
keep their place on the grid, and ``status`` says so.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.dataset.point_selection import chosen_l2, chosen_runs
from hesstore.errors import CorruptStoreError, ExportError
from hesstore.exporting.output_folder import check_room
from hesstore.files import remove_partial, whole_file
from hesstore.store import open as open_store
from hesstore.store.digest import digest
from hesstore.store.identity import identity_of
from hesstore.store.origin import origin_of
from hesstore.store.schema import BY_NAME, Run, Status, promised_large
from hesstore.store.variable import TEXT

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_COMPRESSED = 0.6
"""What compression leaves of the bytes at the least."""
_GZIP = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
_SAME = ("run", "l2", "status", "digest", "entries_digest")
"""What tells whether two files of one config have the same contents."""


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
    """Write a store as a netCDF-4 file, which appears whole or not at all; a λ at a time goes through memory.

    Each eigenvector is a chunk, and so are the other large arrays at each λ; numbers carry a checksum (Fletcher-32), so
    that damage is noticed when they are read. A sweep may be at work on the store: the file holds what ``status`` said
    at the beginning.

    Parameters
    ----------
    store : Dataset, path or URL
        An open store or where it is.
    out : path
        The file, ``NAME.nc``; missing folders are made.
    runs, l2 : sequences, optional
        The run IDs and λ to export; all by default.
    vectors : bool
        Whether eigenvectors, gradients, weights, and the labels of parameters are in it; else it is always compressed.
    force : bool
        Replace a file that is there.
    compress : str, optional
        ``gz``: zlib, which every HDF5 library reads.
    split_runs : bool
        A file a run, ``NAME-ID.nc``.
    progress : callable, optional
        Called with (bytes written, bytes in all), before they are compressed.

    Returns
    -------
    tuple of Path
        The files that were written; without those that were there already with the same contents.

    Raises
    ------
    ExportError
        Before anything is written: if a run or λ is not there, another file is in the way, there is no room, or a
        package is missing.
    CorruptStoreError
        If something that the store says is there is missing or damaged; there is no file then.
    """
    if compress not in {None, "gz"}:
        raise ExportError(f"compress: {compress!r} is not gz, the one that every netCDF library reads")
    _h5netcdf()
    file = Path(out).expanduser()
    if file.suffix != ".nc":
        raise ExportError(f"{file}: is not the name of a netCDF file: give one that ends in .nc")
    ds = store if isinstance(store, xr.Dataset) else open_store(store, chunked=False)
    chosen = ds.sel(run=chosen_runs(ds, runs)).isel(l2=chosen_l2(ds, l2))
    snapshot = _with_small_in_memory(chosen if vectors else chosen.drop_dims("param", errors="ignore"))
    parts = {file: _Part(snapshot)}
    if split_runs:
        ids = snapshot["run"].values.tolist()
        parts = {file.with_name(f"{file.stem}-{run}.nc"): _Part(snapshot.sel(run=[run])) for run in ids}
    parts = {path: part for path, part in parts.items() if force or not _is_there(path, part.ds)}
    total = sum(part.nbytes() for part in parts.values())
    is_compressed = compress is not None or not vectors
    check_room(_nearest(file.parent), total * (_COMPRESSED if is_compressed else 1))
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    for path, part in parts.items():
        _write_whole(path, part, _GZIP if is_compressed else {}, tell)
    return tuple(parts)


def _h5netcdf() -> Any:
    try:
        import_module("h5py")  # which it does not ask for by itself
        return import_module("h5netcdf")
    except ImportError:
        raise ExportError('netCDF needs h5netcdf: pip install "hesstore[files]"') from None


def _nearest(folder: Path) -> Path:
    """The folder, or of those that it is to lie in the first that is there."""
    return next(there for there in (folder, *folder.absolute().parents) if there.is_dir())


def _large(ds: xr.Dataset) -> list[str]:
    """The variables that are large in the schema."""
    known = {name: variable.dims for name, variable in BY_NAME.items() if variable.is_large}
    return [str(name) for name in ds.data_vars if known.get(str(name)) == ds.variables[name].dims]


def _with_small_in_memory(ds: xr.Dataset) -> xr.Dataset:
    """A Dataset whose small variables are read: the status first, so that it promises no more than is read then."""
    if "status" not in ds or ds["status"].dims != ("run", "l2"):
        raise ExportError("status is not there by run and l2: give a store, or the whole Dataset of one")
    ds, large = ds.copy(), set(_large(ds))
    for name in ("status", *ds.variables):
        if name not in large:
            with _naming(str(name)):
                ds.variables[name].load()
    return ds


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turn what reading a damaged chunk raises into an error that says what was read."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise CorruptStoreError(f"{what}: {' '.join(str(error).split())}") from error


def _is_there(path: Path, ds: xr.Dataset) -> bool:
    """Whether the file is there and has the contents of ``ds``; raises :class:`ExportError` if it has others."""
    if not path.exists():
        return False
    if path.is_dir():
        raise ExportError(f"{path}: is a folder: give a file with -o")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as there:
            is_same = (
                there.attrs.get("fingerprint") == ds.attrs.get("fingerprint")
                and there.variables.keys() == ds.variables.keys()
                and there.sizes == ds.sizes
                and all(np.array_equal(there[name], ds[name]) for name in _SAME if name in ds)
            )
    except (OSError, RuntimeError, ValueError, KeyError):
        is_same = False
    if not is_same:
        raise ExportError(
            f"{path}: is there already, with other contents: pass --force to replace it, or -o for another"
        )
    return True


@dataclass(frozen=True)
class _Part:
    """What becomes one file: a Dataset whose small variables are in memory, and whose large ones are in the store."""

    ds: xr.Dataset

    @cached_property
    def large(self) -> list[str]:
        """The variables that are copied λ by λ."""
        return _large(self.ds)

    @cached_property
    def small(self) -> xr.Dataset:
        """The others, and the coordinates."""
        return self.ds.drop_vars(self.large)

    def cells(self) -> Iterator[tuple[int, int, Status]]:
        """Place of the run, place of λ, and status of each λ of each run."""
        for (run, index), status in np.ndenumerate(self.ds["status"].values):
            with _naming(f"status {self.where(run, index)}"):
                yield run, index, Status(int(status))

    def where(self, run: int, index: int) -> str:
        """A λ in words."""
        return f"of run {self.ds['run'].values[run]} at λ = {self.ds['l2'].values[index]:.10g}"

    def promised(self, status: Status) -> tuple[str, ...]:
        """The large arrays that are in the store at a λ."""
        return promised_large(identity_of(self.ds.attrs), status)

    def nbytes(self) -> int:
        """Bytes of what is to be written."""
        size = {name: self.ds.variables[name][0, 0].nbytes for name in self.large}
        at = {status: sum(size.get(name, 0) for name in self.promised(status)) for status in Status}
        return self.small.nbytes + sum(at[status] for _, _, status in self.cells())

    def arrays(self, run: int, index: int, status: Status) -> dict[str, NDArray[Any]]:
        """The large arrays of one λ that its status promises.

        Raises
        ------
        CorruptStoreError
            If one is damaged, or they are not those of the λ's digest.
        """
        arrays = {}
        for name in self.promised(status):
            if name in self.large:
                with _naming(f"{name} {self.where(run, index)}"):
                    arrays[name] = self.ds.variables[name][run, index].values
        if arrays and not self._are_whole(run, index, status, arrays):
            gone = [name for name, values in arrays.items() if np.isnan(values).all()]
            what = ", ".join(gone or arrays)
            raise CorruptStoreError(f"{what} {self.where(run, index)}: missing, damaged or replaced meanwhile")
        return arrays

    def _are_whole(self, run: int, index: int, status: Status, arrays: dict[str, NDArray[Any]]) -> bool:
        """Whether the digest is theirs; where it covers others too, whether what must be finite is."""
        # The digest of a fitted λ may be that of what comes next: it is written before the status.
        is_covered = status == Status.COMPLETE and arrays.keys() == set(self.promised(status))
        if is_covered and self.ds.variables.keys() >= {"digest", "seed", "direction"}:
            named = (self.ds[name].values[run] for name in ("run", "seed", "direction"))
            expected = digest(Run(*named), float(self.ds["l2"].values[index]), arrays)
            return int(self.ds["digest"].values[run, index]) == expected
        if origin_of(self.ds.attrs).is_import:  # whose files may have lacked them
            return True
        return all(np.isfinite(arrays[name]).all() for name in ("weights", "gradient") if name in arrays)


class _Disk(io.FileIO):
    """A file that keeps the error of a failed write to itself: HDF5 may crash the process if it learns of one."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data``; nothing after a failure."""
        left = memoryview(data).cast("B")
        while left and self.failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failure = error.with_traceback(None)  # which would keep data, and what they are a view of
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Cut off or lengthen."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def check(self) -> None:
        """Raise the error that a write met with."""
        if self.failure is not None:
            raise self.failure


def _write_whole(path: Path, part: _Part, compression: dict[str, Any], tell: Callable[[int], None]) -> None:
    remove_partial(path)
    try:
        with whole_file(path) as temporary, _Disk(temporary, "w+") as disk:
            disk.write(_template(part, compression))
            disk.check()
            tell(part.small.nbytes)
            with _h5netcdf().File(disk, "r+") as file:
                for run, index, status in part.cells():
                    for name, values in part.arrays(run, index, status).items():
                        file[name][run, index] = values
                        tell(values.nbytes)
                    disk.check()
            disk.check()
    except OSError as error:
        raise ExportError(f"{path}: can't be written ({error.strerror or error}): give another file") from error


def _template(part: _Part, compression: dict[str, Any]) -> memoryview:
    """The file with all but the values of the large arrays."""
    small, encoding = part.small.drop_encoding(), {}  # which is Zarr's
    for name, variable in small.variables.items():
        if "flag_values" in variable.attrs:  # CF wants them in the variable's own type
            variable.attrs = {**variable.attrs, "flag_values": np.array(variable.attrs["flag_values"], variable.dtype)}
        if name in small.data_vars and variable.dtype == object:  # texts: HDF5 cannot store NaN among them
            known = [text if isinstance(text, str) else "" for text in variable.values.ravel()]
            variable.values = np.array(known, dtype=object).reshape(variable.shape)
            variable.attrs = {**variable.attrs, **TEXT}
        if variable.dtype.kind in "biuf" and variable.ndim:
            encoding[name] = {"fletcher32": True, **compression}
    image = io.BytesIO()
    with _h5netcdf().File(image, "w") as file:
        small.dump_to_store(xr.backends.H5NetCDFStore(file), encoding=encoding)
        for name in part.large:
            _create(file, part.ds[name], compression)
    return image.getbuffer()


def _create(file: Any, array: xr.DataArray, compression: dict[str, Any]) -> None:
    """A large array in which nothing is known yet, labelled as xarray would."""
    sizes = {str(dim): length for dim, length in array.sizes.items()}
    for dim in sizes.keys() - file.dimensions.keys():
        file.dimensions[dim] = sizes[dim]
    created = file.create_variable(
        array.name,
        array.dims,
        array.dtype,
        fillvalue=array.dtype.type(np.nan),
        chunks=BY_NAME[str(array.name)].chunks(sizes),
        fletcher32=True,
        **compression,
    )
    labels = [str(name) for name in array.coords if name not in array.dims]
    created.attrs.update({**array.attrs, "coordinates": " ".join(labels)})
