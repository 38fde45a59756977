"""The config that a preset, a file, texts and options make together, and its TOML with where each value comes from."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from hesstore.config import PRESETS, SweepConfig, check_keys, settings
from hesstore.config.suggestions import did_you_mean
from hesstore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

DEFAULT = "default"
_WIDTH = 100
"""Characters of a line that a list may take."""


class Layer(NamedTuple):
    """Settings that come from one place: what it is called, and their values as they stand there."""

    origin: str
    values: Mapping[str, object]


def layers(
    preset: str = "paper",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
) -> list[Layer]:
    """A preset, then a TOML file, then ``key=value`` texts, then options; of two that name a setting the later wins.

    Raises
    ------
    ConfigError
        For an unknown preset or key, or a file that can't be read.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is not one of {', '.join(PRESETS)}{did_you_mean(preset, PRESETS)}")
    found = [Layer(f"preset {preset}", PRESETS[preset])]
    if file is not None:
        found.append(Layer(str(file), read_toml(file)))
    found += [Layer("--set", _assigned(text)) for text in assignments]
    found += [Layer(f"--{key.replace('_', '-')}", {key: value}) for key, value in (options or {}).items()]
    return found


def merge(found: Sequence[Layer]) -> dict[str, object]:
    """The settings that any layer names, as the last of them has it; the others are at their defaults."""
    return {key: value for layer in found for key, value in layer.values.items()}


def resolve(
    preset: str = "paper",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
) -> SweepConfig:
    """The config that :func:`layers` make together.

    Raises
    ------
    ConfigError
        As :func:`layers`, and for a value out of range.
    """
    return SweepConfig.from_mapping(merge(layers(preset, file, assignments, options)))


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
    return check_keys(values, str(path))


def as_toml(config: SweepConfig, found: Sequence[Layer] = ()) -> str:
    """``config`` as TOML that :func:`read_toml` reads: in groups, each line with the origin of its value.

    Parameters
    ----------
    config : SweepConfig
        What :func:`merge` layers make.
    found : sequence of Layer
        Where its values come from; what none of them names is a default.

    Examples
    --------
    >>> made = layers("quickstart", options={"k": 10})
    >>> text = as_toml(SweepConfig.from_mapping(merge(made)), made)
    >>> [line for line in text.splitlines() if line.startswith(("dataset", "k ", "lr"))]
    ['dataset = "mnist-5k"  # preset quickstart', 'lr = 0.0015  # default', 'k = 10  # --k']
    """
    values = config.to_mapping()
    origins = {key: layer.origin for layer in found for key in layer.values}
    lines: list[str] = []
    group = None
    for setting in settings():
        if setting.metadata["group"] != group:
            group = setting.metadata["group"]
            lines += ["", f"# {group}"]
        origin = origins.get(setting.name, DEFAULT)
        lines.append(f"{_assignment(setting.name, values[setting.name])}  # {_printable(origin)}")
    return "\n".join(lines[1:]) + "\n"


def _assigned(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set: {text!r} is not key=value")
    return check_keys({key.strip(): value.strip()}, "--set")


def _assignment(key: str, value: object) -> str:
    """A line of TOML; several for a long list."""
    text = tomli_w.dumps({key: value}).rstrip("\n")
    if isinstance(value, list):
        in_line = f"{key} = [{', '.join(map(repr, value))}]"  # numbers, which TOML writes as Python does
        return in_line if len(in_line) <= _WIDTH else text
    return text


def _printable(origin: str) -> str:
    return origin if origin.isprintable() else ascii(origin)
