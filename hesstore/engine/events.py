"""The events that a running sweep reports to its observer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hesstore.config.l2_grid import AXIS

if TYPE_CHECKING:
    from hesstore.store.schema import Run

Phase = Literal["opened", "fitting", "analysing", "complete", "failed"]

Facts = dict[str, float | str]
"""Numbers and sentences about a grid point that an observer can show, by name."""


@dataclass(frozen=True)
class SweepEvent:
    """One event of a running sweep.

    Attributes
    ----------
    phase : str
        ``opened`` is sent once, before the first grid point. Then each unfinished grid point sends ``fitting`` after
        every epoch and ``analysing`` when its analysis begins, if this process computes it. ``complete`` or ``failed``
        follows when its results are on disk; the next grid point may have begun by then.
    finished, total : int
        The number of grid points that are complete or failed, and the number of all grid points.
    run, value : Run, float
        The run of the grid point and its value on the grid, which is the regularisation strength λ in a sweep.
    facts : mapping
        ``fitting``: epoch, loss. ``complete``: test_accuracy, worst_class, worst_class_accuracy, eigenvalue, matvecs,
        and possibly a warning. ``failed``: reason.
    axis : str
        The name of the grid's dimension.
    """

    phase: Phase
    finished: int
    total: int
    run: Run
    value: float
    facts: Facts
    axis: str = AXIS
