"""Where eigenvectors are located: their share in each layer, and the number of parameters over which they spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.selection import require_variables
from hesstore.custom_code import calls_back
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from hesstore.analysis.eigenvectors import EigenvectorReader


@calls_back("progress")
def layer_mass(ds: xr.Dataset, run: int = 0, progress: Callable[[int, int], None] | None = None) -> xr.Dataset:
    """Compute the share of each eigenvector that lies in each layer: Σ v² over the layer's parameters.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    progress : callable, optional
        Called with (grid points done, all grid points).

    Returns
    -------
    Dataset
        ``layer_mass`` (l2, mode, layer), which sums to 1 over layer; NaN for modes that the solver did not find.
        ``chance`` (layer): the layer's share of the P parameters, which is the mean for a random unit vector.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point.
    """
    require_variables(ds, "layer")
    layers, member = _membership(ds["layer"].values)
    vectors = eigenvector_reader(ds, run)
    masses = _at_each_grid_point(vectors, lambda v: np.square(v, dtype=np.float64) @ member, progress)
    return with_attributes(
        xr.Dataset(
            {
                "layer_mass": variable((axis_of(ds), "mode", "layer"), masses, "share of the eigenvector in the layer"),
                "chance": variable(("layer",), member.mean(0), "share of the parameters in the layer"),
            },
            coords={**_coords(vectors), "layer": layers},
        )
    )


@calls_back("progress")
def participation_ratio(ds: xr.Dataset, run: int = 0, progress: Callable[[int, int], None] | None = None) -> xr.Dataset:
    """Compute the share of the P parameters over which each eigenvector is spread: 1 / (P Σ v⁴).

    It is 1 if all entries have the same magnitude, and 1/P if only one entry is not zero.

    Parameters
    ----------
    ds, run, progress
        See :func:`layer_mass`.

    Returns
    -------
    Dataset
        ``participation_ratio`` (l2, mode), NaN for modes that the solver did not find; ``chance`` = (P + 2)/(3P),
        the ratio at the mean of Σ v⁴ over uniformly random unit vectors, 3/(P + 2). It is 1/3 for large P.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point.
    """
    vectors = eigenvector_reader(ds, run)
    size = vectors.num_parameters
    ratios = _at_each_grid_point(
        vectors, lambda v: 1 / (size * np.square(np.square(v, dtype=np.float64)).sum(1)), progress
    )
    return with_attributes(
        xr.Dataset(
            {
                "participation_ratio": variable(
                    (axis_of(ds), "mode"), ratios, "participation ratio of the eigenvector"
                ),
                "chance": variable((), (size + 2) / (3 * size), "participation ratio of a random unit vector"),
            },
            coords=_coords(vectors),
        )
    )


def _at_each_grid_point(
    vectors: EigenvectorReader,
    function: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float64]:
    """Apply ``function`` to the (k, P) eigenvectors at each complete grid point, one after the other."""
    results = []
    for index in range(vectors.l2.size):
        results.append(function(vectors.read(index, vectors.num_modes)))
        if progress:
            progress(index + 1, vectors.l2.size)
    return np.stack(results)


def _membership(layers: NDArray[np.generic]) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return the L layers in the order of the parameters, and (P, L): 1 where the parameter is in the layer."""
    names = list(dict.fromkeys(layers.tolist()))
    member = np.stack([layers == name for name in names], axis=1).astype(np.float64)
    return np.array(names, dtype=object), member


def _coords(vectors: EigenvectorReader) -> dict[Hashable, xr.Variable]:
    axis = axis_of(vectors.part)
    part = vectors.part
    return {**scalar_coordinates(part), axis: part[axis].variable, "mode": part["mode"].variable}
