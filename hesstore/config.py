"""The configuration of a sweep: every setting, its limits, its presets and its fingerprint.

A setting is declared once, with its default, its parser and its help; the command line, TOML files and
Python callers all go through the same parser, so they accept the same values and fail with the same words.
This module imports neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hesstore.errors import ConfigError
from hesstore.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")

L2_DECIMALS = 10
"""λ are rounded to this many decimals, so that ``.sel(l2=0.0006)`` finds its decimal literal exactly."""


def linear_grid(start: float, stop: float, num: int) -> tuple[float, ...]:
    """``num`` evenly spaced λ from ``start`` to ``stop`` inclusive, rounded to 10 decimals."""
    if num == 1:
        return (round(start, L2_DECIMALS),)
    step = (stop - start) / (num - 1)
    return tuple(round(start + i * step, L2_DECIMALS) for i in range(num))


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of value: how to parse it from text, TOML or Python, and how help pages show it.

    ``parse`` raises :class:`ValueError` with the reason. ``choices`` are values that shells complete to; whether there
    are others is for ``parse`` to say.
    """

    parse: Callable[[object], T]
    metavar: str
    choices: tuple[str, ...] = ()


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _choice(*choices: str) -> Kind[str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}{did_you_mean(value, choices)}")
        return str(value)

    return Kind(parse, "|".join(choices), choices)


def _name(*known: str) -> Kind[str]:
    """The name of something that is looked for later: one of those known, or a user's own."""
    return Kind(_parse_text, "NAME", known)


_LARGEST = 2**63 - 1  # a store's integers have 64 bits


def _integer(minimum: int) -> Kind[int]:
    def parse(value: object) -> int:
        try:
            number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None:
            raise ValueError(f"{value!r} is not a whole number")
        if number < minimum:
            raise ValueError(f"{number} is below the least value {minimum}")
        if number > _LARGEST:
            raise ValueError(f"{number} is above the largest value {_LARGEST}")
        return number

    return Kind(parse, "N")


def _real(*, above: float = -math.inf, minimum: float = -math.inf, below: float = math.inf) -> Kind[float]:
    def parse(value: object) -> float:
        number = _number(value)
        if not number > above:
            raise ValueError(f"{number:g} must be above {above:g}")
        if number < minimum:
            raise ValueError(f"{number:g} is below the least value {minimum:g}")
        if not number < below:
            raise ValueError(f"{number:g} must be below {below:g}")
        return number

    return Kind(parse, "X")


def _number(value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError  # noqa: TRY301 - one message for both
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value]


def _integers(minimum: int, *, distinct: bool = False) -> Kind[tuple[int, ...]]:
    parse_one = _integer(minimum).parse

    def parse(value: object) -> tuple[int, ...]:
        numbers = tuple(parse_one(item) for item in _items(value))
        if not numbers:
            raise ValueError("is empty: give at least one value")
        if distinct and len(set(numbers)) < len(numbers):
            raise ValueError(f"{','.join(map(str, numbers))} names a value twice")
        return numbers

    return Kind(parse, "A,B,…")


def parse_l2(value: object) -> tuple[float, ...]:
    """λ from ``"START:STOP:NUM"``, a comma list, a number or a sequence; rounded to 10 decimals.

    Raises
    ------
    ValueError
        If the grid is empty, malformed, negative, not ascending, or has duplicates after rounding.
    """
    if isinstance(value, str) and ":" in value:
        parts = value.split(":")
        if len(parts) != 3:
            raise ValueError(f"{value!r} is not START:STOP:NUM")
        start, stop, num = _number(parts[0]), _number(parts[1]), _integer(1).parse(parts[2])
        if num > 1 and not stop > start:
            raise ValueError(f"{value!r} does not ascend: STOP must be above START")
        grid = linear_grid(start, stop, num)
    else:
        grid = tuple(round(_number(item), L2_DECIMALS) for item in _items(value))
    if not grid:
        raise ValueError("is empty: give START:STOP:NUM or a comma list")
    if grid[0] < 0 or min(grid) < 0:
        raise ValueError(f"{min(grid):g} is negative: λ starts at 0")
    for previous, current in itertools.pairwise(grid):
        if current == previous:
            raise ValueError(f"{current:.10g} appears twice (λ are told apart by {L2_DECIMALS} decimals)")
        if current < previous:
            raise ValueError(f"{current:.10g} comes after {previous:.10g}: list λ in ascending order")
    return tuple(value + 0.0 for value in grid)  # -0.0 becomes 0.0


def format_l2(grid: tuple[float, ...]) -> str | list[float]:
    """The shortest setting that :func:`parse_l2` turns back into ``grid``."""
    if len(grid) > 2 and linear_grid(grid[0], grid[-1], len(grid)) == grid:
        start, stop = (repr(value).removesuffix(".0") for value in (grid[0], grid[-1]))
        return f"{start}:{stop}:{len(grid)}"
    return list(grid)


