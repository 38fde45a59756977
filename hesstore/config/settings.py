"""Kinds of settings: how a value is parsed from text, TOML or Python, within which limits, and what help pages show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from hesstore.config.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


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


def choice(*choices: str) -> Kind[str]:
    """One of ``choices``."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}{did_you_mean(value, choices)}")
        return str(value)

    return Kind(parse, "|".join(choices), choices)


def name(*known: str) -> Kind[str]:
    """The name of something that is looked for later: one of those known, or a user's own."""
    return Kind(_parse_text, "NAME", known)


_LARGEST = 2**63 - 1  # a store's integers have 64 bits


def integer(minimum: int) -> Kind[int]:
    """A whole number that is not below ``minimum``."""

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

    return Kind(parse, "N")


def real(*, above: float = -math.inf, minimum: float = -math.inf, below: float = math.inf) -> Kind[float]:
    """A finite number within limits."""

    def parse(value: object) -> float:
        found = number(value)
        if not found > above:
            raise ValueError(f"{found:g} must be above {above:g}")
        if found < minimum:
            raise ValueError(f"{found:g} is below the least value {minimum:g}")
        if not found < below:
            raise ValueError(f"{found:g} must be below {below:g}")
        return found

    return Kind(parse, "X")


def number(value: object) -> float:
    """A finite number from text, TOML or Python; raises :class:`ValueError` for anything else."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError  # noqa: TRY301 - one message for both
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is not a finite number")
    return found


def items(value: object) -> list[object]:
    """The parts of a comma list, the items of a sequence, or a single value as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value]


def integers(minimum: int, *, distinct: bool = False) -> Kind[tuple[int, ...]]:
    """Whole numbers, at least one and none below ``minimum``; each once, if they are to be ``distinct``."""
    parse_one = integer(minimum).parse

    def parse(value: object) -> tuple[int, ...]:
        numbers = tuple(parse_one(item) for item in items(value))
        if not numbers:
            raise ValueError("is empty: give at least one value")
        if distinct and len(set(numbers)) < len(numbers):
            raise ValueError(f"{','.join(map(str, numbers))} names a value twice")
        return numbers

    return Kind(parse, "A,B,…")


def _parse_flag(value: object) -> bool:
    texts = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, str) and value.lower() in texts:
        return texts[value.lower()]
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false")
    return value


FOLDER = Kind(_parse_text, "DIR")
FLAG = Kind(_parse_flag, "", ("true", "false"))
"""On the command line a switch: --name or --no-name."""
