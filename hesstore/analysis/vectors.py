"""Where in the network eigenvectors live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hesstore.analysis.labels import described, entry, scalars
from hesstore.analysis.selection import require, vectors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from hesstore.analysis.selection import Progress, Vectors


def layer_mass(ds: xr.Dataset, run: int = 0, progress: Progress | None = None) -> xr.Dataset:
    """The share of each eigenvector that lies in each layer: Σ v² over the layer's parameters.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    progress : callable, optional
        Is told (λ done, all λ).

    Returns
    -------
    Dataset
        ``layer_mass`` (l2, mode, layer), which sums to 1 over layer, NaN for modes that were not found; ``chance``
        (layer): the layer's share of the P parameters, which a random unit vector has on average.

    Raises
    ------
    AnalysisError
        If the run is not there, or no λ is complete.
    """
    require(ds, "layer")
    layers, member = _membership(ds["layer"].values)
    vectors = vectors_of(ds, run)
    masses = _each_lambda(vectors, lambda v: np.square(v, dtype=np.float64) @ member, progress)
    return described(
        xr.Dataset(
            {
                "layer_mass": entry(("l2", "mode", "layer"), masses, "share of the eigenvector in the layer"),
                "chance": entry(("layer",), member.mean(0), "share of the parameters in the layer"),
            },
            coords={**_coords(vectors), "layer": layers},
        )
    )


def participation_ratio(ds: xr.Dataset, run: int = 0, progress: Progress | None = None) -> xr.Dataset:
    """The share of the P parameters that each eigenvector is spread over: 1 / (P Σ v⁴).

    1 if all entries have the same magnitude, 1/P if one entry alone is not zero.

    Parameters
    ----------
    ds, run, progress
        As for :func:`layer_mass`.

    Returns
    -------
    Dataset
        ``participation_ratio`` (l2, mode), NaN for modes that were not found; ``chance`` = (P + 2)/(3P): the
        ratio at the mean of Σ v⁴ over uniformly random unit vectors, 3/(P + 2). It is 1/3 for large P.

    Raises
    ------
    AnalysisError
        If the run is not there, or no λ is complete.
    """
    vectors = vectors_of(ds, run)
    size = vectors.parameters
    ratios = _each_lambda(vectors, lambda v: 1 / (size * np.square(np.square(v, dtype=np.float64)).sum(1)), progress)
    return described(
        xr.Dataset(
            {
                "participation_ratio": entry(("l2", "mode"), ratios, "participation ratio of the eigenvector"),
                "chance": entry((), (size + 2) / (3 * size), "participation ratio of a random unit vector"),
            },
            coords=_coords(vectors),
        )
    )


def _each_lambda(
    vectors: Vectors,
    function: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    progress: Progress | None,
) -> NDArray[np.float64]:
    """``function`` of the (k, P) eigenvectors, at one λ after the other."""
    results = []
    for index in range(vectors.l2.size):
        results.append(function(vectors.at(index, vectors.modes)))
        if progress:
            progress(index + 1, vectors.l2.size)
    return np.stack(results)


def _membership(layers: NDArray[np.generic]) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """The L layers in the order of the parameters, and (P, L): 1 where the parameter is in the layer."""
    names = list(dict.fromkeys(layers.tolist()))
    member = np.stack([layers == name for name in names], axis=1).astype(np.float64)
    return np.array(names, dtype=object), member


def _coords(vectors: Vectors) -> dict[Hashable, xr.Variable]:
    part = vectors.part
    return {**scalars(part), "l2": part["l2"].variable, "mode": part["mode"].variable}
