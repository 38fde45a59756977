"""Which classes each eigenvector acts on."""

from __future__ import annotations

import xarray as xr

from hesstore.analysis.labels import described
from hesstore.analysis.selection import complete_of, require_split


def sensitivity(ds: xr.Dataset, run: int = 0, split: str = "train") -> xr.Dataset:
    """The part that each class has in the curvature and the slope along each eigenvector v.

    With E_c and H_c the mean loss of class c and its Hessian, and π_c the class's share of the rows of the split (the
    row sum of ``confusion`` over its total):

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
        Each (l2, mode, label), at the complete λ. ``curvature_share`` sums to 1 over label; its denominator
        is the eigenvalue on the split train, if H was taken over all rows of it. Where classes curve in opposite
        ways, shares can be negative or above 1, and large where the denominator is small. ``slope_share`` sums
        to 1; ``slope``, nat, to v·∇E. ``response``, if the store has ``class_response``: its mean over both signs,
        which is always of the split test. NaN for classes without rows, modes that were not found, and what was not
        recorded.

    Raises
    ------
    AnalysisError
        If the run is not there, no λ is complete, or the store does not have these variables.
    """
    require_split(split)
    names = ["class_curvature", "class_slope", "confusion", *(["class_response"] if "class_response" in ds else [])]
    part = complete_of(ds, run, *names).sel(split=split).load()
    share = _class_shares(part["confusion"])
    slope = share * part["class_slope"]
    found = {
        "curvature_share": _shares(share * part["class_curvature"]),
        "slope_share": _shares(abs(slope)),
        "slope": slope,
    }
    if "class_response" in part:
        found["response"] = part["class_response"].mean("sign", skipna=False)
    kept = {name: _labelled(values, name) for name, values in found.items()}
    return described(xr.Dataset(kept))


_NAMES = {
    "curvature_share": ("the class's share of the curvature along the eigenvector", "1"),
    "slope_share": ("the class's share of the slopes along the eigenvector", "1"),
    "slope": ("the class's part of the slope of the mean loss along the eigenvector", "nat"),
    "response": ("change of the class's test accuracy, mean over both ways along the eigenvector", "1"),
}


def _labelled(values: xr.DataArray, name: str) -> xr.DataArray:
    long_name, units = _NAMES[name]
    result = values.transpose("l2", "mode", "label")
    result.attrs = {"long_name": long_name, "units": units}
    return result


def _class_shares(confusion: xr.DataArray) -> xr.DataArray:
    """π_c (l2, label); NaN for a class without rows."""
    rows = confusion.where(confusion >= 0).sum("pred", skipna=False)  # below 0: an import that had none
    return (rows / rows.sum("label")).where(rows > 0)


def _shares(values: xr.DataArray) -> xr.DataArray:
    """``values`` over their sum over label; NaN where that is 0."""
    total = values.sum("label", min_count=1)
    return values / total.where(total != 0)
