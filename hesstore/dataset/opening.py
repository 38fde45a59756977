"""Opening a store as a Dataset whose repr describes the sweep, with the analyses as ``ds.hess``."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import xarray as xr

from hesstore.analysis import accessor  # noqa: F401 - registers ds.hess
from hesstore.config.l2_grid import AXIS, axis_symbol, value_text
from hesstore.config.networks import is_custom
from hesstore.dataset.completeness import SpectrumSettings
from hesstore.dataset.several import SETTING, combine, store_names
from hesstore.errors import AnalysisError
from hesstore.store import Status
from hesstore.store import open as open_plain
from hesstore.store.import_origin import origin_of
from hesstore.store.places.location import locate
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hesstore.store.places.location import Location

__all__ = ["SweepDataset", "open"]

_INDENT = " " * len("hesstore: ")


class SweepDataset(xr.Dataset):
    """The Dataset of a store, or a part of it, whose repr starts with the sweep, its progress and its completeness.

    Only the repr differs from that of xarray: ``ds.identical(xr.open_zarr(path))`` is true, and all operations give
    the same results. ``xr.testing.assert_identical`` compares types too, so both of its arguments must have been opened
    in the same way.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join([*headline(self), super().__repr__()])

    def _repr_html_(self) -> str:
        shown: str = super()._repr_html_()  # type: ignore[no-untyped-call]
        lines = headline(self)
        if not lines or xr.get_options()["display_style"] == "text":  # type: ignore[no-untyped-call]
            return shown
        # Where xarray's style sheet is blocked, this block stays hidden: the text repr, shown instead, has the lines.
        return f"<div class='xr-wrap' style='display:none'><pre>{html.escape(chr(10).join(lines))}</pre></div>{shown}"


def open(  # noqa: A001 - as in xarray and zarr
    location: Location | Sequence[Location], *, chunked: bool = True, check: bool = False
) -> SweepDataset:
    """Open a store as a labelled, lazy Dataset: that of ``xr.open_zarr(location)``, after a check of its metadata.

    Several stores become one Dataset with all their runs, on the union of their grids; their seeds, grids and settings
    may differ. The runs have new numbers: the coordinates ``store`` and ``store_run`` name the store of each run and
    its number there, and coordinates such as ``config_lr`` have the settings that differ. A grid point that a store
    does not have is pending. Variables with one value per parameter are left out if the networks differ, or without
    Dask, because xarray would read all of them.

    Its repr starts with a description of the sweep, its progress, and how complete its spectra are, which are read
    whenever the Dataset is shown. The analyses of :mod:`hesstore.analysis` are methods of ``ds.hess``.

    Parameters
    ----------
    location : path, ``file://``, ``s3://`` or ``http(s)://`` URL, or a sequence of them
        The store, or a ``.zip`` file into which a store was packed.
    chunked : bool
        Whether the arrays are Dask arrays, if Dask is installed. Reading one grid point after the other is four times
        as fast without Dask.
    check : bool
        Whether to compare the store with its digests first. A missing file reads as unset values (NaN, or False after
        a comparison) without an error; with the check, it raises one. The small variables and all coordinates are then
        in memory, and every file that a grid point must have is looked for; the values of large variables are not
        read: each chunk of them has a checksum, which is compared when it is read. The check takes about 0.3 s
        for 452 grid points in a folder. In a bucket it takes about 60 requests and a listing. Only ``hesstore verify``
        also reads the large variables.

    Returns
    -------
    SweepDataset
        The variables of the store.

    Raises
    ------
    CorruptStoreError
        If the metadata or a coordinate is damaged. Without ``check``, damage elsewhere shows when it is read, and a
        missing file does not.
    StoreError
        If it is not a store, or has a newer schema.
    """
    if isinstance(location, Sequence) and not isinstance(location, str):
        return _open_several(location, chunked=chunked, check=check)
    return _described(open_plain(location, chunked=chunked, check=check))


def _open_several(locations: Sequence[Location], *, chunked: bool, check: bool) -> SweepDataset:
    if not locations:
        raise AnalysisError("no store is given: give one or more")
    places = [locate(each) for each in locations]
    names = store_names([str(place) for place in places])
    has_dask = chunked and find_spec("dask") is not None
    stores = [open_plain(place, chunked=chunked, check=check) for place in places]
    return _described(combine(stores, names, with_large=has_dask))


def _described(plain: xr.Dataset) -> SweepDataset:
    """Return the Dataset as one whose repr describes the sweep."""
    # Made from all variables at once, a Dataset keeps their order; from data variables and coordinates it would not.
    ds = SweepDataset(plain.variables, attrs=plain.attrs).set_coords(plain.coords)
    ds.encoding = plain.encoding
    ds.set_close(plain.close)
    return ds


