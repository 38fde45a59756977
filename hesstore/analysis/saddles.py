"""Saddles: the index and the smallest eigenvalue of the objective's Hessian along λ."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.selection import complete_variables, growing_advice, loss_unit, matrix_name, penalty_shift
from hesstore.errors import AnalysisError
from hesstore.store.schema import LOWEST, axis_of


def objective_index(ds: xr.Dataset, run: int = 0) -> xr.Dataset:
    """Count the negative eigenvalues of the objective's Hessian, and find its smallest eigenvalue.

    The objective is E(θ) + cλ‖θ‖², so that its Hessian has the eigenvalues μ + 2cλ. Its index is the number of those
    that are negative, which is the number of μ < −2cλ. At a minimum it is 0.

    Parameters
    ----------
    ds : Dataset
        A store that was recorded with ``--lowest`` N of at least 1.
    run : int
        Run ID.

    Returns
    -------
    Dataset
        Along ``l2``, at the complete grid points: ``index``, the number of the N lowest μ that are below −2cλ;
        ``index_complete``, whether the index is known to be this number and not only at least this number; and
        ``smallest_eigenvalue``, μ_min + 2cλ. Where an import has no eigenvalues, ``index`` and
        ``smallest_eigenvalue`` are NaN, and ``index_complete`` is false.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or the store lacks the lowest eigenvalues of the
        Hessian.

    Notes
    -----
    The eigenvalues are Ritz values, which are never below those that they approximate. So at least ``index``
    eigenvalues are negative. There are no others if ``lowest_bound`` is at least −2cλ, with the probability of that
    bound, and if no recorded eigenvalue is closer to −2cλ than its residual norm. If the index is not complete, record
    more eigenvalues. With ``hessian_samples``, the Hessian is that of a subset of the training rows.
    """
    if matrix_name(ds) != "Hessian":
        raise AnalysisError(
            "the store has eigenvalues of the Gauss-Newton matrix, which are never negative: record those of the "
            f"Hessian with {growing_advice(ds, '--operator hessian')}"
        )
    axis = axis_of(ds)
    part = complete_variables(ds, run, LOWEST.eigenvalues, LOWEST.residual_norm, LOWEST.bound).load()
    shift = penalty_shift(part).values
    raised = part[LOWEST.eigenvalues].transpose(axis, "lowest").values + shift[:, None]
    residual_norms = part[LOWEST.residual_norm].transpose(axis, "lowest").values
    is_known, is_found = np.isfinite(raised).any(1), np.isfinite(raised)
    index = np.where(is_known, (raised < 0).sum(1), np.nan)
    are_clear = (~is_found | (np.abs(raised) > residual_norms)).all(1)
    is_complete = is_known & (part[LOWEST.bound].values + shift >= 0) & are_clear
    return with_attributes(
        xr.Dataset(
            {
                "index": variable((axis,), index, "number of negative eigenvalues of the objective's Hessian found"),
                "index_complete": variable((axis,), is_complete, "whether these are all of its negative eigenvalues"),
                "smallest_eigenvalue": variable(
                    (axis,),
                    np.fmin.reduce(raised, axis=1),
                    "smallest eigenvalue of the objective's Hessian",
                    loss_unit(ds),
                ),
            },
            coords={**scalar_coordinates(part), axis: part[axis].variable},
        )
    )
