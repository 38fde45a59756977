"""Relations that the values of a grid point must satisfy, whatever they were computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.store.schema import (
    BY_NAME,
    GEOMETRY,
    LOWEST,
    OUTERMOST,
    RISE_TOLERANCE,
    Status,
    promised_large,
    promised_small,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from hesstore.store.schema import PairVariables

ORTHONORMAL = 1e-3
"""The limit on the entries of |V Vᵀ − I| for stored eigenvectors; their float32 rounding causes about 1e-6."""

IDENTITY = 1e-6
"""The limit on the deviation of the stored ``class_identity_error`` from the one of the stored values."""

_ROUNDING = 1e-5
_SOME_MISSING = {"class_accuracy", "polish_stationarity", *OUTERMOST, *LOWEST} | GEOMETRY
_SHARES = ("gradient_share", "class_gradient_share", "weights_share")
_NOT_NEGATIVE = frozenset(
    {
        *(
            "gradient_norm",
            "class_gradient_norm",
            "stationarity",
            "response_step",
            "density",
            "density_error",
        ),
        *(
            "block_residual_norm",
            "block_trace_error",
            "trace_error",
            "frobenius_norm",
            "frobenius_norm_error",
            "scalar_curvature_error",
            "class_identity_error",
        ),
        "loss_scalar_curvature_error",
    }
)
_ALWAYS_SOME = ("class_identity_error", "trace", "density")


def contradictions(
    status: Status,
    values: Mapping[str, Any],
    l2: float,
    identity: Mapping[str, Any],
    attrs: Mapping[str, Any],
    center: NDArray[np.float32] | None = None,
) -> Iterator[str]:
    """Describe each contradiction between the values of a fitted or complete grid point.

    Parameters
    ----------
    status : Status
        Fitted or complete.
    values : mapping of str to array or scalar
        Everything that the status promises, by variable name.
    l2 : float
        The regularisation strength λ.
    identity, attrs : mapping
        The identity and the root attributes of the store.
    center : array, optional
        (P,) the centre of the penalty; 0 by default.
    """
    for name in (*promised_large(identity, status), *promised_small(identity, status)):
        value = np.asarray(values[name])
        if value.dtype.kind == "f" and name not in _SOME_MISSING and not np.isfinite(value).all():
            yield f"{name}: {_count(~np.isfinite(value))} values are not finite"
        elif value.dtype.kind == "f" and name.endswith("_seconds") and (value < 0).any():
            yield f"{name}: {value} is negative"
        elif BY_NAME[name].fill == -1 and (value < 0).any():
            kind = "flags are not set" if BY_NAME[name].dtype == "i1" else "counts are negative"
            yield f"{name}: {_count(value < 0)} {kind}"
        elif BY_NAME[name].dtype == "string" and not str(value):
            yield f"{name}: is empty"
    yield from _of_metrics(values)
    if center is not None or not identity.get("center"):  # otherwise the centre is damaged, which is reported already
        yield from _of_weights(values, l2, float(attrs["penalty_scale"]), center)
    if status == Status.COMPLETE and identity["k"]:
        yield from _of_eigenpairs(values, OUTERMOST, str(identity["which"]))
        if LOWEST.eigenvalues in values:
            yield from _of_eigenpairs(values, LOWEST, "SA")
        yield from _of_geometry(values, identity)
        if "block_eigenvalues" in values:
            yield from _of_blocks(values, str(identity["which"]))


def _of_metrics(values: Mapping[str, Any]) -> Iterator[str]:
    confusion = np.asarray(values["confusion"]).astype(np.float64)
    hits, rows = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a class without rows has no accuracy: 0/0 is NaN
        by_class, overall = hits / rows, hits.sum(axis=-1) / rows.sum(axis=-1)
    if not np.array_equal(by_class, values["class_accuracy"], equal_nan=True):
        yield "class_accuracy: does not match the confusion counts"
    if not np.allclose(overall, values["accuracy"], rtol=1e-12, atol=0):
        yield "accuracy: does not match the confusion counts"
    for name in ("loss", "polish_distance", "polish_stationarity"):
        if (np.asarray(values.get(name, 0)) < 0).any():
            yield f"{name}: is negative"


def _of_weights(
    values: Mapping[str, Any], l2: float, penalty_scale: float, center: NDArray[np.float32] | None
) -> Iterator[str]:
    weights = np.asarray(values["weights"], np.float64)
    norm = float(np.linalg.norm(weights))
    distance = norm if center is None else float(np.linalg.norm(weights - center))
    expected = {"weights_norm": norm, "distance": distance, "penalty": penalty_scale * l2 * distance**2}
    for name in expected.keys() & values.keys():
        if not np.isclose(float(values[name]), expected[name], rtol=1e-6, atol=0):
            yield f"{name}: does not match the weights"


def _of_eigenpairs(values: Mapping[str, Any], names: PairVariables, which: str) -> Iterator[str]:
    eigenvalues, vectors = np.asarray(values[names.eigenvalues]), np.asarray(values[names.eigenvectors])
    # If the solver found fewer pairs than it was asked for, the others are NaN and flagged as not converged.
    there = np.isfinite(eigenvalues)
    found = int(there.sum())
    if not there[:found].all() or not found:
        yield f"{names.eigenvalues}: {len(there) - found} of {len(there)} are missing"
        return
    if np.isfinite(vectors).all(axis=1).tolist() != there.tolist():
        yield f"{names.eigenvectors}: are not finite where their eigenvalues are"
        return
    residual_norm = np.asarray(values[names.residual_norm])
    if np.isfinite(residual_norm).tolist() != there.tolist():
        yield f"{names.residual_norm}: is not finite where the eigenvalues are"
    elif (residual_norm[there] < 0).any():
        yield f"{names.residual_norm}: is negative"
    if np.isnan(values[names.bound]):
        yield f"{names.bound}: is missing"
    if (np.asarray(values[names.converged])[~there] > 0).any():
        yield f"{names.converged}: is set where an eigenvalue is missing"
    if (np.diff(_distance(eigenvalues[there], which)) > 0).any():
        yield f"{names.eigenvalues}: are not in the order of {which}"
    basis = vectors[there].astype(np.float64)
    excess = float(np.abs(basis @ basis.T - np.eye(found)).max())
    if excess > ORTHONORMAL:
        yield f"{names.eigenvectors}: |V Vᵀ − I| is {excess:.2g}, above {ORTHONORMAL:g}"


def _of_geometry(values: Mapping[str, Any], identity: Mapping[str, Any]) -> Iterator[str]:
    for name in _SHARES:
        share = np.asarray(values[name])
        if (share < -_ROUNDING).any() or (share > 1 + _ROUNDING).any():
            yield f"{name}: is not between 0 and 1"
    for name in sorted(_NOT_NEGATIVE & values.keys()):
        if (np.asarray(values[name]) < 0).any():
            yield f"{name}: is negative"
    if (np.abs(values["class_gradient_cosine"]) > 1 + _ROUNDING).any():
        yield "class_gradient_cosine: is not between -1 and 1"
    if "class_response" in values:
        yield from _of_responses(values, float(identity["response"]))
    for name in _ALWAYS_SOME:
        if name in values and not np.isfinite(values[name]).any():
            yield f"{name}: is missing"
    if not identity["hessian_samples"]:
        yield from _of_identity(values)


def _of_blocks(values: Mapping[str, Any], which: str) -> Iterator[str]:
    """Check that each block has eigenvalues in order, and none of a larger magnitude than the whole matrix."""
    eigenvalues = np.abs(np.asarray(values["block_eigenvalues"]))
    if not np.isfinite(eigenvalues[:, 0]).all() or not np.isfinite(values["block_trace"]).all():
        yield "block_eigenvalues: a block lacks its largest eigenvalue or its trace"
        return
    if (np.diff(eigenvalues, axis=1) > 0).any():
        yield "block_eigenvalues: are not in the order of their magnitudes"
    if which == "LM":
        off = float(values["residual_norm"][0]) + eigenvalues.max(initial=0, where=np.isfinite(eigenvalues)) * _ROUNDING
        largest = abs(float(values["eigenvalues"][0])) + off
        if (eigenvalues[:, 0] > largest).any():
            yield f"block_eigenvalues: {eigenvalues[:, 0].max():.6g} exceeds the largest of the whole matrix"


def _of_responses(values: Mapping[str, Any], rise: float) -> Iterator[str]:
    """Check that every step has the wanted rise, and that a step that was not found has no results."""
    if (np.abs(values["class_response"]) > 1).any():
        yield "class_response: is not a difference of accuracies"
    missing = ~np.isfinite(np.asarray(values["response_step"]))
    if (np.abs(np.asarray(values["measured_rise"])[~missing] - rise) > (RISE_TOLERANCE + _ROUNDING) * rise).any():
        yield f"measured_rise: is not within {RISE_TOLERANCE:.0%} of {rise:g} nat"
    for name in ("measured_rise", "predicted_rise", "class_response"):
        if np.isfinite(np.asarray(values[name])[missing]).any():
            yield f"{name}: is set where response_step is missing"


def _of_identity(values: Mapping[str, Any]) -> Iterator[str]:
    """Check that Σ_c π_c vᵀH_c v = μ up to the stored error."""
    eigenvalues = np.asarray(values["eigenvalues"])
    there = np.isfinite(eigenvalues)
    rows = np.asarray(values["confusion"])[0].sum(axis=-1)
    curvature = np.asarray(values["class_curvature"])[:, 0][:, rows > 0] @ (rows[rows > 0] / rows.sum())
    if not there.any():
        return
    scale = np.abs(eigenvalues[there]).max() or 1.0
    error = np.abs(curvature - eigenvalues)[there].max() / scale
    if not abs(error - float(values["class_identity_error"])) <= IDENTITY:
        stored = float(values["class_identity_error"])
        yield f"class_identity_error: is {stored:.3g}, but {error:.3g} for the stored values"


def _distance(eigenvalues: NDArray[np.float64], which: str) -> NDArray[np.float64]:
    return {"LM": np.abs(eigenvalues), "LA": eigenvalues, "SA": -eigenvalues}[which]


def _count(mask: NDArray[np.bool_]) -> str:
    return f"{int(mask.sum())} of {mask.size}"
