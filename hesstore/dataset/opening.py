"""Opening a store as a Dataset that says what is in it, and that has the analyses as methods, ``ds.hess``."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any, cast

import xarray as xr

from hesstore.analysis import accessor  # noqa: F401 - registers ds.hess
from hesstore.store import Status
from hesstore.store import open as open_plain
from hesstore.store.origin import origin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hesstore.store.places.location import Location

__all__ = ["SweepDataset", "open"]

_INDENT = " " * len("hesstore: ")


class SweepDataset(xr.Dataset):
    """The Dataset of a store, or a part of it: xarray's, below two lines that say what it is and how far the sweep is.

    Only how it is shown differs from xarray's: ``ds.identical(xr.open_zarr(path))`` holds, and operations work alike.
    ``xr.testing.assert_identical`` compares types too, so give it two that were opened the same way.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join([*headline(self), super().__repr__()])

    def _repr_html_(self) -> str:
        shown: str = super()._repr_html_()  # type: ignore[no-untyped-call]
        lines = headline(self)
        if not lines or xr.get_options()["display_style"] == "text":  # type: ignore[no-untyped-call]
            return shown
        # Hidden where xarray's style sheet is not let in: there xarray shows the text repr, which has these lines.
        return f"<div class='xr-wrap' style='display:none'><pre>{html.escape(chr(10).join(lines))}</pre></div>{shown}"


def open(location: Location, *, chunked: bool = True) -> SweepDataset:  # noqa: A001 - as in xarray and zarr
    """The store's variables, labelled and lazy: the Dataset of ``xr.open_zarr(location)``, after a check.

    Shown, it says above xarray's own lines what is in it and how far the sweep is, read at that moment. It has the
    analyses of :mod:`hesstore.analysis` as ``ds.hess``.

    Parameters
    ----------
    location : path, ``file://`` URL or ``s3://`` URL
        The store, or one that was packed into a ``.zip``.
    chunked : bool
        Whether arrays are Dask's, where Dask is installed. One λ after the other is read four times as fast without.

    Raises
    ------
    CorruptStoreError
        If its metadata or a coordinate is damaged; other damage shows when it is read.
    StoreError
        If it is not a store, or has a newer schema.
    """
    ds = open_plain(location, chunked=chunked)
    ds.__class__ = SweepDataset  # the very Dataset, shown otherwise; a new one would differ in order and encoding
    return cast("SweepDataset", ds)


def headline(ds: xr.Dataset) -> list[str]:
    """What is in a store's Dataset or a part of it, and how far it is; nothing where that can't be told.

    So it is for what was calculated: a status still has the encoding that it was read with, unless it is a result.
    Only ``status`` is read.
    """
    status = ds.variables.get("status")
    if status is None or "chunks" not in status.encoding or not {*status.dims} <= {"run", "l2"}:
        return []
    if not {*status.dims} <= {*ds.indexes} or not all(ds.indexes[dim].is_unique for dim in status.dims):
        return []  # several stores in one, or λ under another name
    try:
        first = [_made_of(ds.attrs), *_runs_and_strengths(ds)]
    except (KeyError, ValueError, TypeError, IndexError):  # attributes that are not a sweep's
        return []
    sizes = ", ".join(f"{ds.sizes[dim]:,} {what}" for dim, what in _COUNTED.items() if dim in ds.sizes)
    return [f"hesstore: {', '.join(first)}", _INDENT + "; ".join(filter(None, (sizes, _how_far(status))))]


_COUNTED = {"mode": "eigenpairs", "param": "parameters"}


def _made_of(attributes: Mapping[Any, Any]) -> str:
    """Data and network, as ``mnist-5k, mlp 784→128→128→10``."""
    identity = json.loads(attributes["identity"])
    origin = origin_of(attributes)
    data = [f"imported from {origin.files} files"] if origin.is_import else []
    if identity["data_digest"]:  # else only the config's default is known
        data.append(identity["dataset"])
    model = identity["model"]
    if model == "mlp":
        weights = [shape for _, shape in identity["parameters"] if len(shape) == 2]
        model += " " + "→".join(str(width) for width in (weights[0][1], *(rows for rows, _ in weights)))
    return ", ".join([*data, model])


def _runs_and_strengths(ds: xr.Dataset) -> Iterator[str]:
    if "run" in ds.sizes:
        yield f"{ds.sizes['run']} run{'s' if ds.sizes['run'] != 1 else ''}"
    elif "run" in ds.coords:
        yield f"run {int(ds['run'])}"
    if "l2" not in ds.coords:
        return
    l2 = ds["l2"].values
    if not l2.ndim:
        yield f"λ = {l2:.10g}"
    else:
        yield f"{l2.size} λ" + (f" in [{l2.min():.10g}, {l2.max():.10g}]" if l2.size else "")


def _how_far(status: xr.Variable) -> str:
    try:
        found = status.copy(deep=False).values  # a copy: what a Dataset has once read it keeps
    except Exception as error:  # noqa: BLE001 - whatever is the matter with the store, showing a Dataset never raises
        return f"how far it is can't be read ({error}): `hesstore verify` says what is damaged"
    counts = {each.name.lower(): int((found == each).sum()) for each in reversed(Status)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
