"""The events that a running sweep reports to its observers, and the log of them.

The logger ``hesstore`` receives a line for each finished grid point (level INFO), and for each failure and warning
(level WARNING). Without a handler of the user's, nothing is written.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hesstore.config.l2_grid import AXIS, value_text

if TYPE_CHECKING:
    from hesstore.store.schema import Run

Phase = Literal["opened", "fitting", "analysing", "complete", "failed"]

LOGGER = logging.getLogger("hesstore")
LOGGER.addHandler(logging.NullHandler())  # otherwise Python itself would write the warnings to stderr

Facts = dict[str, float | str]
"""Numbers and sentences about a grid point that an observer can show, by name."""


@dataclass(frozen=True)
class SweepEvent:
    """One event of a running sweep.

    Attributes
    ----------
    phase : str
        ``opened`` is sent once, before the first grid point. Then each unfinished grid point sends ``fitting`` after
        every epoch, and ``analysing`` when its analysis begins and every few seconds, if this process computes it.
        ``complete`` or ``failed`` follows when its results are on disk; the next grid point may have begun by then.
    finished, total : int
        The number of grid points that are complete or failed, and the number of all grid points.
    run, value : Run, float
        The run of the grid point and its value on the grid, which is the regularisation strength λ in a sweep.
    facts : mapping
        ``fitting``: epoch, loss. ``analysing``: product, the number of products so far, except at its beginning.
        ``complete``: test_accuracy, worst_class, worst_class_accuracy, eigenvalue, matvecs, and possibly a warning.
        ``failed``: reason.
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


def log_event(event: SweepEvent) -> None:
    """Log what has happened to a grid point, without its progress within a fit."""
    where = f"run {event.run.id}, {value_text(event.axis, event.value)}"
    if event.phase == "complete":
        LOGGER.info("%s: complete, %d of %d grid points finished", where, event.finished, event.total)
    elif event.phase == "failed":
        LOGGER.warning("%s: failed: %s", where, event.facts["reason"])
    if "warning" in event.facts:
        LOGGER.warning("%s: %s", where, event.facts["warning"])
