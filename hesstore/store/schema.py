"""The schema of a store: the table of its variables, and the description from which a new store is made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from hesstore.config.l2_grid import AXIS, value_text
from hesstore.store.parameter_coordinates import layer_names
from hesstore.store.variable import BOOKKEEPING, CROSS_ENTROPY, HESSIAN, TEXT, Variable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

SCHEMA_VERSION = 1
"""The version of the schema that this hesstore writes, and the only one that it reads.

It must be raised by any change that an older hesstore would misread, or would leave half done when it writes.
"""

AXIS_ROLE = "grid"
"""The attribute ``role`` of the coordinate along which a collection of checkpoints lies."""

_AXIS_NAMES = {"step": "training step", "epoch": "epoch", "checkpoint": "number of the checkpoint"}
_AXIS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

SPLITS = ("train", "test")
SIGNS = (-1, 1)
"""The two directions along an eigenvector."""
RISE_TOLERANCE = 0.05
"""The relative difference that is allowed between ``measured_rise`` and the setting ``response``."""
LONGEST_STEP = 0.5
"""The longest step of a class response, relative to the norm of the weights."""

IMPORTED = ("distance",)
"""Optional variables that an import has without the setting that asks for them, if its identity names them.

The identity of an import has the column of the files as ``distance``: they do not have the reference itself.
"""
REFERENCES = ("center", "start")
"""Weights that a store keeps, if its sweep was given some: the centre of the penalty, and those before the first fit.

They are coordinates with the dimension param, and the identity has the digest of each of them under the same name.
"""

DENSITY_POINTS = 512
"""The number of eigenvalues at which the spectral density is recorded; see :func:`density_grid`."""
DENSITY_SCALE = 1e-3
"""The scale s of that grid: it is nearly even between −s and s, and nearly logarithmic beyond."""
DENSITY_RANGE = 1e3
"""The last value of that grid."""


def density_grid() -> tuple[float, ...]:
    """Return the eigenvalues μ at which the spectral density is recorded.

    They are s·sinh(t) at evenly spaced t, from −:data:`DENSITY_RANGE` to :data:`DENSITY_RANGE`.
    """
    last = math.asinh(DENSITY_RANGE / DENSITY_SCALE)
    half = DENSITY_POINTS - 1
    return tuple(DENSITY_SCALE * math.sinh(last * (2 * index - half) / half) for index in range(DENSITY_POINTS))


class Status(IntEnum):
    """The state of a grid point. Values below :attr:`COMPLETE` promise nothing about the spectrum."""

    PENDING = 0
    FITTED = 1
    COMPLETE = 2
    FAILED = 3


class Run(NamedTuple):
    """A run, which is one pass along λ: its ID, seed and direction."""

    id: int
    seed: int
    direction: str


@dataclass(frozen=True)
class Point:
    """A grid point: a run, its index on the grid, and the value there, which is λ in a sweep."""

    run: Run
    index: int
    value: float
    axis: str = AXIS

    @property
    def text(self) -> str:
        """The value, as in ``λ = 0.001`` or ``step = 1000``."""
        return value_text(self.axis, self.value)


def grid_axis(identity: Mapping[str, Any]) -> str:
    """Return the name of the grid's dimension in a store with this identity."""
    return str(identity.get("axis", AXIS))


def l2_at(point: Point, identity: Mapping[str, Any]) -> float:
    """Return λ at a grid point: its value in a sweep, and one λ for all checkpoints of a collection."""
    return point.value if point.axis == AXIS else float(identity["l2"][0])


def axis_of(data: xr.Dataset | xr.DataArray) -> str:
    """Return the name of the grid's dimension in a Dataset, or in one of its arrays.

    It is the name of the coordinate whose attribute ``role`` says so; without one, the data are those of a sweep.
    """
    roles = ((str(name), coord.attrs.get("role")) for name, coord in data.coords.items())
    return next((name for name, role in roles if role == AXIS_ROLE), AXIS)


