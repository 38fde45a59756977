"""Properties of the rewriting of graphs: whatever the program, its rewritten graph has the same results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from hesstore.autodiff import trace_gradient, trace_line, trace_tangent
from hesstore.autodiff.graph_split import split_graph
from hesstore.autodiff.simplify import dependents, drop_copies, simplify
from hesstore.autodiff.sparse_rows import SparseRows, use_sparse_rows
from hesstore.autodiff.tracing import trace_graph
from hesstore.curvature.class_losses import ClassLosses
from hesstore.problem.models import FlatModel, build
from tests.support import toy
from tests.support.random_programs import PARAMETERS, STEPS, Program, inputs, programs

few = settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])

Inputs = tuple[Tensor, Tensor, Tensor]
aten = torch.ops.aten

EVERY_STEP = Program(tuple((name, 3, 1) for name in STEPS))
SOME_INPUTS = (
    torch.linspace(-1, 1, PARAMETERS, dtype=torch.float64),
    # The first column is constant, the second one nearly so.
    torch.tensor([[0.5, 1 + (row == 4), row % 3 - 1] for row in range(10)], dtype=torch.float64),
    torch.arange(10, dtype=torch.float64) % 3,
)


def direction(seed: int) -> Tensor:
    return torch.randn(PARAMETERS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_equal_to_rounding(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def as_module(graph: fx.Graph) -> fx.GraphModule:
    graph.lint()
    return fx.GraphModule(graph.owning_module or torch.nn.Module(), graph)


def tangent_graph(program: Program, theta: Tensor, x: Tensor, y: Tensor) -> tuple[fx.Graph, Callable[..., Tensor]]:
    """The graph of the derivative of the program's gradient along v, and the function that it was traced from."""

    def derivative(theta: Tensor, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        gradient = torch.func.grad(program)
        result: Tensor = torch.func.jvp(lambda point: gradient(point, x, y), (theta,), (v,))[1]
        return result

    graph = trace_graph(derivative, theta, x, y, torch.zeros_like(theta))
    graph.eliminate_dead_code()
    return graph, derivative


# -- one rewriting at a time --------------------------------------------------------------------------------------


@few
@example(EVERY_STEP, SOME_INPUTS)
@given(programs(), inputs())
def test_dropping_copies(program: Program, given_inputs: Inputs) -> None:
    graph = trace_graph(program, *given_inputs)
    drop_copies(graph)
    assert_equal_to_rounding(as_module(graph)(*given_inputs), program(*given_inputs))


@few
@example(EVERY_STEP, SOME_INPUTS)
@given(programs(), inputs())
def test_simplifying(program: Program, given_inputs: Inputs) -> None:
    graph, derivative = tangent_graph(program, *given_inputs)
    simplify(graph, {placeholders(graph)[-1]})
    v = direction(0)
    assert_equal_to_rounding(as_module(graph)(*given_inputs, v), derivative(*given_inputs, v))


@few
@given(programs(), inputs())
def test_using_sparse_rows(program: Program, given_inputs: Inputs) -> None:
    theta, x, y = given_inputs
    graph = trace_graph(program, *given_inputs)
    drop_copies(graph)
    graph.eliminate_dead_code()
    before = str(graph)
    used = use_sparse_rows(graph, placeholders(graph)[1])
    rows = SparseRows.of(x) if used else (x,)
    assert used or str(graph) == before
    assert_equal_to_rounding(as_module(graph)(theta, *rows, y), program(*given_inputs))


@few
@example(EVERY_STEP, SOME_INPUTS, 0)
@example(EVERY_STEP, SOME_INPUTS, 3)
@given(programs(), inputs(), st.integers(0, 3))
def test_splitting(program: Program, given_inputs: Inputs, late_input: int) -> None:
    """At any input; the early part does not see the late input."""
    graph, derivative = tangent_graph(program, *given_inputs)
    arguments = [*given_inputs, direction(0)]
    early, late = split_graph(graph, dependents(graph, {placeholders(graph)[late_input]}))
    others = [argument for index, argument in enumerate(arguments) if index != late_input]
    shared = early(*others)
    for argument in (arguments[late_input], arguments[late_input] * 2):  # what is shared serves again
        arguments[late_input] = argument
        assert_equal_to_rounding(late(argument, *shared), derivative(*arguments))


# -- whole programs -----------------------------------------------------------------------------------------------


@few
@example(EVERY_STEP, SOME_INPUTS, SOME_INPUTS)
@given(programs(), inputs(), inputs())
def test_tangent_programs(program: Program, first: Inputs, second: Inputs) -> None:
    """At the θ, x, y of the trace, at another θ with other rows, and along several v."""
    theta, x, y = first
    traced = trace_tangent(torch.func.grad(program), theta, x, y)
    _, derivative = tangent_graph(program, *first)
    other_x = x.flip(0) * second[0][: x.numel()].view(x.shape)
    for point, rows in ((theta, x), (second[0], other_x)):
        primal = traced.primal(point, *traced.inputs(rows), y)
        for v in (direction(0), direction(1), direction(0)):
            assert_equal_to_rounding(traced.tangent(v, *primal), derivative(point, rows, y, v))


@few
@example(EVERY_STEP, SOME_INPUTS)
@given(programs(), inputs())
def test_gradient_programs(program: Program, given_inputs: Inputs) -> None:
    """Every entry of the gradient is written, at the current θ."""
    theta, x, y = given_inputs
    theta, gradient = theta.clone(), torch.full_like(theta, torch.nan)
    evaluate = trace_gradient(program, theta, x, y).bind(theta, gradient)
    for scale in (1.0, 0.5):
        theta.mul_(scale)
        expected_gradient, expected = torch.func.grad_and_value(program)(theta, x, y)
        with torch.no_grad():
            assert_equal_to_rounding(evaluate(x, y), expected)
        assert_equal_to_rounding(gradient, expected_gradient)


@few
@example(EVERY_STEP, SOME_INPUTS, 0)
@given(programs(), inputs(), st.integers(0, 9))
def test_line_programs(program: Program, given_inputs: Inputs, seed: int) -> None:
    """Values along several lines, and derivatives against double backward, at the θ of the trace and at another."""
    theta, x, y = given_inputs

    def dots(value: Tensor, first: Tensor, second: Tensor, y: Tensor) -> tuple[Tensor]:
        return (torch.stack([(torch.sin(value) * each).sum(1) * y for each in (value, first, second)]),)

    traced = trace_line(program.matrix, dots, theta, x, y)
    for point in (theta, theta.flip(0)):
        pencil = traced.through(point, traced.inputs(x), y)
        for directions in (torch.stack([direction(seed), direction(seed + 1)]), direction(seed)[None]):
            lines = pencil.along(directions)
            found = pencil.derivatives(lines)[0]
            for index, v in enumerate(directions):
                expected = [_derivatives_of_row(program, point, x, v, row) * y[row] for row in range(len(x))]
                assert_equal_to_rounding(found[index], torch.stack(expected, 1))
            last = len(directions) - 1
            values = lines.values(torch.tensor([last, 0, last]), torch.tensor([0.5, -2.0, 3.0], dtype=theta.dtype))
            for value, index, t in zip(values, (last, 0, last), (0.5, -2.0, 3.0), strict=True):
                assert_equal_to_rounding(value, program.matrix(point + t * directions[index], x))
        assert_equal_to_rounding(pencil.value(), program.matrix(point, x))


def _derivatives_of_row(program: Program, theta: Tensor, x: Tensor, v: Tensor, row: int) -> Tensor:
    """(3,) the dot products of one row of sin f(θ, x) with that row of f and of its derivatives along ``v``."""
    point = theta.clone().requires_grad_()
    weights = torch.sin(program.matrix(theta, x)[row])
    value = weights @ program.matrix(point, x)[row] + 0 * point.sum().square()  # which has derivatives in any case
    (gradient,) = torch.autograd.grad(value, point, create_graph=True)
    first = gradient @ v
    (product,) = torch.autograd.grad(first, point)
    return torch.stack([value.detach(), first.detach(), product @ v])


@pytest.mark.parametrize(
    "module",
    [toy.SmoothCNN(3), nn.Sequential(nn.Linear(64, 5), nn.Sigmoid(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))],
    ids=["cnn", "mlp"],
)
def test_what_a_line_costs(module: nn.Module) -> None:
    """A value needs no product with the rows; derivatives need three products for each later layer.

    These are h′W, hV and gVᵀ; h″W is moved to the primal part. Each activation adds one row-wise dot product, in which
    gVᵀ and its own second derivative are gathered.
    """
    model = FlatModel(module.double())
    x, y = torch.randn(50, 64, dtype=torch.float64), torch.arange(50) % 3
    traced = trace_line(model.logits, _curvature, model.theta(), x, y)
    layers = sum(isinstance(each, (nn.Linear, nn.Conv2d)) for each in module.modules())
    assert all(traced.moves)
    assert _products(traced.value) == layers - 1
    assert _products(traced.tangent) == 3 * (layers - 1)
    if not any(isinstance(each, nn.Conv2d) for each in module.modules()):
        sums = sum(node.target is aten.sum.dim_IntList for node in traced.tangent.graph.nodes)
        assert sums == layers - 1 + 1  # one more is that of the squared first derivatives


def _curvature(value: Tensor, first: Tensor, second: Tensor, y: Tensor) -> tuple[Tensor]:
    return (first.square().sum(1) + (torch.sin(value) * second).sum(1),)


def _products(module: fx.GraphModule) -> int:
    products = {aten.mm.default, aten.addmm.default, aten.addmm_.default, aten.convolution.default}
    return sum(node.target in products for node in module.graph.nodes)


def test_what_does_not_depend_on_the_parameters_is_computed_once() -> None:
    fixed, x = torch.randn(5, 4), torch.randn(7, 5)

    def features(theta: Tensor, x: Tensor) -> Tensor:
        return torch.sigmoid(torch.tanh(x @ fixed) @ theta.view(4, 3))

    traced = trace_line(features, _curvature, torch.randn(12), x, torch.zeros(7))
    parts = (traced.constants, traced.linear, traced.value)
    assert [any(node.target is aten.tanh.default for node in part.graph.nodes) for part in parts] == [
        True,
        False,
        False,
    ]


@pytest.mark.slow
def test_every_process_traces_the_same_program() -> None:
    """The addresses of nodes, which differ from process to process, must not decide the order of a sum."""
    x, y = torch.rand(20, 6), torch.arange(20) % 3
    texts: set[str] = set()
    kept: list[object] = []
    for count in range(20):
        model = build("mlp", (5, 4), (6,), 3, seed=0)
        program = ClassLosses(model, x, y, 3).chunks[0][0]
        texts.add(program.primal.code + program.tangent.code)
        kept.append((program if count % 2 else None, [object() for _ in range(7 * count)]))  # moves the next ones
    assert len(texts) == 1
