"""The configuration of a sweep: every setting, its limits, its presets and its fingerprint.

Each setting is declared once, with its group, default, type and help text. The command line, TOML files and Python
callers all use the same parser, so they accept the same values and fail with the same messages. This module imports
neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hesstore.config.l2_grid import format_l2, linear_grid, parse_l2
from hesstore.config.networks import hidden_widths
from hesstore.config.setting_types import (
    FLAG,
    FOLDER,
    NETWORK,
    REFERENCE,
    SettingType,
    choice,
    integer,
    integers,
    name,
    real,
)
from hesstore.config.suggestions import did_you_mean
from hesstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_L2 = SettingType(parse_l2, "START:STOP:NUM|A,B,…")


def _setting(
    group: str,
    default: T,
    type: SettingType[T],  # noqa: A002
    help: str,  # noqa: A002
    *,
    unit: str = "",
    identity: bool = True,
) -> T:
    metadata = {"type": type, "help": help, "group": group, "unit": unit, "identity": identity}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All settings of a sweep, validated. The defaults are the preset ``paper``.

    Raises
    ------
    ConfigError
        If a value is malformed or out of range; the message names the key, the value and the limit.

    Examples
    --------
    >>> SweepConfig.from_mapping({"l2": "0:0.09:16", "k": 10}).l2[1]
    0.006
    """

    dataset: str = _setting(
        "Data",
        "mnist",
        name("mnist", "fashion-mnist", "kmnist", "cifar10", "mnist-5k"),
        "Data set: mnist, fashion-mnist, kmnist, cifar10, mnist-5k, or a custom module:factory.",
    )
    data_dir: str = _setting(
        "Data",
        "",
        FOLDER,
        "Folder with the files of the data set, IDX files or CIFAR-10's archive, which are only read; by default they "
        "are downloaded.",
        identity=False,
    )
    model: str = _setting(
        "Network",
        "mlp",
        NETWORK,
        "Network: mlp, linear:L for a deep linear network of L layers without biases, or a custom module:factory.",
    )
    hidden: tuple[int, ...] = _setting(
        "Network",
        (128, 128),
        integers(1),
        "Widths of the hidden layers of the mlp; for linear:L, L - 1 widths, or one width for all hidden layers.",
        unit="units",
    )
    loss: str = _setting(
        "Network",
        "cross_entropy",
        choice("cross_entropy", "mse"),
        "Loss E: cross_entropy, or mse, PyTorch's mean squared error from the one-hot rows of the labels.",
    )
    l2: tuple[float, ...] = _setting(
        "Grid and runs", linear_grid(0, 0.09, 451), _L2, "Regularisation strengths λ, in ascending order."
    )
    penalty: str = _setting(
        "Grid and runs", "half", choice("half", "full"), "Penalty: half is (λ/2)‖θ‖², full is λ‖θ‖²; see also --center."
    )
    center: str = _setting(
        "Grid and runs",
        "",
        REFERENCE,
        "Centre θ_ref of the penalty, which then is a multiple of λ‖θ − θ_ref‖²: weights in a checkpoint, or at a grid "
        "point of a store. The store keeps a copy.",
        identity=False,
    )
    start: str = _setting(
        "Grid and runs",
        "",
        REFERENCE,
        "Weights before the first grid point of each run, instead of those drawn from its seed.",
        identity=False,
    )
    seeds: tuple[int, ...] = _setting(
        "Grid and runs", (0,), integers(0, distinct=True), "Random seeds: one run per seed, two with --direction both."
    )
    direction: str = _setting(
        "Grid and runs",
        "up",
        choice("up", "down", "both"),
        "Order in which λ is visited; both makes two runs per seed.",
    )
    path: str = _setting(
        "Grid and runs",
        "continuation",
        choice("continuation", "independent"),
        "Start each fit from the weights of the previous grid point, or from the same initial weights.",
    )
    optimizer: str = _setting(
        "Training", "adam", choice("adam", "sgd"), "Optimiser; its state is reset at each grid point."
    )
    lr: float = _setting("Training", 1.5e-3, real(above=0), "Learning rate.")
    momentum: float = _setting("Training", 0.0, real(minimum=0, below=1), "Momentum of sgd.")
    batch_size: int = _setting("Training", 64, integer(1), "Batch size of a training step.", unit="rows")
    epochs: int = _setting("Training", 50, integer(1), "Maximum number of epochs per grid point.", unit="epochs")
    patience: int = _setting(
        "Training", 5, integer(1), "Stop a fit after this number of epochs without a lower loss.", unit="epochs"
    )
    stop_on: str = _setting(
        "Training",
        "error",
        choice("error", "objective"),
        "Loss that decides when a fit stops: the loss E alone, or the objective, which includes the penalty.",
    )
    keep: str = _setting(
        "Training",
        "last",
        choice("last", "best"),
        "Weights that a fit keeps: those after its last epoch, or after the epoch with the lowest loss.",
    )
    polish: int = _setting(
        "Training",
        0,
        integer(0),
        "Maximum number of full-batch iterations after each fit with λ above 0, towards a stationary point of the "
        "objective: L-BFGS, then Newton's method with as many Hessian products; 0 for none.",
        unit="iterations",
    )
    polish_tol: float = _setting(
        "Training",
        1e-3,
        real(above=0, below=1),
        "Stationarity at which polishing ends: the norm of the objective's gradient over that of the loss's gradient.",
    )
    k: int = _setting(
        "Spectrum",
        30,
        integer(0),
        "Number of Hessian eigenpairs per grid point; 0 only trains, and --grow with a larger k analyses the stored "
        "weights later.",
        unit="pairs",
    )
    operator: str = _setting(
        "Spectrum",
        "hessian",
        choice("hessian", "ggn"),
        "Matrix of the eigenpairs: hessian, or ggn, its Gauss–Newton part, which has no negative eigenvalues.",
    )
    which: str = _setting(
        "Spectrum",
        "LM",
        choice("LM", "LA", "SA"),
        "Eigenvalues to compute: LM largest magnitude, LA largest, SA smallest.",
    )
    lowest: int = _setting(
        "Spectrum",
        1,
        integer(0),
        "Number of algebraically smallest Hessian eigenpairs per grid point, in addition to the k others; 0 for none.",
        unit="pairs",
    )
    solver: str = _setting(
        "Spectrum", "lanczos", choice("lanczos", "eigsh"), "Eigensolver: hesstore's Lanczos, or SciPy's ARPACK (eigsh)."
    )
    tol: float = _setting(
        "Spectrum", 1e-3, real(above=0, below=1), "Residual norm, relative to |μ|, at which an eigenpair has converged."
    )
    max_matvecs: int = _setting(
        "Spectrum", 2000, integer(1), "Maximum number of Hessian products per grid point.", unit="products"
    )
    slack: float = _setting(
        "Spectrum",
        3e-3,
        real(above=0, below=1),
        "How far the bound on further eigenvalues may lie beyond the k-th one, relative to it.",
    )
    eta: float = _setting(
        "Spectrum",
        1e-4,
        real(above=0, below=1),
        "Probability with which the bound on further eigenvalues may be wrong.",
    )
    hessian_samples: int = _setting(
        "Spectrum",
        0,
        integer(0),
        "Size of a seeded, stratified subset of the training set for the spectrum; 0 uses the whole set.",
        unit="rows",
    )
    response: float = _setting(
        "Class geometry",
        0.1,
        real(minimum=0),
        "Rise of the training loss after which the response of the classes is measured, as the weights move along each "
        "eigenvector; 0 turns this off.",
        unit="nat",
    )
    probes: int = _setting(
        "Class geometry",
        16,
        integer(0),
        "Number of random vectors, with one Hessian product each, for the trace and related quantities: at least 2, "
        "or 0 for none. A quarter of them is used for networks whose trace is computed exactly.",
        unit="vectors",
    )
    density: bool = _setting(
        "Spectral density", default=False, type=FLAG, help="Also record the spectral density of the Hessian."
    )
    density_probes: int = _setting(
        "Spectral density",
        4,
        integer(1),
        "Number of random vectors for the spectral density; 1 gives no error.",
        unit="vectors",
    )
    density_steps: int = _setting(
        "Spectral density",
        64,
        integer(2),
        "Hessian products per random vector of the spectral density.",
        unit="products",
    )
    density_width: float = _setting(
        "Spectral density",
        0.1,
        real(minimum=0.06),
        "Width of the kernel of the spectral density, in asinh(μ/0.001); for large μ about a fraction of μ.",
    )
    blocks: str = _setting(
        "Blocks",
        "none",
        choice("none", "layer"),
        "Diagonal blocks whose top eigenvalues and trace are recorded: layer for that of each layer, or none.",
    )
    block_k: int = _setting(
        "Blocks", 3, integer(1), "Number of eigenvalues of each block, of largest magnitude.", unit="eigenvalues"
    )
    chunk_rows: int = _setting(
        "Machine",
        0,
        integer(0),
        "Maximum number of rows in one pass through the network; 0 means 2,048 on a CPU, fewer for large networks, and "
        "up to 65,536 on a GPU, as its memory allows.",
        unit="rows",
    )
    dtype: str = _setting("Machine", "float32", choice("float32", "float64"), "Precision of training and analysis.")
    device: str = _setting(
        "Machine", "auto", name("auto", "cpu", "cuda"), "Device: auto, cpu, cuda or cuda:N.", identity=False
    )
    models: int = _setting(
        "Machine",
        0,
        integer(0),
        "Number of networks that are trained together (with --path independent or several runs), and of grid points "
        "that are analysed together; 0 means one on a CPU, and up to 64 on a GPU, as its memory allows.",
        unit="networks",
        identity=False,
    )
    threads: int = _setting(
        "Machine",
        0,
        integer(0),
        "Number of PyTorch's CPU threads; 0 means PyTorch's own number or one, whichever the plan's probe finds "
        "faster. It changes the rounding of results.",
        unit="threads",
        identity=False,
    )
    memory_gib: float = _setting(
        "Machine",
        0.0,
        real(minimum=0),
        "Maximum memory for cached activations; 0 uses half of the free memory.",
        unit="GiB",
        identity=False,
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            try:
                parsed = setting.metadata["type"].parse(getattr(self, setting.name))
            except ValueError as error:
                raise ConfigError(f"{setting.name}: {error}") from None
            object.__setattr__(self, setting.name, parsed)
        try:
            hidden_widths(self.model, self.hidden)
        except ValueError as error:
            raise ConfigError(f"hidden: {error}") from None
        if self.probes == 1:
            raise ConfigError("probes: 1 gives no error: give at least 2, or 0 for none")
        if self.operator == "ggn" and self.which == "SA":
            raise ConfigError("which: SA with operator ggn asks for zeros, since G has no negative eigenvalues: use LM")
        wanted = [name for name in ("density", "blocks") if getattr(self, name) not in {False, "none"}]
        if not self.k and wanted:
            raise ConfigError(f"{wanted[0]}: k = 0 analyses nothing: give k of at least 1, or leave {wanted[0]} out")
        if self.max_matvecs <= self.k:
            raise ConfigError(f"max_matvecs: {self.max_matvecs} must be above k = {self.k}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> SweepConfig:
        """Make a config from a mapping of settings.

        Raises
        ------
        ConfigError
            If a key is unknown, or a value is malformed or out of range.
        """
        return replace(cls(), **check_keys(values, "config"))

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values for JSON and TOML, from which :meth:`from_mapping` makes the same config again."""
        values: dict[str, Any] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            values[setting.name] = list(value) if isinstance(value, tuple) else value
        values["l2"] = format_l2(self.l2)
        return values

    def identity(self) -> dict[str, Any]:
        """The settings that decide the results: all except those about where data and computations are."""
        names = {setting.name for setting in fields(self) if setting.metadata["identity"]}
        return {key: value for key, value in self.to_mapping().items() if key in names}

    def runs(self) -> tuple[tuple[int, str], ...]:
        """The seed and direction of each run, in the order of the run IDs."""
        directions = ("up", "down") if self.direction == "both" else (self.direction,)
        return tuple((seed, direction) for seed in self.seeds for direction in directions)

    @property
    def pairs(self) -> int:
        """The number of eigenpairs per grid point: k and the lowest ones, or 0 for a sweep that only trains."""
        return self.k + self.lowest if self.k else 0

    @property
    def penalty_scale(self) -> float:
        """The factor c of the penalty c·λ‖θ − θ_ref‖²: ½ or 1. Its gradient is a coupled weight decay of 2cλ."""
        return 0.5 if self.penalty == "half" else 1.0


def settings() -> tuple[Field[Any], ...]:
    """The dataclass fields of :class:`SweepConfig`, group by group.

    Their metadata contain ``type``, ``help``, ``group``, ``unit`` and ``identity``.
    """
    return fields(SweepConfig)


TRAINING_SETTINGS = frozenset({setting.name for setting in settings() if setting.metadata["group"] == "Training"}) | {
    "path",
    "start",
}
"""The settings that decide about training alone, which a collection of checkpoints does not need."""


def fingerprint(identity: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of a store's identity."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "quickstart": {"dataset": "mnist-5k", "l2": "0:0.09:16"},
}
"""Named configs, as differences from the defaults."""


def check_keys(values: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return ``values`` as a dict if all keys are settings.

    Parameters
    ----------
    values : mapping
        Values by the name of the setting.
    where : str
        How messages name the source of the values.

    Raises
    ------
    ConfigError
        If a key is unknown; the message names the key, its source and the most similar setting.
    """
    known = [setting.name for setting in settings()]
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known keys: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}{hint}")
    return dict(values)
