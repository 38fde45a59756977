"""Grids of the regularisation strength λ: how they are parsed, rounded and written."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal

from hesstore.config.setting_types import as_list, integer, parse_number

AXIS = "l2"
"""The name of the grid's dimension and coordinate in a sweep. A collection of checkpoints has another one.

Code that works with a Dataset asks :func:`hesstore.store.schema.axis_of`, and code that works with an identity asks
:func:`hesstore.store.schema.grid_axis`.
"""

L2_DECIMALS = 10
"""Decimals to which λ is rounded, so that ``.sel(l2=0.0006)`` finds the decimal literal exactly."""


NOISE = 1e-15
"""Up to this value, a λ that should be 0 can differ from it because of rounding in a computation."""


def value_text(axis: str, value: float) -> str:
    """Return a value on the grid as text, such as ``λ = 0.001`` or ``step = 1000``."""
    return f"{axis_symbol(axis)} = {value:.10g}"


def axis_symbol(axis: str) -> str:
    """Return the symbol of the grid's values: λ in a sweep, and the name of the axis in a collection."""
    return "λ" if axis == AXIS else axis


def round_l2(value: float | str) -> float:
    """Return λ, a number or its decimal literal, rounded to 10 decimals as in every grid.

    Raises
    ------
    ValueError
        If it is infinite, or so small that it would become 0.
    """
    rounded = round(float(value), L2_DECIMALS) + 0.0  # -0.0 becomes 0.0
    if math.isinf(rounded):
        raise ValueError(f"λ = {value} is not finite")
    if not rounded and abs(Decimal(value)) > (0 if isinstance(value, str) else NOISE):
        raise ValueError(
            f"λ = {value} is too small: λ is rounded to {L2_DECIMALS} decimals: give 0, or at least 1e-{L2_DECIMALS}"
        )
    return rounded


def linear_grid(start: float, stop: float, num: int) -> tuple[float, ...]:
    """Return ``num`` evenly spaced values from ``start`` to ``stop`` inclusive, rounded to 10 decimals."""
    if num == 1:
        return (round(start, L2_DECIMALS),)
    step = (stop - start) / (num - 1)
    return tuple(round(start + i * step, L2_DECIMALS) for i in range(num))


def parse_l2(value: object) -> tuple[float, ...]:
    """Parse a grid from ``"START:STOP:NUM"``, a comma-separated list, a number or a sequence.

    The values are rounded to 10 decimals.

    Raises
    ------
    ValueError
        If the grid is empty, malformed, negative, not ascending, or has duplicates after rounding.
    """
    if isinstance(value, str) and ":" in value:
        parts = value.split(":")
        if len(parts) != 3:
            raise ValueError(f"{value!r} is not START:STOP:NUM")
        start, stop, num = parse_number(parts[0]), parse_number(parts[1]), integer(1).parse(parts[2])
        if num > 1 and not stop > start:
            raise ValueError(f"{value!r} does not ascend: STOP must be above START")
        grid = linear_grid(start, stop, num)
    else:
        grid = tuple(round_l2(parse_number(item)) for item in as_list(value))
    if not grid:
        raise ValueError("is empty: give START:STOP:NUM or a comma-separated list")
    if grid[0] < 0 or min(grid) < 0:
        raise ValueError(f"{min(grid):g} is negative: λ starts at 0")
    for previous, current in itertools.pairwise(grid):
        if current == previous:
            raise ValueError(f"{current:.10g} appears twice (λ is rounded to {L2_DECIMALS} decimals)")
        if current < previous:
            raise ValueError(f"{current:.10g} comes after {previous:.10g}: list λ in ascending order")
    return tuple(value + 0.0 for value in grid)


def format_l2(grid: tuple[float, ...]) -> str | list[float]:
    """Return the shortest value from which :func:`parse_l2` makes ``grid`` again."""
    if len(grid) > 2 and linear_grid(grid[0], grid[-1], len(grid)) == grid:
        start, stop = (repr(value).removesuffix(".0") for value in (grid[0], grid[-1]))
        return f"{start}:{stop}:{len(grid)}"
    return list(grid)
