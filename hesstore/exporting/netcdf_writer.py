"""Writing a snapshot of a store to a netCDF-4 file through h5netcdf.

The file with all small variables is made in memory by xarray, and written to disk. The large arrays are then filled in
one grid point at a time.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hesstore.durable_files import remove_partial, whole_file
from hesstore.errors import ExportError
from hesstore.store.schema import BY_NAME
from hesstore.store.variable import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hesstore.exporting.snapshot import Snapshot


def import_h5netcdf() -> Any:
    """Import h5netcdf; raises :class:`ExportError` if it is not installed."""
    try:
        import_module("h5py")  # h5netcdf needs it, but does not depend on it
        return import_module("h5netcdf")
    except ImportError:
        raise ExportError('format: netcdf needs the package h5netcdf: pip install "hesstore[files]"') from None


def write_netcdf(path: Path, snapshot: Snapshot, compression: dict[str, Any], report: Callable[[int], None]) -> None:
    """Write a file, which appears complete or not at all.

    Parameters
    ----------
    path : Path
        The file.
    snapshot : Snapshot
        Its contents.
    compression : dict
        Options of h5py for all numeric variables.
    report : callable
        Called with the number of bytes that have been written since the last call.

    Raises
    ------
    ExportError
        If the file cannot be written.
    CorruptStoreError
        If an array that the status promises is missing or damaged.
    """
    remove_partial(path)
    try:
        with whole_file(path) as temporary, _Disk(temporary, "w+") as disk:
            disk.write(_template(snapshot, compression))
            disk.check()
            report(snapshot.small.nbytes)
            with import_h5netcdf().File(disk, "r+") as file:
                for row, point, status in snapshot.points():
                    for name, values in snapshot.read_large(row, point, status).items():
                        file[name][row, point.index] = values
                        report(values.nbytes)
                    disk.check()
                _write_texts_as_characters(file)
            disk.check()
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or error}): give another file") from error


def _template(snapshot: Snapshot, compression: dict[str, Any]) -> memoryview:
    """The contents of the file, except for the values of the large arrays."""
    small = snapshot.small.drop_encoding()  # that of Zarr
    encoding: dict[Any, dict[str, Any]] = {}
    small = small.assign_attrs({key: _in_32_bits(value) for key, value in small.attrs.items()})
    for name in [name for name, variable in small.variables.items() if variable.dtype.str[1:] in {"i8", "u8"}]:
        variable = small.variables[name]  # R and the classic formats have no such type
        short = (
            digest_texts(variable) if variable.dtype == np.uint64 else variable.copy(data=_in_32_bits(variable.values))
        )
        small = small.assign_coords({name: short}) if name in small.coords else small.assign({name: short})
    for name, variable in small.variables.items():
        if "flag_values" in variable.attrs:  # the CF conventions require the type of the variable
            variable.attrs = {**variable.attrs, "flag_values": np.array(variable.attrs["flag_values"], variable.dtype)}
        if name in small.data_vars and variable.dtype == object:  # texts: HDF5 cannot store NaN among them
            known = [text if isinstance(text, str) else "" for text in variable.values.ravel()]
            variable.values = np.array(known, dtype=object).reshape(variable.shape)
            variable.attrs = {key: value for key, value in variable.attrs.items() if key not in TEXT}
        if variable.dtype == object:
            encoding[name] = {"dtype": "S1"}  # characters: the classic formats have no other texts
        if variable.dtype.kind in "biuf" and variable.ndim:
            encoding[name] = {"fletcher32": True, **compression}
    image = io.BytesIO()
    with import_h5netcdf().File(image, "w") as file:
        small.dump_to_store(xr.backends.H5NetCDFStore(file), encoding=encoding)
        for name in snapshot.large:
            _create_variable(file, snapshot.ds[name], compression)
    return image.getbuffer()


def _create_variable(file: Any, array: xr.DataArray, compression: dict[str, Any]) -> None:
    """Create a large array without values, with the attributes that xarray would write."""
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


def digest_texts(variable: xr.Variable) -> xr.Variable:
    """Digests as texts of 16 hexadecimal digits: R, among others, would lose bits of 64-bit numbers."""
    texts = np.array([f"{int(number):016x}" for number in variable.values.ravel()], dtype=object)
    return xr.Variable(variable.dims, texts.reshape(variable.shape), variable.attrs)


def _in_32_bits(value: Any) -> Any:
    """Whole numbers as int32 if they fit; anything else as it is."""
    array = np.asarray(value)
    if array.dtype != np.int64 or (array.astype(np.int32) != array).any():
        return value
    return array.astype(np.int32)


def _write_texts_as_characters(file: Any) -> None:
    """Write the texts among the attributes as characters (NC_CHAR), which every netCDF program reads."""
    h5py = import_module("h5py")
    root = file._h5file  # noqa: SLF001 - h5netcdf has no other way to choose the type of an attribute
    for owner in (root, *root.values()):
        for key, value in list(owner.attrs.items()):
            if isinstance(value, str) and key not in _OF_HDF5:
                encoded = value.encode()
                kind = h5py.string_dtype("utf-8", max(1, len(encoded)))
                owner.attrs.create(key, np.array(encoded, kind), dtype=kind)


_OF_HDF5 = frozenset({"CLASS", "NAME", "_NCProperties"})
"""Attributes of HDF5's dimension scales and of the netCDF library."""


class _Disk(io.FileIO):
    """A file that hides the error of a failed write from HDF5, which may crash the process because of it."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data``, or nothing after a failure."""
        left = memoryview(data).cast("B")
        while left and self.failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failure = error.with_traceback(None)  # a traceback would keep the data in memory
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Change the size of the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def check(self) -> None:
        """Raise the error of the first failed write."""
        if self.failure is not None:
            raise self.failure
