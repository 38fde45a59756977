"""The diagonal blocks of a matrix of second derivatives: all parameters of one layer, or one parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hesstore.store.parameter_coordinates import layer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.linalg import EigenPairs

KINDS = ("layer", "parameter")
"""The kinds of blocks."""


@dataclass(frozen=True)
class Block:
    """The spectrum of one diagonal block.

    Attributes
    ----------
    name : str
        The name of the layer or of the parameter.
    parameters : tuple of str
        The names of its parameters.
    size : int
        Their number of entries.
    pairs : EigenPairs
        The eigenpairs of the block with the largest magnitude; the vectors have ``size`` entries.
    trace, trace_error : float
        The trace, and half the width of its 95 % interval; 0 if the trace is exact.
    """

    name: str
    parameters: tuple[str, ...]
    size: int
    pairs: EigenPairs
    trace: float
    trace_error: float


def check_by(by: str) -> str:
    """Return ``by`` if it is a kind of blocks.

    Raises
    ------
    ValueError
        If it is none.
    """
    if by not in KINDS:
        raise ValueError(f"by: {by!r} is not one of {', '.join(KINDS)}")
    return by


def group_parameters(names: Sequence[str], by: str) -> dict[str, list[str]]:
    """Return the names of the parameters of each block, in order.

    The layer of a parameter is the module that it belongs to, or itself if that is the network. A parametrization
    belongs to the layer of its weight.
    """
    if by == "parameter":
        return {name: [name] for name in names}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(layer_of(name), []).append(name)
    return groups
