"""What a store holds: the one table of variables, and what a new store is made from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

SCHEMA_VERSION = 3
"""Raised by any change that an older hesstore would misread, or would leave half done when it writes.

2: the root attribute ``seal`` and the variable ``entries_digest``.
3: class geometry: what the eigenvectors do to the classes, and the curvature of the loss graph.
"""

AXIS = "l2"
"""The name of the grid's dimension and coordinate; nothing else knows it."""

SPLITS = ("train", "test")
SIGNS = (-1, 1)
"""The two ways along an eigenvector."""

DENSITY_POINTS = 512
"""Eigenvalues at which the spectral density is given; :func:`density_grid`."""
DENSITY_SCALE = 1e-3
"""The grid's s: between −s and s it is nearly even, beyond nearly logarithmic."""
DENSITY_RANGE = 1e3
"""Its last value."""


def density_grid() -> tuple[float, ...]:
    """The eigenvalues μ at which the spectral density is given: s·sinh(t) at evenly spaced t, from −range to range."""
    last = math.asinh(DENSITY_RANGE / DENSITY_SCALE)
    half = DENSITY_POINTS - 1
    return tuple(DENSITY_SCALE * math.sinh(last * (2 * index - half) / half) for index in range(DENSITY_POINTS))


class Status(IntEnum):
    """How far one λ of one run is. Values below :attr:`COMPLETE` promise nothing about the spectrum."""

    PENDING = 0
    FITTED = 1
    COMPLETE = 2
    FAILED = 3


class Run(NamedTuple):
    """One pass along λ: its ID, seed and direction."""

    id: int
    seed: int
    direction: str


@dataclass(frozen=True)
class Point:
    """A grid point: a run, the index of λ on the grid, and λ itself."""

    run: Run
    index: int
    l2: float


