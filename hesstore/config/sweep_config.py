"""The configuration of a sweep: every setting, its limits, its presets and its fingerprint.

A setting is declared once, with its default, its parser, its help and the group that it stands in; the command line,
TOML files and Python callers all go through the same parser, so they accept the same values and fail with the same
words. This module imports neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hesstore.config.l2_grid import format_l2, linear_grid, parse_l2
from hesstore.config.settings import FLAG, FOLDER, Kind, choice, integer, integers, name, real
from hesstore.config.suggestions import did_you_mean
from hesstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_L2 = Kind(parse_l2, "START:STOP:NUM|A,B,…")


def _setting(group: str, default: T, kind: Kind[T], help: str, *, unit: str = "", identity: bool = True) -> T:  # noqa: A002
    metadata = {"kind": kind, "help": help, "group": group, "unit": unit, "identity": identity}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All settings of a sweep, validated; the defaults are the preset ``paper``.

    Raises
    ------
    ConfigError
        If a value is malformed or out of range; the message names key, value and limit.

    Examples
    --------
    >>> SweepConfig.from_mapping({"l2": "0:0.09:16", "k": 10}).l2[1]
    0.006
    """

    dataset: str = _setting(
        "Data",
        "mnist",
        name("mnist", "fashion-mnist", "kmnist", "mnist-5k"),
        "Data set: mnist, fashion-mnist, kmnist, mnist-5k, or module:factory of your own.",
    )
    data_dir: str = _setting(
        "Data",
        "",
        FOLDER,
        "Folder that holds MNIST/raw and so on, as torchvision lays it out. By default the user's cache.",
        identity=False,
    )
    model: str = _setting("Network", "mlp", name("mlp"), "Network: mlp, or module:factory of your own.")
    hidden: tuple[int, ...] = _setting(
        "Network", (128, 128), integers(1), "Widths of the mlp's hidden layers.", unit="units"
    )
    l2: tuple[float, ...] = _setting("Grid and runs", linear_grid(0, 0.09, 451), _L2, "Strengths λ, ascending.")
    penalty: str = _setting(
        "Grid and runs", "half", choice("half", "full"), "Penalty: half is (λ/2)‖θ‖², full is λ‖θ‖²."
    )
    seeds: tuple[int, ...] = _setting(
        "Grid and runs", (0,), integers(0, distinct=True), "A run (or two, see --direction) each."
    )
    direction: str = _setting(
        "Grid and runs", "up", choice("up", "down", "both"), "Order of λ; both makes two runs of each seed."
    )
    path: str = _setting(
        "Grid and runs",
        "continuation",
        choice("continuation", "independent"),
        "Start each λ from the weights of the previous one, or from the same initial weights.",
    )
    optimizer: str = _setting("Training", "adam", choice("adam", "sgd"), "Optimiser, fresh at each λ.")
    lr: float = _setting("Training", 1.5e-3, real(above=0), "Learning rate.")
    momentum: float = _setting("Training", 0.0, real(minimum=0, below=1), "Momentum of sgd.")
    batch_size: int = _setting("Training", 64, integer(1), "Batch of a training step.", unit="rows")
    epochs: int = _setting("Training", 50, integer(1), "Most of them at a λ.", unit="epochs")
    patience: int = _setting("Training", 5, integer(1), "Stop after so many without a lower loss.", unit="epochs")
    k: int = _setting("Spectrum", 30, integer(1), "Number of Hessian eigenpairs at each λ.", unit="pairs")
    which: str = _setting(
        "Spectrum", "LM", choice("LM", "LA", "SA"), "Eigenvalues of largest magnitude, largest, or smallest."
    )
    solver: str = _setting("Spectrum", "lanczos", choice("lanczos", "eigsh"), "hesstore's Lanczos, or SciPy's ARPACK.")
    tol: float = _setting(
        "Spectrum", 1e-3, real(above=0, below=1), "Residual, relative to |μ|, at which a pair has converged."
    )
    max_matvecs: int = _setting("Spectrum", 2000, integer(1), "Most Hessian products at a λ.", unit="products")
    hessian_samples: int = _setting(
        "Spectrum",
        0,
        integer(0),
        "Seeded, stratified subset of the training set for the spectrum; 0 takes all of it.",
        unit="rows",
    )
    response: float = _setting(
        "Class geometry",
        0.1,
        real(minimum=0),
        "Rise of the training loss to which the weights move along each eigenvector to see how classes respond; "
        "0: not at all.",
        unit="nat",
    )
    probes: int = _setting(
        "Class geometry",
        4,
        integer(0),
        "Random vectors, a product each, for the trace and its kin: at least 2; 0: none.",
        unit="vectors",
    )
    density: bool = _setting(
        "Spectral density", default=False, kind=FLAG, help="Also record the spectral density of the Hessian."
    )
    density_probes: int = _setting("Spectral density", 2, integer(1), "Random vectors for it.", unit="vectors")
    density_steps: int = _setting(
        "Spectral density", 64, integer(2), "Hessian products for each of them.", unit="products"
    )
    density_width: float = _setting(
        "Spectral density",
        0.1,
        real(minimum=0.06),
        "Width of its kernel, in asinh(μ/0.001): about a share of μ where μ is large.",
    )
    chunk_rows: int = _setting(
        "Machine",
        0,
        integer(0),
        "What passes through the network at once; 0: 2,048 on a CPU, up to 65,536 on a GPU, as its memory allows.",
        unit="rows",
    )
    dtype: str = _setting("Machine", "float32", choice("float32", "float64"), "Precision of training and analysis.")
    device: str = _setting("Machine", "auto", name("auto", "cpu", "cuda"), "auto, cpu, cuda or cuda:N.", identity=False)
    models: int = _setting(
        "Machine",
        0,
        integer(0),
        "Networks that are trained side by side (independent λ, several runs), and λ analysed together; "
        "0: one on a CPU, up to 64 on a GPU, as its memory allows.",
        unit="networks",
        identity=False,
    )
    memory_gib: float = _setting(
        "Machine",
        0.0,
        real(minimum=0),
        "Most memory for cached activations; 0 takes half of what is free.",
        unit="GiB",
        identity=False,
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            try:
                parsed = setting.metadata["kind"].parse(getattr(self, setting.name))
            except ValueError as error:
                raise ConfigError(f"{setting.name}: {error}") from None
            object.__setattr__(self, setting.name, parsed)
        if self.probes == 1:
            raise ConfigError("probes: 1 gives no standard error: give at least 2, or 0 for none")
        if self.max_matvecs <= self.k:
            raise ConfigError(f"max_matvecs: {self.max_matvecs} must be above k = {self.k}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> SweepConfig:
        """A config from a mapping; an unknown key raises :class:`ConfigError` and names its nearest one."""
        return replace(cls(), **check_keys(values, "config"))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values that survive JSON and TOML, and that :meth:`from_mapping` turns back into the config."""
        values: dict[str, Any] = {}
        for setting in fields(self):
            value = getattr(self, setting.name)
            values[setting.name] = list(value) if isinstance(value, tuple) else value
        values["l2"] = format_l2(self.l2)
        return values

    def identity(self) -> dict[str, Any]:
        """The settings that decide the results: all but where data lie and where the work is done."""
        names = {setting.name for setting in fields(self) if setting.metadata["identity"]}
        return {key: value for key, value in self.to_mapping().items() if key in names}

    def runs(self) -> tuple[tuple[int, str], ...]:
        """(seed, direction) of each run, in the order of their IDs."""
        directions = ("up", "down") if self.direction == "both" else (self.direction,)
        return tuple((seed, direction) for seed in self.seeds for direction in directions)

    @property
    def penalty_scale(self) -> float:
        """C in the penalty c·λ‖θ‖²: ½ or 1. Its gradient, 2cλθ, is coupled weight decay 2cλ."""
        return 0.5 if self.penalty == "half" else 1.0


def settings() -> tuple[Field[Any], ...]:
    """The dataclass fields of :class:`SweepConfig`, whose metadata hold ``kind``, ``help``, ``group`` and ``unit``.

    Those of a group follow each other.
    """
    return fields(SweepConfig)


def fingerprint(identity: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of what decides a store's results."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "quickstart": {"dataset": "mnist-5k", "l2": "0:0.09:16"},
}
"""Named starting points, as differences from the defaults."""


def check_keys(values: Mapping[str, object], where: str) -> dict[str, Any]:
    """``values`` if all keys are settings.

    Raises
    ------
    ConfigError
        Naming the first unknown key, where it stands, and the nearest setting.
    """
    known = [setting.name for setting in settings()]
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known keys: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}{hint}")
    return dict(values)
