"""The class response: how class accuracies change when the weights move along a direction until the loss has risen.

The step along a direction is the one at which the training loss has really risen by a given amount. A search on a cheap
estimate of the rise finds a candidate; the rise there is then measured over all rows and corrects the estimate, until
the two agree.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import torch

from hesstore.store.schema import RISE_TOLERANCE, SIGNS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_T = TypeVar("_T")
_ESTIMATE_TOLERANCE = RISE_TOLERANCE / 4
_MAX_ROUNDS = 40
_OVERSHOOT = 1.05
"""A step that is too short first grows by this factor more than a quadratic function needs, to pass the level."""
_UNREACHED = 0.5
"""A rise that is estimated below this share of the wanted one at the longest step is not measured there."""


class LossRises(Protocol):
    """The rise E(θ + t v) − E(θ) of the training loss along directions v, which have an index.

    Both methods take n indices and as many t, and return the rises (n,) in nat.
    """

    def measured(self, index: Tensor, t: Tensor) -> Tensor:
        """The rises over all rows."""
        ...

    def estimated(self, index: Tensor, t: Tensor) -> Tensor:
        """Cheap estimates of them."""
        ...


class _Question(NamedTuple):
    """The rise at a length, as a search asks for it: measured or estimated."""

    length: float
    measured: bool


_Search = Generator[_Question, float, _T]
"""A search along one line, which asks for rises and returns its result. Those of all lines are answered together."""


class Steps(NamedTuple):
    """Steps along −v and +v of m directions.

    Attributes
    ----------
    length : Tensor
        (m, 2) float64: the lengths ε.
    predicted : Tensor
        (m, 2) float64: the rise of the loss according to its quadratic model, nat.
    """

    length: Tensor
    predicted: Tensor

    @property
    def signed(self) -> Tensor:
        """(m, 2) float64: −ε and +ε, the lengths along v."""
        return _signed(self.length)


def choose_steps(slope: Tensor, curvature: Tensor, rise: float, longest: float | Tensor) -> Steps:
    """Choose the shortest steps ε along −v and +v at which the quadratic model of the loss has risen by ``rise``.

    The steps solve ±ε v·∇E + ½ ε² vᵀHv = rise. They are at most ``longest``, also along a flat direction and where the
    model never rises by so much.

    Parameters
    ----------
    slope, curvature : Tensor
        (m,) float64: v·∇E and vᵀHv. If one is NaN, the step is NaN.
    rise : float
        The rise of the loss in nats, above 0.
    longest : float or Tensor
        The maximum length of a step; (m,) if each direction has its own.
    """
    s = _signed(slope[:, None])
    mu = curvature[:, None]
    limit = torch.as_tensor(longest, dtype=slope.dtype, device=slope.device).expand(len(slope))[:, None]
    root = (s.square() + 2 * mu * rise).sqrt()  # NaN where the model never rises by so much
    rising = 2 * rise / (s + root)
    falling = (root - s) / mu  # the same root, without cancellation if s < 0; it requires mu > 0
    length = torch.where(s >= 0, rising, torch.where(mu > 0, falling, torch.nan))
    length = torch.where(length.isfinite(), length, limit).clamp_max(limit)
    length = torch.where((s + mu).isfinite(), length, torch.nan)  # such as for an eigenpair that was not found
    return _with_prediction(length, slope, curvature)


def find_steps(
    rises: LossRises, slope: Tensor, curvature: Tensor, rise: float, longest: float | Tensor
) -> tuple[Steps, Tensor]:
    """Find steps along −v and +v at which the loss has risen by ``rise``, to within :data:`RISE_TOLERANCE`.

    Parameters
    ----------
    rises : LossRises
        The rise of the loss along m directions v.
    slope, curvature, rise, longest
        As in :func:`choose_steps`, whose steps are where the search begins.

    Returns
    -------
    Steps
        The steps, on the CPU; NaN where no step up to ``longest`` was found.
    Tensor
        (m, 2) float64: the measured rises, nat.
    """
    slope, curvature = slope.cpu(), curvature.cpu()
    first = choose_steps(slope, curvature, rise, longest).length.flatten().tolist()
    limits = torch.as_tensor(longest, dtype=slope.dtype).expand(len(slope)).repeat_interleave(len(SIGNS)).tolist()
    found = _answer([_find_step(start, rise, limit) for start, limit in zip(first, limits, strict=True)], rises)
    length, measured = torch.tensor(found, dtype=torch.float64).reshape(-1, 2, 2).unbind(2)
    return _with_prediction(length, slope, curvature), measured


def _answer(searches: list[_Search[_T]], rises: LossRises) -> list[_T]:
    """Run the searches along −v and +v of each direction and return their results.

    In each round, the rises that all of them ask for are computed together.
    """
    results: dict[int, _T] = {}
    answers: dict[int, float | None] = dict.fromkeys(range(len(searches)))
    while answers:
        questions: dict[int, _Question] = {}
        for place, answer in answers.items():
            try:
                questions[place] = searches[place].send(answer)  # type: ignore[arg-type]  # None starts a search
            except StopIteration as end:
                results[place] = end.value
        answers = _rises(questions, rises)
    return [results[place] for place in range(len(searches))]


def _rises(questions: dict[int, _Question], rises: LossRises) -> dict[int, float | None]:
    """Return the answers to the questions of some searches, which are given by their places."""
    places, found = [], []
    for measured in (False, True):
        asking = [place for place, question in questions.items() if question.measured is measured]
        if asking:
            index = torch.tensor([place // len(SIGNS) for place in asking])
            lengths = [SIGNS[place % len(SIGNS)] * questions[place].length for place in asking]
            t = torch.tensor(lengths, dtype=torch.float64)
            found.append((rises.measured if measured else rises.estimated)(index, t))
            places += asking
    return dict(zip(places, torch.cat(found).tolist(), strict=True)) if places else {}


def _find_step(start: float, rise: float, longest: float) -> _Search[tuple[float, float]]:
    """The length of a step, and the rise that was measured there; NaN if none was found up to ``longest``."""
    nothing = math.nan, math.nan
    if not (0 < start <= longest):
        return nothing
    below, above = 0.0, math.inf  # lengths at which less, and more, than the rise was measured
    error, at = 0.0, longest  # of the estimate at the last step that was measured
    known: float | None = None  # the value of the corrected estimate at the start

    def corrected(length: float) -> _Search[float]:
        estimate = yield _Question(length, measured=False)
        return estimate + error * (length / at) ** 2

    for _ in range(_MAX_ROUNDS):
        length, estimate = yield from _rising_point(corrected, start, rise, longest, known)
        if length == longest and estimate < _UNREACHED * rise:
            return nothing
        if not below < length < above:
            length = (below + above) / 2
            estimate = yield from corrected(length)
        measured = yield _Question(length, measured=True)
        if abs(measured - rise) <= RISE_TOLERANCE * rise:
            return length, measured
        if measured < rise:
            if length == longest:
                return nothing
            below = length
        else:  # also if the loss is infinite or NaN
            above = length
        known = None
        if math.isfinite(measured):
            error, at, known = measured - (estimate - error * (length / at) ** 2), length, measured
        start = min(length, longest)
    return nothing


def _rising_point(
    function: Callable[[float], _Search[float]], start: float, level: float, longest: float, known: float | None
) -> _Search[tuple[float, float]]:
    """A length t ≤ ``longest`` at which ``function`` reaches ``level``, and its value there; else ``longest``.

    Both steps work on the signed root of the function, which is nearly linear in t. The length grows from ``start``,
    where the function may be ``known``, until the function is above the level: first to where a quadratic function
    would be, then to its double each time. Then a bracketing secant method (the Illinois variant of regula falsi) takes
    over.
    """

    def excess(value: float) -> float:
        root = math.copysign(math.sqrt(abs(value)), value) if math.isfinite(value) else math.inf
        return root - math.sqrt(level)

    value = (yield from function(start)) if known is None else known
    low, high = (0.0, excess(0.0)), (start, excess(value))
    farther = min(2.0, _OVERSHOOT * math.sqrt(level / value)) if value > 0 else 2.0
    while high[1] < 0 and high[0] < longest:
        length = min(farther * high[0], longest)
        value = yield from function(length)
        low, high, farther = high, (length, excess(value)), 2.0
    last, side = high[0], 0
    for _ in range(_MAX_ROUNDS):
        if high[1] < 0 or abs(value - level) <= _ESTIMATE_TOLERANCE * level:
            break
        secant = (high[0] * -low[1] + low[0] * high[1]) / (high[1] - low[1])
        last = secant if math.isfinite(high[1]) else (low[0] + high[0]) / 2
        value = yield from function(last)
        if excess(value) < 0:
            low, high = (last, excess(value)), (high[0], high[1] / 2 if side < 0 else high[1])
            side = -1
        else:
            low, high = (low[0], low[1] / 2 if side > 0 else low[1]), (last, excess(value))
            side = 1
    return last, value


def _with_prediction(length: Tensor, slope: Tensor, curvature: Tensor) -> Steps:
    return Steps(length, _signed(slope[:, None]) * length + 0.5 * curvature[:, None] * length.square())


def _signed(values: Tensor) -> Tensor:
    """``values`` (m, 1 or 2), multiplied by the sign of each step."""
    return values * torch.tensor(SIGNS, dtype=values.dtype, device=values.device)