@dataclass(frozen=True)
class Variable:
    """One array of the store.

    Parameters
    ----------
    name : str
        Its name.
    dims : tuple of str
        Its dimensions; the first two are always run and l2.
    dtype : str
        NumPy dtype, or ``string``.
    fill : object
        What an entry reads as before it is written.
    long_name, units : str
        For people and for plot labels.
    attrs : mapping
        Further attributes.
    since : int
        The first schema that has it.
    by_l2 : bool
        Whether each λ has a file of its own, written by whoever computed it; always so for parameters.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    fill: Any
    long_name: str
    units: str = "1"
    attrs: Mapping[str, Any] = field(default_factory=dict)
    since: int = 1
    by_l2: bool = False

    @property
    def is_large(self) -> bool:
        """Large arrays have one file a λ and belong to whoever computed it; small ones one chunk a run."""
        return self._of_parameters or self.by_l2

    @property
    def _of_parameters(self) -> bool:
        return self.dims[-1] == "param"

    def chunks(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Chunk shape: one row of parameters, or all of a λ; of small arrays all of a run."""
        whole = {"param"} if self._of_parameters else set(self.dims) - {"run"}
        if self.by_l2:
            whole.remove("l2")
        return tuple(sizes[dim] if dim in whole else 1 for dim in self.dims)

    def shards(self, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
        """Shard shape of an array with several chunks a λ: one file a λ."""
        if not (self._of_parameters and "mode" in self.dims):
            return None
        return tuple(1 if dim in {"run", "l2"} else sizes[dim] for dim in self.dims)


_NAN = math.nan
_RL = ("run", "l2")
_SL = ("split", "label")


def _real(name: str, dims: tuple[str, ...], long_name: str, units: str = "1", *, by_l2: bool = False) -> Variable:
    """A part of the class geometry."""
    return Variable(name, (*_RL, *dims), "f8", _NAN, long_name, units, since=3, by_l2=by_l2)


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
    _real(
        "class_response",
        ("mode", "sign", "label"),
        "change of the class's test accuracy when the weights move by response_step along the eigenvector",
        by_l2=True,
    ),
    _real("response_step", ("mode", "sign"), "length of the step along sign * eigenvector", by_l2=True),
    _real(
        "predicted_rise",
        ("mode", "sign"),
        "rise of the training loss at that step by its quadratic model",
        "nat",
        by_l2=True,
    ),
    _real("measured_rise", ("mode", "sign"), "rise of the training loss at that step", "nat", by_l2=True),
    _real("gradient_norm", ("split",), "2-norm of the gradient of the split's mean loss", "nat"),
    _real("gradient_share", ("split",), "share of that gradient's squared norm within the span of the eigenvectors"),
    _real("class_gradient_norm", _SL, "2-norm of the gradient of the class's mean loss", "nat"),
    _real(
        "class_gradient_share", _SL, "share of the class gradient's squared norm within the span of the eigenvectors"
    ),
    _real(
        "class_gradient_cosine", (*_SL, "other"), "cosine between the gradients of two classes' mean losses", by_l2=True
    ),
    _real("weights_norm", (), "2-norm of the weights"),
    _real("weights_share", (), "share of the weights' squared norm within the span of the eigenvectors"),
    _real(
        "stationarity",
        (),
        "2-norm of the objective's gradient over that of the training loss's: 0 at a stationary point",
    ),
    _real("trace", (), "trace of the Hessian of the mean training loss", "nat"),
    _real("trace_error", (), "standard error of the trace", "nat"),
    _real("frobenius_norm", (), "Frobenius norm of the Hessian of the mean training loss", "nat"),
    _real("frobenius_norm_error", (), "standard error of the Frobenius norm", "nat"),
    _real("scalar_curvature", (), "scalar curvature of the graph of the objective"),
    _real("scalar_curvature_error", (), "standard error of the scalar curvature"),
    _real("density", ("mu",), "spectral density of the Hessian of the mean training loss", "nat-1", by_l2=True),
)
VARIABLES = (
    Variable(
        "eigenvalues",
        (*_RL, "mode"),
        "f8",
        _NAN,
        "eigenvalue of the Hessian of the mean training loss",
        "nat",
        {"comment": "the objective's Hessian has the same eigenvectors and eigenvalues mu + 2 * penalty_scale * l2"},
    ),
    Variable("residual_norm", (*_RL, "mode"), "f8", _NAN, "2-norm of H v - mu v", "nat"),
    Variable("converged", (*_RL, "mode"), "bool", 0, "residual norm is within the tolerance"),
    Variable("eigenvectors", (*_RL, "mode", "param"), "f4", _NAN, "unit eigenvector of the Hessian"),
    Variable("gradient", (*_RL, "param"), "f4", _NAN, "gradient of the mean training loss, without the penalty", "nat"),
    Variable("weights", (*_RL, "param"), "f4", _NAN, "trained parameter"),
    Variable("loss", (*_RL, "split"), "f8", _NAN, "mean cross-entropy, without the penalty", "nat"),
    Variable("accuracy", (*_RL, "split"), "f8", _NAN, "fraction of rows classified right"),
    Variable("class_accuracy", (*_RL, "split", "label"), "f8", _NAN, "fraction of the class's rows classified right"),
    Variable("confusion", (*_RL, "split", "label", "pred"), "i4", -1, "rows by true class and predicted class"),
    Variable("penalty", _RL, "f8", _NAN, "penalty term of the objective, penalty_scale * l2 * |weights|^2", "nat"),
    Variable("epochs", _RL, "i4", -1, "epochs trained"),
    Variable("matvecs", _RL, "i4", -1, "Hessian products for the spectrum"),
    Variable("fit_seconds", _RL, "f8", _NAN, "time to fit", "s"),
    Variable("analysis_seconds", _RL, "f8", _NAN, "time to analyse", "s"),
    Variable("solver_message", _RL, "string", "", "how the eigensolver ended"),
    Variable("failure", _RL, "string", "", "why this strength failed"),
    *_GEOMETRY,
    Variable("digest", _RL, "u8", 0, "64-bit BLAKE2b of this strength's large arrays"),
    Variable("entries_digest", _RL, "u8", 0, "64-bit BLAKE2b of this strength's status and small entries", since=2),
    Variable(
        "status",
        _RL,
        "i1",
        int(Status.PENDING),
        "how far this strength is",
        attrs={
            "flag_values": [int(status) for status in Status],
            "flag_meanings": " ".join(status.name.lower() for status in Status),
        },
    ),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}

LARGE_AT = {
    Status.FITTED: ("weights",),
    Status.COMPLETE: (
        *("weights", "gradient", "eigenvectors"),
        *(variable.name for variable in _GEOMETRY if variable.is_large),
    ),
}
"""The large arrays that a status promises, which its digest covers."""

_FITTED_ENTRIES = ("loss", "accuracy", "class_accuracy", "confusion", "penalty", "epochs", "fit_seconds")
ENTRIES_AT = {
    Status.FITTED: _FITTED_ENTRIES,
    Status.COMPLETE: (
        *_FITTED_ENTRIES,
        "eigenvalues",
        "residual_norm",
        "converged",
        "matvecs",
        "analysis_seconds",
        "solver_message",
        *(variable.name for variable in _GEOMETRY if not variable.is_large),
    ),
    Status.FAILED: ("failure",),
}
"""The small entries that a status promises, which its ``entries_digest`` covers."""

