"""The classes on which each eigenvector acts."""

from __future__ import annotations

import xarray as xr

from hesstore.analysis.attributes import variable_attrs, with_attributes
from hesstore.analysis.selection import complete_variables, loss_unit, require_split, setting
from hesstore.store.schema import axis_of


def sensitivity(ds: xr.Dataset, run: int = 0, split: str = "train") -> xr.Dataset:
    """Compute the part of each class in the curvature and in the slope along each eigenvector v.

    Let E_c and H_c be the mean loss of class c and its Hessian, and π_c the class's share of the rows of the split
    (the row sum of ``confusion`` divided by its total). Then:

    - curvature = π_c vᵀH_c v
    - curvature_share = π_c vᵀH_c v / Σ_c π_c vᵀH_c v
    - slope_share = π_c |v·∇E_c| / Σ_c π_c |v·∇E_c|
    - slope = π_c v·∇E_c

    Parameters
    ----------
    ds : Dataset
        A store.
    run : int
        Run ID.
    split : str
        ``"train"`` or ``"test"``.

    Returns
    -------
    Dataset
        All variables but one have the dimensions (l2, mode, label), and cover the complete grid points. They are NaN
        for classes without rows, for modes that the solver did not find, and for results that were not recorded.

        ``curvature`` (nat) sums to vᵀHv over label, which is the eigenvalue on the split train if all training rows
        were used for H. ``curvature_share`` sums to 1. Classes may curve in opposite directions: then shares are
        negative or above 1, and where the sum nearly vanishes they are large and say little, but ``curvature`` remains
        meaningful. ``identity_error`` (l2, mode) is |Σ_c π_c vᵀH_c v − μ|/|μ|, the error of each mode relative to its
        own eigenvalue; it exists for the split train, and is NaN if H was taken over a subset of the training rows.
        ``slope_share`` sums to 1 over label, and ``slope``
        (nat) to v·∇E. ``response`` is the mean of ``class_response`` over both signs, if the store has that
        variable, and NaN where one of the steps was not found; it always belongs to the split test.

    Raises
    ------
    AnalysisError
        If the run does not exist or has no complete grid point, or the store lacks these variables.
    """
    require_split(split)
    optional = [name for name in ("class_response",) if name in ds]
    names = ["class_curvature", "class_slope", "confusion", "eigenvalues", *optional]
    part = complete_variables(ds, run, *names).sel(split=split).load()
    share = class_shares(part["confusion"])
    slope, curvature = share * part["class_slope"], share * part["class_curvature"]
    results = {
        "curvature": curvature,
        "curvature_share": _shares(curvature),
        "slope_share": _shares(abs(slope)),
        "slope": slope,
    }
    if "class_response" in part:
        results["response"] = part["class_response"].mean("sign", skipna=False)
    if split == "train":
        results["identity_error"] = _identity_error(curvature, part)
    return with_attributes(
        xr.Dataset({name: _labelled(values, name, loss_unit(part)) for name, values in results.items()})
    )


_NAMES = {
    "curvature": ("the class's part of the curvature of the mean loss along the eigenvector", "nat"),
    "identity_error": ("|sum over classes of the curvatures - eigenvalue|, over |eigenvalue|", None),
    "curvature_share": ("the class's share of the curvature along the eigenvector", None),
    "slope_share": ("the class's share of the slopes along the eigenvector", None),
    "slope": ("the class's part of the slope of the mean loss along the eigenvector", "nat"),
    "response": ("change of the class's test accuracy along the eigenvector, mean over both directions", None),
}


def _labelled(values: xr.DataArray, name: str, of_loss: str | None) -> xr.DataArray:
    result = values.transpose(axis_of(values), "mode", ...)
    long_name, units = _NAMES[name]
    result.attrs = variable_attrs(long_name, of_loss if units == "nat" else units)
    return result


def class_shares(confusion: xr.DataArray) -> xr.DataArray:
    """Return π_c (l2, label); NaN for a class without rows."""
    rows = confusion.where(confusion >= 0).sum("pred", skipna=False)  # −1: an import without counts
    return (rows / rows.sum("label")).where(rows > 0)


def _identity_error(curvature: xr.DataArray, part: xr.Dataset) -> xr.DataArray:
    """Return |Σ_c π_c vᵀH_c v − μ|/|μ| (l2, mode); NaN where H was not taken over all training rows."""
    mu = part["eigenvalues"]
    error = abs(curvature.sum("label", min_count=1) - mu) / abs(mu.where(mu != 0))
    return error.where(not setting(part, "hessian_samples"))


def _shares(values: xr.DataArray) -> xr.DataArray:
    """Return ``values`` divided by their sum over label; NaN where the sum is 0."""
    total = values.sum("label", min_count=1)
    return values / total.where(total != 0)
