"""The sources of a config: a preset, a TOML file, ``key=value`` texts and options, and how they are merged.

:func:`as_toml` writes the result as TOML, with the origin of each value.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import tomli_w

from hesstore.config import PRESETS, SweepConfig, check_keys, settings
from hesstore.config.suggestions import did_you_mean
from hesstore.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

ConfigLike: TypeAlias = "SweepConfig | Mapping[str, object] | str | os.PathLike[str]"
"""A config, a mapping of settings, the path of a TOML file, or the name of a preset."""

DEFAULT = "default"
_WIDTH = 100
"""Maximum number of characters for a list that is written on one line."""


class Layer(NamedTuple):
    """Settings that come from one source: the name of the source, and the values, not yet parsed."""

    origin: str
    values: Mapping[str, object]


def layers(
    preset: str = "paper",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
) -> list[Layer]:
    """Return the layers of a config: a preset, then a TOML file, then ``key=value`` texts, then options.

    Later layers override earlier ones; see :func:`merge`.

    Parameters
    ----------
    preset : str
        Name of a preset.
    file : Path, optional
        A TOML file.
    assignments : iterable of str
        Texts ``key=value``.
    options : mapping, optional
        Values by the name of the setting.

    Raises
    ------
    ConfigError
        If the preset or a key is unknown, or the file can't be read.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is not one of {', '.join(PRESETS)}{did_you_mean(preset, PRESETS)}")
    found = [Layer(f"preset {preset}", PRESETS[preset])]
    if file is not None:
        found.append(Layer(str(file), read_toml(file)))
    found += [Layer("--set", _assigned(text)) for text in assignments]
    found += [Layer(f"--{key.replace('_', '-')}", {key: value}) for key, value in (options or {}).items()]
    return found


def as_config(value: ConfigLike) -> SweepConfig:
    """Return a config from a config, a mapping of settings, the path of a TOML file, or the name of a preset.

    A mapping may also name a ``preset`` to start from.

    Raises
    ------
    ConfigError
        If a key is unknown, a value is malformed or out of range, or the file can't be read.

    Examples
    --------
    >>> as_config({"preset": "quickstart", "k": 10}).dataset
    'mnist-5k'
    """
    if isinstance(value, SweepConfig):
        return value
    if isinstance(value, Mapping):
        values = dict(value)
        preset = str(values.pop("preset", "paper"))
        return SweepConfig.from_mapping(merge([*layers(preset), Layer("config", values)]))
    if isinstance(value, str) and (value in PRESETS or not value.endswith(".toml")):
        return SweepConfig.from_mapping(merge(layers(value)))
    return SweepConfig.from_mapping(read_toml(Path(value)))


def merge(found: Sequence[Layer]) -> dict[str, object]:
    """Return the settings that the layers contain; the last layer that has a setting decides its value."""
    return {key: value for layer in found for key, value in layer.values.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """Read the settings in a TOML file, which is a flat table of keys.

    A byte order mark is skipped, and line breaks may be those of any system.

    Raises
    ------
    ConfigError
        If the file can't be read, is not TOML, or has an unknown key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # which reads every line break as \n
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8 ({error.reason} in byte {error.start + 1}): save it so") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return check_keys(values, str(path))


def as_toml(config: SweepConfig, found: Sequence[Layer] = ()) -> str:
    """Return ``config`` as TOML, in groups, with the origin of each value as a comment.

    Parameters
    ----------
    config : SweepConfig
        The config.
    found : sequence of Layer
        The layers from which the config was merged. A setting that no layer contains is a default.

    Examples
    --------
    >>> from hesstore.config import SweepConfig
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
    """Return a setting as TOML: one line, or several lines for a long list."""
    text = tomli_w.dumps({key: value}).rstrip("\n")
    if isinstance(value, list):
        in_line = f"{key} = [{', '.join(map(repr, value))}]"  # of numbers, which TOML and Python write alike
        return in_line if len(in_line) <= _WIDTH else text
    return text


def _printable(origin: str) -> str:
    return origin if origin.isprintable() else ascii(origin)