def _parse_flag(value: object) -> bool:
    texts = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, str) and value.lower() in texts:
        return texts[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false")
    return value


_TEXT = Kind(_parse_text, "TEXT")
_FOLDER = Kind(_parse_text, "DIR")
_FLAG = Kind(_parse_flag, "", ("true", "false"))
"""On the command line a switch: --name or --no-name."""
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
        _name("mnist", "fashion-mnist", "kmnist", "mnist-5k"),
        "Data set: mnist, fashion-mnist, kmnist, mnist-5k, or module:factory of your own.",
    )
    data_dir: str = _setting(
        "Data",
        "",
        _FOLDER,
        "Folder that holds MNIST/raw and so on, as torchvision lays it out. By default the user's cache.",
        identity=False,
    )
    model: str = _setting("Network", "mlp", _name("mlp"), "Network: mlp, or module:factory of your own.")
    hidden: tuple[int, ...] = _setting(
        "Network", (128, 128), _integers(1), "Widths of the mlp's hidden layers.", unit="units"
    )
    l2: tuple[float, ...] = _setting("Grid and runs", linear_grid(0, 0.09, 451), _L2, "Strengths λ, ascending.")
    penalty: str = _setting(
        "Grid and runs", "half", _choice("half", "full"), "Penalty: half is (λ/2)‖θ‖², full is λ‖θ‖²."
    )
    seeds: tuple[int, ...] = _setting(
        "Grid and runs", (0,), _integers(0, distinct=True), "A run (or two, see --direction) each."
    )
    direction: str = _setting(
        "Grid and runs", "up", _choice("up", "down", "both"), "Order of λ; both makes two runs of each seed."
    )
    path: str = _setting(
        "Grid and runs",
        "continuation",
        _choice("continuation", "independent"),
        "Start each λ from the weights of the previous one, or from the same initial weights.",
    )
    optimizer: str = _setting("Training", "adam", _choice("adam", "sgd"), "Optimiser, fresh at each λ.")
    lr: float = _setting("Training", 1.5e-3, _real(above=0), "Learning rate.")
    momentum: float = _setting("Training", 0.0, _real(minimum=0, below=1), "Momentum of sgd.")
    batch_size: int = _setting("Training", 64, _integer(1), "Batch of a training step.", unit="rows")
    epochs: int = _setting("Training", 50, _integer(1), "Most of them at a λ.", unit="epochs")
    patience: int = _setting("Training", 5, _integer(1), "Stop after so many without a lower loss.", unit="epochs")
    k: int = _setting("Spectrum", 30, _integer(1), "Number of Hessian eigenpairs at each λ.", unit="pairs")
    which: str = _setting(
        "Spectrum", "LM", _choice("LM", "LA", "SA"), "Eigenvalues of largest magnitude, largest, or smallest."
    )
    solver: str = _setting("Spectrum", "lanczos", _choice("lanczos", "eigsh"), "hesstore's Lanczos, or SciPy's ARPACK.")
    tol: float = _setting(
        "Spectrum", 1e-3, _real(above=0, below=1), "Residual, relative to |μ|, at which a pair has converged."
    )
    max_matvecs: int = _setting("Spectrum", 2000, _integer(1), "Most Hessian products at a λ.", unit="products")
    hessian_samples: int = _setting(
        "Spectrum",
        0,
        _integer(0),
        "Seeded, stratified subset of the training set for the spectrum; 0 takes all of it.",
        unit="rows",
    )
    response: float = _setting(
        "Class geometry",
        0.1,
        _real(minimum=0),
        "Rise of the training loss to which the weights move along each eigenvector to see how classes respond; "
        "0: not at all.",
        unit="nat",
    )
    probes: int = _setting(
        "Class geometry",
        4,
        _integer(0),
        "Random vectors, a product each, for the trace and its kin: at least 2; 0: none.",
        unit="vectors",
    )
    density: bool = _setting(
        "Spectral density", default=False, kind=_FLAG, help="Also record the spectral density of the Hessian."
    )
    density_probes: int = _setting("Spectral density", 2, _integer(1), "Random vectors for it.", unit="vectors")
    density_steps: int = _setting(
        "Spectral density", 64, _integer(2), "Hessian products for each of them.", unit="products"
    )
    density_width: float = _setting(
        "Spectral density",
        0.1,
        _real(minimum=0.06),
        "Width of its kernel, in asinh(μ/0.001): about a share of μ where μ is large.",
    )
    chunk_rows: int = _setting(
        "Machine",
        0,
        _integer(0),
        "What passes through the network at once; 0: 2,048 on a CPU, up to 65,536 on a GPU, as its memory allows.",
        unit="rows",
    )
    dtype: str = _setting("Machine", "float32", _choice("float32", "float64"), "Precision of training and analysis.")
    device: str = _setting(
        "Machine", "auto", _name("auto", "cpu", "cuda"), "auto, cpu, cuda or cuda:N.", identity=False
    )
    models: int = _setting(
        "Machine",
        0,
        _integer(0),
        "Networks that are trained side by side (independent λ, several runs), and λ analysed together; "
        "0: one on a CPU, up to 64 on a GPU, as its memory allows.",
        unit="networks",
        identity=False,
    )
    memory_gib: float = _setting(
        "Machine",
        0.0,
        _real(minimum=0),
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
        return replace(cls(), **checked_keys(values, "config"))

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


def checked_keys(values: Mapping[str, object], where: str) -> dict[str, Any]:
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


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file (a flat table of keys).

    Raises
    ------
    ConfigError
        If the file can't be read, is not TOML, or has an unknown key.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return checked_keys(values, str(path))


def resolve(
    preset: str = "paper",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
) -> SweepConfig:
    """The config from a preset, then a TOML file, then ``key=value`` texts, then options; the later wins.

    Raises
    ------
    ConfigError
        For an unknown preset or key, or a value out of range.
    """
    return SweepConfig.from_mapping(given(preset, file, assignments, options))


def given(
    preset: str,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The settings that these name, as :func:`resolve` takes them; the others are at their defaults."""
    if preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is not one of {', '.join(PRESETS)}{did_you_mean(preset, PRESETS)}")
    values: dict[str, object] = dict(PRESETS[preset])
    if file is not None:
        values |= read_toml(file)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set: {assignment!r} is not key=value")
        values |= checked_keys({key.strip(): value.strip()}, "--set")
    return values | dict(options or {})
