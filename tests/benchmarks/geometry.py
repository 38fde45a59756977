"""What the class geometry of one λ costs, in Hessian products, beside the same by nested forward differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hesstore.curvature import ClassLosses, Hessian, HessianOperator, gradient
from hesstore.linalg import EigenPairs, lanczos, lanczos_quadrature, moments
from hesstore.measure.class_response import Responder, choose_steps
from tests.benchmarks.accuracy import relative_error
from tests.benchmarks.problem import TEST_ROWS, Problem, digits, normalised, trained
from tests.benchmarks.report import Table, progress
from tests.benchmarks.timing import Entry, Timing, interleave

if TYPE_CHECKING:
    from tests.benchmarks.report import Row
    from tests.benchmarks.settings import Settings

CLASSES, CHUNK_ROWS = 10, 2048
NESTED_MODES = 2
PROBES, DENSITY_PROBES, DENSITY_STEPS = 4, 1, 64
RISE = 0.1
TOLERANCE = 1e-4
MOST_ROUNDS = 3


@dataclass(frozen=True)
class Scene:
    """A trained network with its eigenpairs, and the parts that are timed."""

    problem: Problem
    operator: HessianOperator
    pairs: EigenPairs

    @cached_property
    def losses(self) -> ClassLosses:
        """hesstore's traced programs."""
        return ClassLosses(self.problem.model, self.problem.x, self.problem.y, CLASSES, CHUNK_ROWS)

    @cached_property
    def responder(self) -> Responder:
        """Responses on the training rows and on as many rows as the test set has."""
        problem, few = self.problem, digits(TEST_ROWS)
        test = torch.from_numpy(normalised(few.images)), torch.from_numpy(few.labels)
        rows = problem.x, problem.y
        return Responder(problem.model, rows, (test[0].to(rows[0]), test[1].to(rows[1])), CLASSES, CHUNK_ROWS)

    def product(self) -> Tensor:
        """One product with H."""
        return self.operator.matvec(self.pairs.eigenvectors[0])

    def along(self) -> Tensor:
        """(m, 2, C) slopes and curvatures of all classes along all eigenvectors."""
        return torch.stack(self.losses.along(self.problem.theta, self.pairs.eigenvectors), 1)

    def nested(self) -> Tensor:
        """The same along a few of them, by a ``jvp`` of a ``jvp`` of the rows' losses."""
        vectors = self.pairs.eigenvectors[:NESTED_MODES]
        return torch.stack([nested(self.problem, v) for v in vectors])

    def gradients(self) -> Tensor:
        """(C, P) gradients of all classes."""
        return self.losses.gradients(self.problem.theta)

    def responses(self) -> Tensor:
        """(m, 2) rises of the loss, at twice as many steps as there are modes."""
        slope = self.pairs.eigenvectors.double() @ gradient(self.problem.model, self.problem.theta, *self.rows).double()
        found = choose_steps(slope, self.pairs.eigenvalues.to(slope.device), RISE, float(self.problem.theta.norm()))
        return self.responder.respond(self.problem.theta, self.pairs.eigenvectors, found.length).rise

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Training rows."""
        return self.problem.x, self.problem.y

    def trace(self) -> Tensor:
        """Trace and Frobenius norm."""
        found = moments(self.operator, self.pairs, PROBES, torch.Generator().manual_seed(0))
        return torch.tensor([found.trace, found.frobenius_norm])

    def density(self) -> Tensor:
        """Nodes of a Lanczos quadrature."""
        generator = torch.Generator().manual_seed(0)
        return lanczos_quadrature(self.operator, probes=DENSITY_PROBES, steps=DENSITY_STEPS, generator=generator).nodes


def nested(problem: Problem, v: Tensor) -> Tensor:
    """(2, C) v·∇E_c and vᵀH_c v in the direct way, all rows at once."""

    def of_rows(theta: Tensor) -> Tensor:
        return nn.functional.cross_entropy(problem.model.logits(theta, problem.x), problem.y, reduction="none")

    def first(theta: Tensor) -> Tensor:
        slope: Tensor = torch.func.jvp(of_rows, (theta,), (v,))[1]
        return slope

    both: tuple[Tensor, Tensor] = torch.func.jvp(first, (problem.theta,), (v,))  # type: ignore[assignment]
    slope, curvature = both
    sums = torch.zeros(2, CLASSES, dtype=torch.float64, device=v.device)
    sums.index_add_(1, problem.y, torch.stack([slope, curvature]).double())
    return sums / torch.bincount(problem.y, minlength=CLASSES)


def run(settings: Settings) -> Iterator[Table]:
    """The table of parts."""
    yield compare(trained(settings.rows, settings.hidden, settings.device), settings.k, settings.repeats)


def compare(problem: Problem, k: int, repeats: int) -> Table:
    """Time and check each part."""
    operator = Hessian(problem.model, problem.x, problem.y, chunk_rows=CHUNK_ROWS).at(problem.theta)
    progress("  eigenpairs")
    scene = Scene(problem, operator, lanczos(operator, k))
    parts: list[tuple[str, Callable[[], Tensor], int]] = [
        ("product with H", scene.product, 1),
        ("slopes and curvatures by class", scene.along, k),
        (f"the same by nested jvp, {NESTED_MODES} modes", scene.nested, NESTED_MODES),
        ("responses, two steps a mode", scene.responses, k),
        ("gradients by class", scene.gradients, 1),
        (f"trace and Frobenius norm, {PROBES} probes", scene.trace, 1),
        (f"spectral density, {DENSITY_PROBES} × {DENSITY_STEPS} steps", scene.density, 1),
    ]
    entries = [Entry(name, part) for name, part, _ in parts]
    timings = interleave(entries, min(repeats, MOST_ROUNDS), device=problem.device)
    one = timings[0].median
    checks = _checks(scene, timings)
    rows = [
        _row(timing, modes, one, right=right)
        for timing, (_, _, modes), right in zip(timings, parts, checks, strict=True)
    ]
    return Table(f"geometry: one λ at {len(problem.y):,} rows, {k} eigenvectors", rows, _notes())


def _row(timing: Timing[Tensor], modes: int, product: float, *, right: bool | None) -> Row:
    counted = right is not False
    return {
        "part": timing.name,
        "s": timing.median if counted else None,
        "in products": timing.median / product if counted else None,
        "products a mode": timing.median / product / modes if counted and modes > 1 else None,
        "result": "–" if right is None else "right" if right else "WRONG",
    }


def _checks(scene: Scene, timings: list[Timing[Tensor]]) -> list[bool | None]:
    """Slopes and curvatures in float64 by the direct way; classes add up; a rise at moved weights; Σ μ ≤ trace."""
    _, along, direct, rises, gradients, _, nodes = (timing.result for timing in timings)
    problem, losses = scene.problem, scene.losses
    exact = Problem(
        problem.images, problem.x.double(), problem.y, problem.model, problem.theta.double(), problem.hidden
    )
    truth = torch.stack([nested(exact, v.double()) for v in scene.pairs.eigenvectors[:NESTED_MODES]])
    whole = gradient(problem.model, problem.theta, problem.x, problem.y).double()
    return [
        None,
        relative_error(along[:NESTED_MODES], truth) < TOLERANCE,
        relative_error(direct, truth) < TOLERANCE,
        _rise_is_right(scene, rises),
        relative_error(losses.shares @ gradients.double(), whole) < TOLERANCE,
        None,
        abs(float(nodes.max() / scene.pairs.eigenvalues.max()) - 1) < 1e-2,
    ]


def _rise_is_right(scene: Scene, rises: Tensor) -> bool:
    problem = scene.problem
    theta, v = problem.theta, scene.pairs.eigenvectors[0]
    slope = v.double() @ gradient(problem.model, theta, *scene.rows).double()
    found = choose_steps(slope[None], scene.pairs.eigenvalues[:1].to(slope.device), RISE, float(theta.norm()))
    losses = [
        float(nn.functional.cross_entropy(problem.model.logits(at, problem.x).double(), problem.y))
        for at in (theta, theta + found.length[0, 1].to(theta.dtype) * v)
    ]
    return abs(losses[1] - losses[0] - float(rises[0, 1])) < TOLERANCE


def _notes() -> list[str]:
    return [
        "median of some rounds after one that traces; a product has its primal pass cached, all else makes its own",
        "right: slopes and curvatures are those of nested jvp in float64, gradients add up to the whole, a rise is",
        "that of moved weights, and the density's largest node is the largest eigenvalue",
    ]