def headline(ds: xr.Dataset) -> list[str]:
    """The lines that describe the Dataset of a store, or a part of it, its progress, and how complete its spectra are.

    Empty for a Dataset that was computed: a ``status`` that was read from a store has the encoding of the store, a
    computed one has not. Only ``status``, ``eigenvalues`` and ``eigenvalue_bound`` are read.
    """
    status = ds.variables.get("status")
    if status is not None and "store" in ds.coords and "run" in ds.sizes:
        return _headline_of_several(ds)
    if status is None or "chunks" not in status.encoding or not {*status.dims} <= {"run", axis_of(ds)}:
        return []
    if not {*status.dims} <= {*ds.indexes} or not all(ds.indexes[dim].is_unique for dim in status.dims):
        return []  # several stores in one Dataset, or a renamed dimension
    try:
        first = [_source(ds.attrs), *_runs_and_grid(ds)]
    except (KeyError, ValueError, TypeError, IndexError):  # the attributes are not those of a sweep
        return []
    sizes = ", ".join(f"{ds.sizes[dim]:,} {noun}" for dim, noun in _COUNTED.items() if dim in ds.sizes)
    lines = ["; ".join(filter(None, (sizes, _progress(status)))), _spectra(ds)]
    return [f"hesstore: {', '.join(first)}", *(_INDENT + line for line in lines if line)]


def _headline_of_several(ds: xr.Dataset) -> list[str]:
    stores = list(dict.fromkeys(map(str, ds["store"].values)))
    differing = [str(name).removeprefix(SETTING) for name in ds.coords if str(name).startswith(SETTING)]
    lines = [f"hesstore: {len(stores)} stores, {', '.join(_runs_and_grid(ds))}: {', '.join(stores)}"]
    return lines + ([f"{_INDENT}they differ in {', '.join(differing)}"] if differing else [])


_COUNTED = {"mode": "eigenpairs", "param": "parameters"}


def _source(attributes: Mapping[Any, Any]) -> str:
    """The data set and the network, such as ``mnist-5k, mlp 784→128→128→10``."""
    identity = json.loads(attributes["identity"])
    origin = origin_of(attributes)
    data = [f"imported from {origin.files} files"] if origin.is_import else []
    if identity["data_digest"]:  # without a digest, the name is only the default of the config
        data.append(identity["dataset"])
    model = identity["model"]
    if not is_custom(model):
        weights = [shape for _, shape in identity["parameters"] if len(shape) == 2]
        model += " " + "→".join(str(width) for width in (weights[0][1], *(rows for rows, _ in weights)))
    return ", ".join([*data, model])


def _runs_and_grid(ds: xr.Dataset) -> Iterator[str]:
    axis = axis_of(ds)
    if "run" in ds.sizes:
        yield f"{ds.sizes['run']} run{'s' if ds.sizes['run'] != 1 else ''}"
    elif "run" in ds.coords:
        yield f"run {int(ds['run'])}"
    if axis not in ds.coords:
        return
    values = ds[axis].values
    if not values.ndim:
        yield value_text(axis, float(values))
    else:
        symbol = axis_symbol(axis)
        counted = f"{values.size} λ" if axis == AXIS else f"{values.size} checkpoints"
        within = "in" if axis == AXIS else f"with {symbol} in"
        yield counted + (f" {within} [{values.min():.10g}, {values.max():.10g}]" if values.size else "")


def _progress(status: xr.Variable) -> str:
    try:
        found = status.copy(deep=False).values  # of a copy: a Dataset caches what it has read
    except Exception as error:  # noqa: BLE001 - showing a Dataset never raises, even if its store is damaged
        return f"the progress can't be read ({error}): `hesstore verify` lists every damaged file"
    counts = {each.name.lower(): int((found == each).sum()) for each in reversed(Status)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _spectra(ds: xr.Dataset) -> str:
    """How complete the spectra are, or a message if they can't be read; empty if ``ds`` lacks a part of them."""
    settings = SpectrumSettings.of(ds.attrs)
    names = ["status", "eigenvalues", "eigenvalue_bound"]
    if settings is None or not {*names} <= {*ds.variables} or ds["eigenvalues"].sizes.get("mode") != settings.k:
        return ""
    try:
        summary = settings.summary(settings.spectra(ds[names].copy()))  # a Dataset caches what it has read
    except Exception:  # noqa: BLE001 - showing a Dataset never raises, even if its store is damaged
        return "the spectra can't be read: `hesstore verify` lists every damaged file"
    return summary.text if summary else ""
