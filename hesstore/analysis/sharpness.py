"""Sharpness at a distance that is measured in units of the norm of the weights."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.selection import complete_variables, loss_unit
from hesstore.analysis.sensitivity import class_shares
from hesstore.errors import AnalysisError
from hesstore.store.schema import SIGNS, axis_of


def sharpness(ds: xr.Dataset, run: int = 0, radius: float = 0.01) -> xr.Dataset:
    """Find the largest rise of the training loss after a step of the relative length ρ along a stored eigenvector.

    The rise is that of the quadratic model at θ, not measured: with r = ρ‖θ‖, it is the largest value of
    ± r v·∇E + ½ r² μ over the stored eigenpairs (μ, v) and both signs. Since r is proportional to the norm of the
    weights, the value does not change if all weights are scaled by a factor and the loss stays the same, whereas μ does
    (Dinh et al., arXiv 1703.04933). :func:`hesstore.network_geometry` measures the same rise.

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    radius : float
        ρ, above 0.

    Returns
    -------
    Dataset
        Along ``l2``, at the complete grid points: ``sharpness`` (nat), ``step_length`` = ρ‖θ‖, and the ``mode`` and
        ``sign`` of the step with that rise; −1 and 0 where no pair is known.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, the store lacks the variables, or ρ is out of range.

    Notes
    -----
    With ``hessian_samples``, the loss is that of the rows over which H is taken. Its slope is then summed with the
    shares of the classes among all rows, from which those of the subset, which is stratified, differ by rounding.
    """
    axis = axis_of(ds)
    if not radius > 0:
        raise AnalysisError(f"radius = {radius:g}: it must be above 0")
    names = ("eigenvalues", "class_slope", "confusion", "weights_norm")
    part = complete_variables(ds, run, *names).sel(split="train").load()
    slope = (class_shares(part["confusion"]) * part["class_slope"]).sum("label", min_count=1)
    step = radius * part["weights_norm"].values
    slopes, eigenvalues = (each.transpose(axis, "mode").values[..., None] for each in (slope, part["eigenvalues"]))
    length = step[:, None, None]
    rises = (length * slopes * np.array(SIGNS) + length**2 * eigenvalues / 2).reshape(len(step), -1)
    is_known = np.isfinite(rises).any(1)
    best = np.where(np.isfinite(rises), rises, -np.inf).argmax(1)
    largest = np.where(is_known, rises[np.arange(len(step)), best], np.nan)
    signs = np.where(is_known, np.array(SIGNS)[best % len(SIGNS)], 0)
    return with_attributes(
        xr.Dataset(
            {
                "sharpness": variable(
                    (axis,),
                    largest,
                    f"rise of the training loss at {radius:g} |weights|, by its quadratic model",
                    loss_unit(part),
                ),
                "step_length": variable((axis,), step, "length of the step"),
                "mode": variable((axis,), np.where(is_known, best // len(SIGNS), -1), "mode of the largest rise"),
                "sign": variable((axis,), signs, "sign of the step with the largest rise"),
            },
            coords={**scalar_coordinates(part), axis: part[axis].variable},
        )
    )