GEOMETRY = frozenset(variable.name for variable in _GEOMETRY)
"""What is told of the eigenvectors and the classes. Not all of it is there for every config, class and mode: NaN."""

AT_FIT = frozenset({*LARGE_AT[Status.FITTED], *ENTRIES_AT[Status.FITTED], *ENTRIES_AT[Status.FAILED]})
"""The variables that do not depend on the analysis."""

COORDINATE_ATTRS: dict[str, dict[str, Any]] = {
    "run": {"long_name": "run: one pass along the strengths"},
    "l2": {"long_name": "L2 regularisation strength λ", "units": "1"},
    "mode": {"long_name": "eigenpair, in the solver's order"},
    "split": {"long_name": "part of the data"},
    "label": {"long_name": "true class"},
    "pred": {"long_name": "predicted class"},
    "other": {"long_name": "other class"},
    "sign": {"long_name": "which way along the eigenvector"},
    "mu": {"long_name": "eigenvalue", "units": "nat"},
    "seed": {"long_name": "seed of the run"},
    "direction": {"long_name": "order in which the run visits the strengths"},
    "layer": {"long_name": "layer of the parameter"},
    "kind": {"long_name": "kind of the parameter, such as weight or bias"},
    "out_index": {"long_name": "index along the parameter's first axis"},
    "in_index": {"long_name": "index along its other axes, flattened; -1 if there are none"},
}


GRID_SETTINGS = frozenset({"l2", "seeds", "direction"})
"""Settings that a store can grow along: more grid points, more runs."""

SPECTRUM_SETTINGS = frozenset(
    {
        *("k", "which", "solver", "tol", "max_matvecs", "hessian_samples", "response"),
        *("probes", "density", "density_probes", "density_steps", "density_width"),
    }
)
"""Settings whose change asks for new spectra, not for new weights."""


def variables_of(version: int) -> tuple[Variable, ...]:
    """The variables of a store of schema ``version``."""
    return tuple(variable for variable in VARIABLES if variable.since <= version)


def coordinates_of(version: int) -> tuple[str, ...]:
    """The coordinates of such a store."""
    late = () if version >= 3 else ("other", "sign", "mu")
    return tuple(name for name in COORDINATE_ATTRS if name not in late)


def arrays_of(version: int, status: Status) -> tuple[str, ...]:
    """The large arrays that ``status`` promises in such a store, which its digest covers."""
    return tuple(name for name in LARGE_AT.get(status, ()) if BY_NAME[name].since <= version)


def entries_of(version: int, status: Status) -> tuple[str, ...]:
    """The small entries that ``status`` promises in such a store."""
    return tuple(name for name in ENTRIES_AT.get(status, ()) if BY_NAME[name].since <= version)


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """What a new store is made from.

    Parameters
    ----------
    l2 : tuple of float
        The grid, ascending.
    runs : tuple of Run
        The runs, by ID.
    k, num_classes : int
        Eigenpairs a λ, classes.
    param_coords : mapping of str to ndarray
        ``layer``, ``kind``, ``out_index``, ``in_index``, each (P,).
    identity : mapping
        What decides the results: the settings, the data digest and the parameter layout.
    attrs : mapping
        Further root attributes: versions, full config, and so on.
    notes : mapping of str to mapping, optional
        Further attributes of variables, by name.
    """

    l2: tuple[float, ...]
    runs: tuple[Run, ...]
    k: int
    num_classes: int
    param_coords: Mapping[str, NDArray[np.generic]]
    identity: Mapping[str, Any]
    attrs: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each dimension."""
        return {
            "run": len(self.runs),
            "l2": len(self.l2),
            "mode": self.k,
            "param": len(self.param_coords["layer"]),
            "split": len(SPLITS),
            "label": self.num_classes,
            "pred": self.num_classes,
            "other": self.num_classes,
            "sign": len(SIGNS),
            "mu": DENSITY_POINTS,
        }

    @property
    def large_bytes(self) -> int:
        """Bytes of the large arrays of one λ, before they are compressed."""
        sizes, large = self.sizes, (variable for variable in VARIABLES if variable.is_large)
        return sum(int(variable.dtype[1:]) * math.prod(sizes[dim] for dim in variable.dims[2:]) for variable in large)
