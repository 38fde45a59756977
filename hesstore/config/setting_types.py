"""The types of settings: how a value is parsed, which limits it has, and how help pages show it.

A value comes from text (the command line), from TOML or from Python; one parser handles all of them.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from hesstore.config.networks import linear_layers
from hesstore.config.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True)
class SettingType(Generic[T]):
    """The type of a setting.

    Attributes
    ----------
    parse : callable
        Turns text, a TOML value or a Python value into the setting's value. It raises :class:`ValueError`, with the
        reason, for a value that is not allowed.
    metavar : str
        The placeholder for the value on help pages.
    choices : tuple of str
        Values that shells complete to; ``parse`` may accept other values too.
    """

    parse: Callable[[object], T]
    metavar: str
    choices: tuple[str, ...] = ()


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value


def _parse_path(value: object) -> str:
    """Parse a path, as text or as an object such as ``pathlib.Path``."""
    return _parse_text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _parse_name(value: object) -> str:
    """Parse a name; a function at the top level of a module stands for ``module:function``."""
    if not callable(value):
        return _parse_text(value)
    module, attribute = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    if getattr(sys.modules.get(module), attribute, None) is not value:
        raise ValueError(
            f"{value!r} can't be found by a name, which a store and other processes need: "
            "give a function (or class) at the top level of a module"
        )
    return f"{module}:{attribute}"


def choice(*choices: str) -> SettingType[str]:
    """A setting that is one of ``choices``."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}{did_you_mean(value, choices)}")
        return str(value)

    return SettingType(parse, "|".join(choices), choices)


def name(*known: str) -> SettingType[str]:
    """A setting that is a name: one of those known, or that of custom code, which is looked up later."""
    return SettingType(_parse_name, "NAME", known)


_LARGEST = 2**63 - 1  # integers have 64 bits in a store


def integer(minimum: int) -> SettingType[int]:
    """A setting that is a whole number of at least ``minimum``."""

    def parse(value: object) -> int:
        try:
            found = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            found = None
        if found is None:
            raise ValueError(f"{value!r} is not a whole number")
        if found < minimum:
            raise ValueError(f"{found} is below the least value {minimum}")
        if found > _LARGEST:
            raise ValueError(f"{found} is above the largest value {_LARGEST}")
        return found

    return SettingType(parse, "N")


def real(*, above: float = -math.inf, minimum: float = -math.inf, below: float = math.inf) -> SettingType[float]:
    """A setting that is a finite number within limits."""

    def parse(value: object) -> float:
        found = parse_number(value)
        if not found > above:
            raise ValueError(f"{found:g} must be above {above:g}")
        if found < minimum:
            raise ValueError(f"{found:g} is below the least value {minimum:g}")
        if not found < below:
            raise ValueError(f"{found:g} must be below {below:g}")
        return found

    return SettingType(parse, "X")


def parse_number(value: object) -> float:
    """Parse a finite number from text, TOML or Python.

    Raises
    ------
    ValueError
        If ``value`` is not a finite number.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError  # noqa: TRY301 - one message for both
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is not a finite number")
    return found


def as_list(value: object) -> list[object]:
    """Return the parts of a comma-separated list, the items of a sequence, or a single value, as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value]


def integers(minimum: int, *, distinct: bool = False) -> SettingType[tuple[int, ...]]:
    """A setting that is a list of one or more whole numbers.

    Parameters
    ----------
    minimum : int
        The smallest number that is allowed.
    distinct : bool
        Whether each number may appear only once.
    """
    parse_one = integer(minimum).parse

    def parse(value: object) -> tuple[int, ...]:
        numbers = tuple(parse_one(item) for item in as_list(value))
        if not numbers:
            raise ValueError("is empty: give at least one value")
        if distinct and len(set(numbers)) < len(numbers):
            raise ValueError(f"{','.join(map(str, numbers))} contains a value twice")
        return numbers

    return SettingType(parse, "A,B,…")


def _parse_flag(value: object) -> bool:
    texts = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, str) and value.lower() in texts:
        return texts[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false")
    return value


def _parse_network(value: object) -> str:
    found = _parse_name(value)
    linear_layers(found)
    return found


NETWORK = SettingType(_parse_network, "NAME", ("mlp", "linear:2", "linear:3"))
"""The name of a network; that of custom code is looked up later."""
FOLDER = SettingType(_parse_path, "DIR")
REFERENCE = SettingType(_parse_path, "FILE.pth|STORE#run,l2")
"""Weights: those in a checkpoint, or those at a grid point of a store."""
FLAG = SettingType(_parse_flag, "", ("true", "false"))
"""A switch on the command line: --name or --no-name."""
