"""The pace at which grid points are finished, which gives the time left."""

from __future__ import annotations

import time


class Pace:
    """The pace at which grid points are finished, by the wall clock.

    The pace is the mean over the latest :data:`RECENT` grid points and over at least a tenth of the time so far: grid
    points that are trained together also finish together.
    """

    RECENT = 9

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def note(self, finished: int) -> None:
        """Record how many grid points are finished now."""
        if not self._marks or finished > self._marks[-1][1]:
            self._marks.append((time.monotonic(), finished))

    @property
    def seen(self) -> int:
        """The number of grid points that were finished since the first note."""
        return self._marks[-1][1] - self._marks[0][1] if self._marks else 0

    @property
    def each(self) -> float | None:
        """Seconds per grid point; None until one has been finished."""
        if len(self._marks) < 2:
            return None
        (start, _), (now, finished) = self._marks[0], self._marks[-1]
        least = (now - start) / 10
        earlier = (
            mark for mark in reversed(self._marks) if finished - mark[1] >= self.RECENT and now - mark[0] >= least
        )
        when, count = next(earlier, self._marks[0])
        return (now - when) / (finished - count)

    def left(self, total: int) -> float | None:
        """Return the seconds until ``total`` grid points are finished; None until one has been finished."""
        if self.each is None:
            return None
        now, finished = self._marks[-1]
        return max(0.0, self.each * (total - finished) - min(time.monotonic() - now, self.each))
