"""The overlap map of a run for a report, at so few grid points that the page stays small and is made quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.analysis import overlap_map
from hesstore.analysis.selection import evenly_spaced
from hesstore.plots.eigenvectors import MAX_POINTS
from hesstore.plots.run_data import default_k
from hesstore.store.decoding import decoding
from hesstore.store.schema import Status, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

_THOUSANDTHS = 1000


def overlap_data(ds: xr.Dataset, run: int, progress: Callable[[int, int], None] | None = None) -> dict[str, Any] | None:
    """Return the overlap of the first k eigenvectors at all pairs of some complete grid points of ``run``.

    Parameters
    ----------
    ds : Dataset
        A store. The first k eigenvectors of the chosen grid points are read.
    run : int
        Run ID.
    progress : callable, optional
        Called with (pairs done, all pairs).

    Returns
    -------
    dict or None
        ``k``; ``chance``, the expected overlap of random spans; ``complete``, the number of complete grid points;
        ``indices``, the chosen ones along λ; ``rows``, the lower triangle of the map in thousandths, None where a grid
        point has fewer than k pairs. None if the store has no eigenvectors or the run fewer than two complete points.
    """
    if not {"eigenvectors", "eigenvalues"} <= {*ds} or not ds.sizes["mode"]:
        return None
    complete = np.flatnonzero(ds["status"].sel(run=run).values == Status.COMPLETE)
    if complete.size < 2:
        return None
    indices = complete[evenly_spaced(complete.size, MAX_POINTS)]
    with decoding("eigenvectors"):
        found = overlap_map(ds.isel({axis_of(ds): indices}), default_k(ds), run, progress)
    values = found["overlap"].values
    thousandths = np.where(np.isfinite(values), values * _THOUSANDTHS, -1).round().astype(int)
    return {
        "k": default_k(ds),
        "chance": float(f"{float(found['chance']):.1g}"),
        "complete": int(complete.size),
        "indices": indices.tolist(),
        "rows": [[None if cell < 0 else cell for cell in row[: at + 1]] for at, row in enumerate(thousandths.tolist())],
    }
