"""The number of kernels that the devices execute and of times that the host waits for them, for each part of the work.

On a GPU each kernel costs microseconds however small the network is, and each wait drains the queue. :data:`COUNTS` is
the table to update when a change of the engine needs more or fewer; the numbers do not depend on the sizes of layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from hesstore import linalg
from hesstore.config import SweepConfig
from hesstore.curvature import FlatHessian, gradient
from hesstore.engine.experiment import Analysis, Experiment
from hesstore.measure.class_geometry import GridPointInputs
from hesstore.store.schema import Point, Run
from hesstore.training.trainer import STEPS_PER_GRAPH
from tests.benchmarks.kernel_counts import count_kernels
from tests.support import device_work
from tests.support.device_work import BATCH
from tests.support.operators import DiagonalStack
from tests.support.stand_in_device import Machine
from tests.support.toy import TOY

COUNTS = {
    "eight steps": (229, 0),  # of a network whose weights are all small
    "eight steps of a stack": (237, 0),
    "a product": (37, 0),
    "a product of two chunks": (74, 0),
    "a product of a stack": (32, 0),
    "16 Lanczos steps without their products": (260, 4),
    "16 Lanczos steps of a stack without their products": (244, 4),  # however many models it has
    "an epoch": (157, 1),
    "the metrics": (43, 2),
    "the gradient": (25, 0),
    "the class geometry": (962, 21),
    "an analysis with 16 products": (1990, 38),
}
"""(kernels, waits) of each part. Those of a grid point are its epochs, its metrics and its analysis."""

DEVICE = "cuda:0"
STEPS = 16

Part = Callable[[], object]


def steps(copies: int) -> Part:
    run = device_work.make_trainer(DEVICE, copies)._make_eager_steps(BATCH)
    batches = torch.zeros(STEPS_PER_GRAPH, copies, BATCH, dtype=torch.int64, device=DEVICE)
    return lambda: run(batches)


def product(chunk_rows: int, copies: int) -> Part:
    model = device_work.make_model(DEVICE)
    hessian, theta = FlatHessian(model, *device_work.make_rows(DEVICE), chunk_rows=chunk_rows), model.theta()
    operator = hessian.at(theta) if copies == 1 else hessian.at_each(theta.repeat(copies, 1))
    return lambda: operator.matvec(operator.theta)


def search(steps: int, copies: int = 1) -> Part:
    """Searches in matrices with evenly spaced eigenvalues, which a few steps do not find."""
    stack = DiagonalStack(torch.linspace(1, 2, 5000, dtype=torch.float64, device=DEVICE).repeat(copies, 1))
    if copies == 1:
        one = SimpleNamespace(
            size=stack.size, dtype=stack.dtype, device=stack.device, matvec=lambda v: stack.matvec(v[None])[0]
        )
        return lambda: linalg.lanczos(one, 3, tol=1e-12, max_matvecs=steps)
    return lambda: linalg.lanczos_stack(
        stack, 3, tol=1e-12, max_matvecs=steps, generators=[torch.Generator().manual_seed(0) for _ in range(copies)]
    )


def count(machine: Machine, part: Part) -> tuple[int, int]:
    """The kernels and the waits of ``part``, after one call in which it traces what it needs."""
    part()
    machine.counts.clear()
    part()
    return machine.counts.kernels.total(), machine.counts.syncs.total()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("eight steps", partial(steps, 1)),
        ("eight steps of a stack", partial(steps, 2)),
        ("a product", partial(product, 48, 1)),
        ("a product of two chunks", partial(product, 24, 1)),
        ("a product of a stack", partial(product, 96, 2)),
    ],
)
def test_steps_and_a_product(machine: Machine, name: str, part: Callable[[], Part]) -> None:
    with torch.no_grad():
        assert count(machine, part()) == COUNTS[name]


@pytest.mark.parametrize(("name", "copies"), [("", 1), (" of a stack", 2), (" of a stack", 8)])
def test_lanczos_steps(machine: Machine, name: str, copies: int) -> None:
    few, many = (count(machine, search(steps, copies)) for steps in (STEPS, 2 * STEPS))
    steps = (many[0] - few[0] - STEPS, many[1] - few[1])
    assert steps == COUNTS[f"16 Lanczos steps{name} without their products"]


def test_a_grid_point(machine: Machine) -> None:
    settings = {"hidden": "40,40", "k": 3, "max_matvecs": STEPS, "chunk_rows": 4096, "models": 1, "device": DEVICE}
    at = Experiment.prepare(SweepConfig.from_mapping({**TOY, **settings, "epochs": 1, "response": 0.1}))
    point, theta = Point(Run(0, 0, "up"), 0, 0.001), at.model.theta()
    (analysis,) = at.analyse([theta], [point])
    assert isinstance(analysis, Analysis)
    slope, pairs = analysis.gradient, analysis.pairs
    assert pairs.num_matvecs == STEPS
    inputs = GridPointInputs(
        theta, theta, 0.001, slope, pairs, lambda: at.hessian.at(theta), lambda _: torch.Generator()
    )
    parts: dict[str, Part] = {
        "an epoch": lambda: at.fit([theta], [point], lambda *_: None),
        "the metrics": lambda: at.measure([theta]),
        "the gradient": lambda: gradient(at.model, theta, *at.data.train, at.sizes.chunk_rows),
        "the class geometry": lambda: at.geometry.at(inputs),
        "an analysis with 16 products": lambda: at.analyse([theta], [point]),
    }
    assert {name: count(machine, part) for name, part in parts.items()} == {name: COUNTS[name] for name in parts}


@pytest.mark.slow
def test_the_prediction_for_a_gpu_has_the_same_counts() -> None:
    found = count_kernels((10, 8), 3, 200)
    for name, work in (
        ("a product", found.product), ("a product of a stack", found.stacked_product), ("the gradient", found.gradient),
        ("the metrics", found.metrics),
    ):  # fmt: skip
        assert (work.kernels, work.waits) == COUNTS[name]
    for steps, ours in (("eight steps", found.step), ("eight steps of a stack", found.stacked_step)):
        assert ours.kernels == COUNTS[steps][0] / 8 - 3  # without the norm of the weights
    for steps, ours in (("", found.lanczos), (" of a stack", found.stacked_lanczos)):
        kernels, waits = COUNTS[f"16 Lanczos steps{steps} without their products"]
        assert kernels / 16 < ours.kernels < 1.5 * kernels / 16  # the rest is the end of each chain
        assert waits / 16 < ours.waits < 1
    assert found.lanczos_of_each.kernels < found.lanczos.kernels / 4
    assert found.geometry.kernels > COUNTS["the class geometry"][0]