def axis_attrs(axis: str) -> dict[str, Any]:
    """Return the attributes of the grid's coordinate."""
    if axis == AXIS:
        return dict(COORDINATE_ATTRS[AXIS])
    return {"long_name": _AXIS_NAMES.get(axis, axis.replace("_", " ")), "role": AXIS_ROLE}


def coordinate_attrs(name: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of another coordinate; eigenvalues are in nats with the cross-entropy."""
    attrs = dict(COORDINATE_ATTRS[name])
    if identity.get("loss", CROSS_ENTROPY) != CROSS_ENTROPY and attrs.get("units") == "nat":
        del attrs["units"]
    return attrs


def is_axis_name(name: str) -> bool:
    """Whether a grid's dimension can have this name: that of no dimension, coordinate or variable, of results too."""
    taken = {*BY_NAME, *COORDINATE_ATTRS, *_RESULTS} - {AXIS}
    return bool(_AXIS_NAME.fullmatch(name)) and name not in taken


class PairVariables(NamedTuple):
    """The names of the variables that hold a set of eigenpairs."""

    eigenvalues: str
    eigenvectors: str
    residual_norm: str
    converged: str
    bound: str


OUTERMOST = PairVariables("eigenvalues", "eigenvectors", "residual_norm", "converged", "eigenvalue_bound")
"""The k eigenpairs at the end of the spectrum that the setting ``which`` names."""
LOWEST = PairVariables(
    *("lowest_eigenvalues", "lowest_eigenvectors", "lowest_residual_norm", "lowest_converged", "lowest_bound")
)
"""The algebraically smallest eigenpairs, as many as the setting ``lowest`` asks for."""

_NAN = math.nan
_RL = ("run", AXIS)
_SL = ("split", "label")


def _real(
    name: str,
    dims: tuple[str, ...],
    long_name: str,
    units: str = "",
    *,
    setting: str = "",
    by_l2: bool = False,
    of_hessian: bool = False,
) -> Variable:
    """A variable of the class geometry."""
    return Variable(
        name, (*_RL, *dims), "f8", _NAN, long_name, units, setting=setting, by_l2=by_l2, of_hessian=of_hessian
    )


_RESPONSE = (
    _real(
        "class_response",
        ("mode", "sign", "label"),
        "change of the class's test accuracy when the weights move by response_step along the eigenvector",
        setting="response",
        by_l2=True,
    ),
    *(
        _real(name, ("mode", "sign"), long_name, units, setting="response", by_l2=True)
        for name, long_name, units in (
            (
                "response_step",
                "step along sign * eigenvector at which the training loss has risen by the setting response",
                "",
            ),
            ("predicted_rise", "rise of the training loss after that step, predicted by its quadratic model", "nat"),
            ("measured_rise", "rise of the training loss after that step", "nat"),
        )
    ),
)
_ESTIMATES = tuple(
    _real(name, (), long_name, units, setting="probes", of_hessian=name.startswith("scalar_curvature"))
    for name, long_name, units in (
        ("trace", "trace of the Hessian of the mean training loss", "nat"),
        ("trace_error", "half-width of the 95 % interval of the trace; 0 if it is exact", "nat"),
        ("frobenius_norm", "Frobenius norm of the Hessian of the mean training loss", "nat"),
        ("frobenius_norm_error", "half-width of the 95 % interval of the Frobenius norm", "nat"),
        ("scalar_curvature", "scalar curvature of the graph of the objective", ""),
        ("scalar_curvature_error", "half-width of the 95 % interval of the scalar curvature", ""),
    )
)
_LOSS_CURVATURE = (
    _real(
        "loss_scalar_curvature",
        (),
        "scalar curvature of the graph of the mean training loss",
        setting="probes",
        of_hessian=True,
    ),
    _real(
        "loss_scalar_curvature_error",
        (),
        "half-width of the 95 % interval of that scalar curvature",
        setting="probes",
        of_hessian=True,
    ),
)
_GEOMETRY = (
    _real("class_slope", ("mode", *_SL), "slope of the class's mean loss along the eigenvector", "nat", by_l2=True),
    _real(
        "class_curvature",
        ("mode", *_SL),
        "curvature of the class's mean loss along the eigenvector",
        "nat",
        by_l2=True,
    ),
    _real(
        "class_identity_error",
        (),
        "largest |sum over classes of share * class curvature - eigenvalue| on the rows of the Hessian, over |mu_1|",
    ),
    *_RESPONSE,
    _real("gradient_norm", ("split",), "2-norm of the gradient of the split's mean loss", "nat"),
    _real("gradient_share", ("split",), "share of that gradient's squared norm within the span of the eigenvectors"),
    _real("class_gradient_norm", _SL, "2-norm of the gradient of the class's mean loss", "nat"),
    _real(
        "class_gradient_share", _SL, "share of the class gradient's squared norm within the span of the eigenvectors"
    ),
    _real(
        "class_gradient_cosine", (*_SL, "other"), "cosine between the gradients of two classes' mean losses", by_l2=True
    ),
    _real("weights_share", (), "share of the weights' squared norm within the span of the eigenvectors"),
    _real(
        "stationarity",
        (),
        "2-norm of the objective's gradient over that of the training loss's gradient: 0 at a stationary point",
    ),
    *_ESTIMATES,
    *_LOSS_CURVATURE,
    _real(
        "density",
        ("mu",),
        "spectral density of the Hessian of the mean training loss",
        "nat-1",
        setting="density",
        by_l2=True,
    ),
    _real(
        "density_error",
        ("mu",),
        "half-width of the 95 % interval of the density; NaN where the quadrature does not resolve it",
        "nat-1",
        setting="density",
        by_l2=True,
    ),
)


_BLOCKS = (
    _real(
        "block_eigenvalues",
        ("block", "block_mode"),
        "eigenvalue of the layer's diagonal block of the Hessian of the mean training loss",
        "nat",
        setting="blocks",
    ),
    _real("block_residual_norm", ("block", "block_mode"), "2-norm of H v - mu v in the block", "nat", setting="blocks"),
    _real(
        "block_bound",
        ("block",),
        "no eigenvalue of the block except the given ones has a larger magnitude, with probability 1 - eta",
        "nat",
        setting="blocks",
    ),
    _real("block_trace", ("block",), "trace of the block", "nat", setting="blocks"),
    _real(
        "block_trace_error",
        ("block",),
        "half-width of the 95 % interval of the trace of the block; 0 if it is exact",
        "nat",
        setting="blocks",
    ),
)


def _eigenpairs(names: PairVariables, dim: str, setting: str, eigenvalue: str, beyond: str) -> tuple[Variable, ...]:
    """The variables of a set of eigenpairs along ``dim``."""
    shift = "the objective's Hessian has the same eigenvectors and eigenvalues mu + 2 * penalty_scale * l2"
    flags = {"flag_values": [0, 1], "flag_meanings": "no yes"}
    bound = "no eigenvalue except the given ones lies beyond it, with probability 1 - eta"
    within = "whether the residual norm is within the tolerance"
    dims = (*_RL, dim)
    return (
        Variable(names.eigenvalues, dims, "f8", _NAN, eigenvalue, "nat", {"comment": shift}, setting),
        Variable(names.residual_norm, dims, "f8", _NAN, "2-norm of H v - mu v", "nat", setting=setting),
        Variable(names.bound, _RL, "f8", _NAN, bound, "nat", {"comment": beyond}, setting),
        Variable(names.converged, dims, "i1", -1, within, attrs=flags, setting=setting),
        Variable(names.eigenvectors, (*dims, "param"), "f4", _NAN, "unit eigenvector of the Hessian", setting=setting),
    )


VARIABLES = (
    *_eigenpairs(
        OUTERMOST,
        "mode",
        "",
        "eigenvalue of the Hessian of the mean training loss",
        "of |mu| for the largest magnitudes (LM), of mu for the largest (LA) or smallest (SA) eigenvalues",
    ),
    *_eigenpairs(
        LOWEST,
        "lowest",
        "lowest",
        "algebraically smallest eigenvalue of the Hessian of the mean training loss",
        "no eigenvalue except those of lowest_eigenvalues is smaller",
    ),
    Variable("gradient", (*_RL, "param"), "f4", _NAN, "gradient of the mean training loss, without the penalty", "nat"),
    Variable("weights", (*_RL, "param"), "f4", _NAN, "trained parameter"),
    Variable(
        "statistics",
        (*_RL, "statistic"),
        "f4",
        _NAN,
        "running statistic of batch norm",
        setting="statistics",
        by_l2=True,
    ),
    Variable("loss", (*_RL, "split"), "f8", _NAN, "mean cross-entropy, without the penalty", "nat"),
    Variable("accuracy", (*_RL, "split"), "f8", _NAN, "fraction of the rows that are classified correctly"),
    Variable("class_accuracy", (*_RL, *_SL), "f8", _NAN, "fraction of the class's rows that are classified correctly"),
    Variable("confusion", (*_RL, *_SL, "pred"), "i4", -1, "number of rows by true class and predicted class"),
    Variable(
        "penalty",
        _RL,
        "f8",
        _NAN,
        "penalty term of the objective, penalty_scale * l2 * |weights - center|^2, where center is 0 by default",
        "nat",
    ),
    Variable("weights_norm", _RL, "f8", _NAN, "2-norm of the weights"),
    Variable("distance", _RL, "f8", _NAN, "2-norm of weights - center, or of weights - reference", setting="center"),
    Variable("epochs", _RL, "i4", -1, "number of epochs of the fit"),
    Variable("polish_distance", _RL, "f8", _NAN, "2-norm of the change of the weights by polishing", setting="polish"),
    Variable("polish_stationarity", _RL, "f8", _NAN, "stationarity after polishing", setting="polish"),
    Variable(
        "polish_evaluations",
        _RL,
        "i4",
        -1,
        "number of gradients and Hessian products over the whole training set for polishing",
        setting="polish",
    ),
    Variable("matvecs", _RL, "i4", -1, "number of Hessian products for the spectrum"),
    Variable("fit_seconds", _RL, "f8", _NAN, "duration of the fit", "s"),
    Variable("analysis_seconds", _RL, "f8", _NAN, "duration of the analysis", "s"),
    Variable("solver_message", _RL, "string", "", "how the eigensolver ended", attrs=BOOKKEEPING),
    Variable("failure", _RL, "string", "", "why the grid point failed"),
    *_GEOMETRY,
    *_BLOCKS,
    Variable("digest", _RL, "u8", 0, "64-bit BLAKE2b of the grid point's large variables", attrs=BOOKKEEPING),
    Variable(
        "entries_digest",
        _RL,
        "u8",
        0,
        "64-bit BLAKE2b of the grid point's status and small variables",
        attrs=BOOKKEEPING,
    ),
    Variable(
        "status",
        _RL,
        "i1",
        int(Status.PENDING),
        "state of the grid point",
        attrs={
            "flag_values": [int(status) for status in Status],
            "flag_meanings": " ".join(status.name.lower() for status in Status),
        },
    ),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}

_LARGE_AT = {
    Status.FITTED: ("weights", "statistics"),
    Status.COMPLETE: (
        *("weights", "statistics", "gradient", "eigenvectors", "lowest_eigenvectors"),
        *(variable.name for variable in _GEOMETRY if variable.is_large),
    ),
}
_FITTED_ENTRIES = (
    *("loss", "accuracy", "class_accuracy", "confusion"),
    *("penalty", "weights_norm", "distance", "epochs", "fit_seconds"),
    *("polish_distance", "polish_stationarity", "polish_evaluations"),
)
_SMALL_AT = {
    Status.FITTED: _FITTED_ENTRIES,
    Status.COMPLETE: (
        *_FITTED_ENTRIES,
        "eigenvalues",
        "residual_norm",
        "eigenvalue_bound",
        "converged",
        *("lowest_eigenvalues", "lowest_residual_norm", "lowest_bound", "lowest_converged"),
        "matvecs",
        "analysis_seconds",
        "solver_message",
        *(variable.name for variable in (*_GEOMETRY, *_BLOCKS) if not variable.is_large),
    ),
    Status.FAILED: ("failure",),
}

GEOMETRY = frozenset(variable.name for variable in (*_GEOMETRY, *_BLOCKS))
"""The variables of class geometry and blocks. They are NaN for classes without rows and modes that were not found."""

AT_FIT = frozenset({*_LARGE_AT[Status.FITTED], *_SMALL_AT[Status.FITTED], *_SMALL_AT[Status.FAILED]})
"""The variables that do not depend on the analysis."""

OF_ANALYSIS = frozenset({*_LARGE_AT[Status.COMPLETE], *_SMALL_AT[Status.COMPLETE]}) - AT_FIT
"""The variables that an analysis records. A store with k = 0 has none of them."""

COORDINATE_ATTRS: dict[str, dict[str, Any]] = {
    "run": {"long_name": "run: one pass along the grid"},
    AXIS: {"long_name": "L2 regularisation strength λ"},
    "mode": {"long_name": "eigenpair, in the solver's order"},
    "lowest": {"long_name": "lowest eigenpair, in ascending order"},
    "split": {"long_name": "part of the data", **TEXT},
    "label": {"long_name": "true class"},
    "pred": {"long_name": "predicted class"},
    "other": {"long_name": "other class"},
    "sign": {"long_name": "direction along the eigenvector"},
    "mu": {"long_name": "eigenvalue", "units": "nat"},
    "block": {"long_name": "layer whose parameters the diagonal block is about", **TEXT},
    "block_mode": {"long_name": "eigenvalue of the block, by magnitude"},
    "seed": {"long_name": "seed of the run"},
    "direction": {"long_name": "order in which the run visits the grid", **TEXT},
    "layer": {"long_name": "layer of the parameter", **TEXT},
    "kind": {"long_name": "kind of the parameter, such as weight or bias", **TEXT},
    "out_index": {"long_name": "index along the parameter's first axis"},
    "in_index": {"long_name": "index along its other axes, flattened; -1 if there are none"},
    "buffer": {"long_name": "buffer of the network that the running statistic belongs to", **TEXT},
    "center": {"long_name": "centre of the penalty, in the space of the weights"},
    "start": {"long_name": "weights before the first grid point of each run"},
}

GRID_SETTINGS = frozenset({"l2", "seeds", "direction", "values", "source"})
"""The settings along which a store can grow: more grid points, more runs. The last two are those of a collection."""

_RESULTS = frozenset(
    {
        *("angle", "track", "measure", "quantity", "transition", "change"),
        *("strength", "strengths", "hysteresis", "low", "high", "count"),
        *("crossings", "censored", "chance", "index", "index_complete", "rank"),
        *("overlap", "principal_angle", "sharpness", "step_length", "cluster", "size"),
        *("share", "eigenvalue", "smallest_eigenvalue", "confidence", "runner_up", "participation_ratio"),
        *("layer_mass", "class_skill", "slope", "slope_share", "curvature", "curvature_share"),
        *(
            "response",
            "identity_error",
            "effective_dimension",
            "effective_dimension_bound",
            "spectral_entropy",
            "outliers",
        ),
        *("outlier_gap", "from", "to"),
    }
)
"""Names of dimensions and variables in the results of analyses."""

COLLECTION = ("axis", "values", "source")
"""What the identity of a collection of checkpoints has in addition: its axis, its grid, and a digest of its files."""

SPECTRUM_SETTINGS = frozenset(
    {
        *("k", "operator", "which", "lowest", "solver", "tol", "max_matvecs", "slack", "eta", "hessian_samples"),
        *("blocks", "block_k", "response", "probes", "density", "density_probes", "density_steps", "density_width"),
    }
)
"""The settings whose change requires new analyses, but no new fits."""


def variables(identity: Mapping[str, Any]) -> tuple[Variable, ...]:
    """Return the variables of a store with this identity: optional results only where its settings ask for them."""
    axis = grid_axis(identity)
    loss, operator = str(identity.get("loss", CROSS_ENTROPY)), str(identity.get("operator", HESSIAN))
    return tuple(
        variable.along(axis).of_loss(loss).of_operator(operator)
        for variable in VARIABLES
        if _is_recorded(variable, identity)
    )


def required_settings(variable: Variable) -> tuple[str, ...]:
    """Return the names of the settings that must not be 0 in a store that has ``variable``."""
    of_analysis = ("k",) if variable.name in OF_ANALYSIS else ()
    return (*of_analysis, variable.setting) if variable.setting else of_analysis


_OFF = (None, 0, "", "none")
"""The values of settings that ask for no variable."""


def _is_recorded(variable: Variable, identity: Mapping[str, Any]) -> bool:
    if variable.of_hessian and identity.get("operator", HESSIAN) != HESSIAN:
        return False
    is_imported = variable.name in IMPORTED and bool(identity.get(variable.name))
    return is_imported or all(identity.get(name) not in _OFF for name in required_settings(variable))


def coordinate_names(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the coordinates of such a store: those of its variables' dimensions, and their labels."""
    unused = {dim for variable in VARIABLES for dim in variable.dims}
    unused -= {dim for variable in VARIABLES if _is_recorded(variable, identity) for dim in variable.dims}
    unused |= {name for name in REFERENCES if not identity.get(name)}
    unused |= set() if identity.get("statistics") else {"buffer"}
    names = (grid_axis(identity) if name == AXIS else name for name in COORDINATE_ATTRS)
    return tuple(name for name in names if name not in unused)


def promised_large(identity: Mapping[str, Any], status: Status) -> tuple[str, ...]:
    """Return the names of the large variables that ``status`` promises in such a store, which its digest covers."""
    return _those_of(identity, _LARGE_AT.get(status, ()))


def promised_small(identity: Mapping[str, Any], status: Status) -> tuple[str, ...]:
    """Return the names of the small variables that ``status`` promises, which the ``entries_digest`` covers."""
    return _those_of(identity, _SMALL_AT.get(status, ()))


def _those_of(identity: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if _is_recorded(BY_NAME[name], identity))


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """The description from which a new store is made.

    Parameters
    ----------
    grid : tuple of float
        The values of the grid, ascending: λ in a sweep.
    runs : tuple of Run
        The runs, by ID.
    k, num_classes : int
        The number of eigenpairs per grid point, or 0 for a store without analyses; and the number of classes.
    parameters : sequence of (str, sequence of int)
        The name and the shape of each parameter, in the order of their entries; they label the dimension ``param``.
    identity : mapping
        Everything that decides the results: the settings, the data digest and the parameter layout.
    attrs : mapping
        Further root attributes: the full config, the environment, and so on.
    notes : mapping of str to mapping, optional
        Further attributes of variables, by name.
    references : mapping of str to ndarray, optional
        (P,) float32, the :data:`REFERENCES` that ``identity`` has the digests of. A description that is read from a
        store has none of them.
    """

    grid: tuple[float, ...]
    runs: tuple[Run, ...]
    k: int
    num_classes: int
    parameters: Sequence[tuple[str, Sequence[int]]]
    identity: Mapping[str, Any]
    attrs: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    references: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables of the store, which follow from its identity."""
        return variables(self.identity)

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each dimension."""
        return {
            "run": len(self.runs),
            grid_axis(self.identity): len(self.grid),
            "mode": self.k,
            "lowest": int(self.identity.get("lowest", 0)),
            "param": sum(math.prod(shape) for _, shape in self.parameters),
            "statistic": sum(math.prod(shape) for _, shape in self.identity.get("statistics", ())),
            "split": len(SPLITS),
            "label": self.num_classes,
            "pred": self.num_classes,
            "other": self.num_classes,
            "sign": len(SIGNS),
            "mu": DENSITY_POINTS,
            "block": len(layer_names(self.identity.get("parameters", ()))),
            "block_mode": int(self.identity.get("block_k", 0)),
        }

    @property
    def large_bytes(self) -> int:
        """The size of the large variables at one grid point, in bytes, before compression."""
        sizes, large = self.sizes, (variable for variable in self.variables if variable.is_large)
        return sum(int(variable.dtype[1:]) * math.prod(sizes[dim] for dim in variable.dims[2:]) for variable in large)
