"""A function along straight lines θ + t v: its values, and its first two derivatives at t = 0, as traced programs.

The function is split into its linear part L (``linear_part.py``) and the rest r, so that f(θ + t v) = r(L(θ) + t L(v)).
L(v) is computed once for each v, and serves the derivatives and the values at every t. Each operation serves several
lines together, or one line if there are many rows: then its values stay in the processor's cache.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from hesstore.autodiff.graph_split import split_graph
from hesstore.autodiff.linear_part import linear_nodes
from hesstore.autodiff.memory_reuse import reuse_memory
from hesstore.autodiff.row_dots import merge_row_dots, move_row_dots
from hesstore.autodiff.simplify import (
    changed_in_place,
    dependents,
    drop_copies,
    drop_neutral,
    gather_and_fuse,
    let_views_copy,
    spell_out_products,
)
from hesstore.autodiff.sparse_rows import SparseRows, use_sparse_rows
from hesstore.autodiff.tracing import decompose_operations, trace_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


@dataclass(frozen=True)
class LineProgram:
    """f(θ + t v, x) and then(f, f′, f″, y), for all θ, v, x, y of the shapes that were traced.

    Here f = f(θ, x), and f′ and f″ are the derivatives of f(θ + t v, x) with respect to t at t = 0. The function
    ``then`` returns a tuple of tensors.

    Attributes
    ----------
    constants : GraphModule
        inputs(x) → tuple c of the values that do not depend on θ.
    linear : GraphModule
        (θ, \\*c) → tuple L(θ), which may also contain some of c.
    moves : tuple of bool
        Whether each element of L(θ) depends on θ, in which it is linear.
    value : GraphModule
        L(θ) → f.
    derivative_programs : _DerivativePrograms
        Traces ``primal`` and ``tangent`` when they are first used.
    takes_sparse_rows : bool
        Whether the program takes x as :class:`~hesstore.autodiff.sparse_rows.SparseRows`.
    prepared : dict
        ``primal``, ``value`` and ``tangent`` for several points or lines together, by name, number and which arguments
        are stacked; :meth:`apply` makes them.
    """

    constants: fx.GraphModule
    linear: fx.GraphModule
    moves: tuple[bool, ...]
    value: fx.GraphModule
    derivative_programs: _DerivativePrograms
    takes_sparse_rows: bool
    prepared: dict[tuple[Any, ...], fx.GraphModule] = field(default_factory=dict)

    @property
    def primal(self) -> fx.GraphModule:
        """(\\*L(θ), y) → tuple of the tensors that ``tangent`` needs."""
        return self.derivative_programs.traced[0]

    @property
    def tangent(self) -> fx.GraphModule:
        """(\\*L(v), \\*primal(…)) → then(f, f′, f″, y); takes only the elements of L(v) that move."""
        return self.derivative_programs.traced[1]

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the program for the rows ``x``."""
        return SparseRows.of(x) if self.takes_sparse_rows else (x,)

    def through(self, theta: Tensor, inputs: tuple[Tensor, ...], y: Tensor) -> Pencil:
        """The lines through ``theta`` (P,), or through each of several points (G, P), for inputs(x) and y."""
        constants = self.constants(*inputs)
        has_entries = self.takes_sparse_rows and SparseRows(*inputs).has_entries
        in_turn = has_entries or bool(changed_in_place(self.linear.graph))
        if theta.dim() == 1:
            return Pencil(self, constants, self.linear(theta, *constants), y, in_turn, None)
        start = tuple(map(_stacked, self.linear_parts(theta, constants, in_turn=in_turn)))
        return Pencil(self, constants, start, y, in_turn, len(theta))

    def linear_parts(self, v: Tensor, constants: tuple[Tensor, ...], *, in_turn: bool) -> list[Tensor | list[Tensor]]:
        """L(v) for each row of ``v`` (m, P): the elements that move are stacked or, if computed in turn, listed."""
        if len(v) == 1:
            parts = self.linear(v[0], *constants)
            return [part[None] if does else part for part, does in zip(parts, self.moves, strict=True)]
        if in_turn:
            each = zip(*(self.linear(one, *constants) for one in v), strict=True)
            return [list(parts) if does else parts[0] for parts, does in zip(each, self.moves, strict=True)]
        inputs, outputs = (0, *(None for _ in constants)), tuple(0 if does else None for does in self.moves)
        together: Any = torch.func.vmap(self.linear, inputs, outputs)  # type: ignore[arg-type]  # None: shared
        return list(together(v, *constants))

    def apply(self, name: str, count: int, parts: Sequence[Tensor], stacked: Sequence[bool]) -> Any:
        """The result of a program, given by its ``name``, for ``count`` points or lines together, along a first axis.

        The arguments ``parts`` are those of one of them; some are stacked along a first axis, those of all.
        """
        key = name, count, *stacked
        if key not in self.prepared:
            one: fx.GraphModule = getattr(self, name)
            self.prepared[key] = _for_one(one) if count == 1 else _for_several(one, count, parts, stacked)
        program = self.prepared[key]
        if count > 1:
            return program(*parts)
        result = program(*(part[0] if each else part for part, each in zip(parts, stacked, strict=True)))
        return result[None] if isinstance(result, torch.Tensor) else tuple(part[None] for part in result)


@dataclass(frozen=True)
class Pencil:
    """All lines through one θ, or through each of several, for one x and y; made by :meth:`LineProgram.through`.

    Attributes
    ----------
    start : tuple of Tensor
        L(θ). With several θ, the elements that move are stacked along a first axis.
    y : Tensor
        The last argument of ``then``.
    in_turn : bool
        Whether L(v) must be computed for one v after the other, because an operation cannot serve several.
    points : int or None
        G, the number of points θ; None for a single one, without an axis.
    """

    program: LineProgram
    constants: tuple[Tensor, ...]
    start: tuple[Tensor, ...]
    y: Tensor
    in_turn: bool
    points: int | None

    @cached_property
    def primal(self) -> tuple[Tensor, ...]:
        """The values that the derivatives along all lines share, computed when they are first needed."""
        program, start = self.program, self.start
        result: tuple[Tensor, ...]
        if self.points is None:
            result = program.primal(*start, self.y)
        else:
            result = program.apply("primal", self.points, [*start, self.y], [*program.moves, False])
        return result

    def value(self) -> Tensor:
        """f(θ, x), or that of each point along a first axis."""
        program, start = self.program, self.start
        result: Tensor = (
            program.value(*start) if self.points is None else program.apply("value", self.points, start, program.moves)
        )
        return result

    def along(self, v: Tensor, point: Tensor | None = None) -> Lines:
        """The lines θ + t v for each row of ``v`` (m, P); ``point`` (m,) has the index of the θ of each, if several."""
        parts = self.program.linear_parts(v, self.constants, in_turn=self.in_turn)
        moving = tuple(part for part, does in zip(parts, self.program.moves, strict=True) if does)
        return Lines(self.program, self.start, moving, len(v), point)

    def derivatives(self, lines: Lines) -> tuple[Tensor, ...]:
        """The value of then(f, f′, f″, y) for the derivatives along each of the lines, stacked along a first axis."""
        direction, point = [_stacked(each) for each in lines.direction], lines.point
        primal = self.primal if point is None else [part.index_select(0, point) for part in self.primal]
        stacked = [True] * len(direction) + [point is not None] * len(primal)
        result: tuple[Tensor, ...] = self.program.apply("tangent", lines.count, [*direction, *primal], stacked)
        return result


@dataclass(frozen=True)
class Lines:
    """Lines θ + t v for several v and one x; made by :meth:`Pencil.along`.

    They need none of the values for the derivatives.

    Attributes
    ----------
    start : tuple of Tensor
        As in :class:`Pencil`.
    direction : tuple of Tensor or list of Tensor
        The elements of L(v) that move, for all v: stacked along a first axis, or listed if they were computed in turn.
    count : int
        The number of lines.
    point : Tensor or None
        (count,) The index of the θ of each line, if there are several θ.
    """

    program: LineProgram
    start: tuple[Tensor, ...]
    direction: tuple[Tensor | list[Tensor], ...]
    count: int
    point: Tensor | None

    def __getitem__(self, index: slice) -> Lines:
        """Some neighbouring lines."""
        count, point = len(range(self.count)[index]), None if self.point is None else self.point[index]
        return Lines(self.program, self.start, tuple(part[index] for part in self.direction), count, point)

    def stacked(self) -> Lines:
        """The same lines with all elements stacked, so that passes with several lines do not stack them each time."""
        return replace(self, direction=tuple(_stacked(each) for each in self.direction))

    def values(self, index: Tensor, t: Tensor) -> Tensor:
        """The values f(θ + t v, x), stacked along a first axis, for the lines ``index`` (n,) and their t (n,).

        Each n needs its own program. On a GPU, n is therefore filled up to a power of two, with values that are not
        used; splitting it into several powers of two would take longer, because of the launches.
        """
        count = len(t)
        unused = (1 << (count - 1).bit_length()) - count if t.is_cuda else 0
        if unused:
            index, t = (torch.nn.functional.pad(each, (0, unused)) for each in (index, t))
        point = None if self.point is None else self.point.index_select(0, index)
        moves, direction, parts = self.program.moves, iter(self.direction), []
        for part, does in zip(self.start, moves, strict=True):
            if does:
                along = next(direction)
                chosen = _stacked(along) if self.count == 1 else _chosen(along, index)
                start = part if point is None else part.index_select(0, point)
                parts.append(torch.addcmul(start, chosen, t.view(-1, *(1 for _ in chosen.shape[1:]))))
            else:
                parts.append(part)
        result: Tensor = self.program.apply("value", len(t), parts, moves)
        return result[:count]


def _stacked(each: Tensor | list[Tensor]) -> Tensor:
    """Tensors that are stacked or listed, stacked along a first axis; a single one is not copied."""
    if isinstance(each, list):
        return each[0][None] if len(each) == 1 else torch.stack(each)
    return each


def _chosen(each: Tensor | list[Tensor], index: Tensor) -> Tensor:
    """Those of several tensors with the indices ``index`` (n,), stacked; a single one is not copied on a CPU."""
    if isinstance(each, list):
        return _stacked([each[place] for place in index.tolist()])
    if index.device.type == "cpu" and len(index) == 1:  # on a GPU, the host would wait for an index
        return each[int(index) : int(index) + 1]
    return each.index_select(0, index)


def trace_line(
    f: Callable[[Tensor, Tensor], Tensor],
    then: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]],
    theta: Tensor,
    x: Tensor,
    y: Tensor,
) -> LineProgram:
    """Trace the :class:`LineProgram` of ``f`` and ``then``."""

    def value(theta: Tensor, x: Tensor) -> Tensor:  # a bound method can't be traced
        return f(theta, x)

    graph = decompose_operations(value, theta, x)
    drop_copies(graph)
    graph.eliminate_dead_code()
    point, rows = _placeholders(graph)
    takes_sparse_rows = _only_linear_part_uses(rows, graph, point) and use_sparse_rows(graph, rows)
    let_views_copy(graph)
    inputs = SparseRows.of(x) if takes_sparse_rows else (x,)
    constants, rest = split_graph(graph, _of_each_point(graph, point))
    linear, nonlinear = _split_linear_part(rest.graph)
    moves = _moves(linear.graph)
    start, direction = (linear(at, *constants(*inputs)) for at in (theta, torch.zeros_like(theta)))
    moving = tuple(part for part, does in zip(direction, moves, strict=True) if does)
    derivative_programs = _DerivativePrograms(nonlinear, then, moves, start, moving, y)
    return LineProgram(constants, linear, moves, nonlinear, derivative_programs, takes_sparse_rows)


def _only_linear_part_uses(rows: fx.Node, graph: fx.Graph, point: fx.Node) -> bool:
    """Whether x, the placeholder ``rows``, occurs only in the part that is linear in θ, which is not differentiated.

    PyTorch has no forward mode for products with sparse rows.
    """
    of_each_point, linear = dependents(graph, {point}), linear_nodes(graph, point)
    of_rows = dependents(graph, {rows}) - of_each_point
    return all(node in linear for node in of_each_point if not of_rows.isdisjoint(node.all_input_nodes))


def _of_each_point(graph: fx.Graph, point: fx.Node) -> set[fx.Node]:
    """The nodes that must be computed at each θ, the placeholder ``point``: those that depend on it.

    If the graph has in-place operations, these could change what is computed earlier, and all nodes are included except
    the other placeholders.
    """
    if changed_in_place(graph):
        return {node for node in graph.nodes if node.op != "placeholder" or node is point}
    return dependents(graph, {point})


def _split_linear_part(graph: fx.Graph) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Split the graph of (θ, \\*c) ↦ f into the linear part and the rest."""
    point, *_ = _placeholders(graph)
    linear = linear_nodes(graph, point)
    return split_graph(graph, {node for node in _of_each_point(graph, point) if node not in linear})


def _moves(linear: fx.Graph) -> tuple[bool, ...]:
    """Whether each output of the graph of the linear part depends on θ."""
    point, *_ = _placeholders(linear)
    output = next(node for node in linear.nodes if node.op == "output")
    depends = dependents(linear, {point})
    parts: Any = output.args[0]
    return tuple(part in depends for part in parts)


@dataclass(frozen=True)
class _DerivativePrograms:
    """The programs for then(f, f′, f″, y), traced when they are first used: not every data set needs derivatives.

    Attributes
    ----------
    f : callable
        \\*L(θ) → f.
    then : callable
        (f, f′, f″, y) → a tuple of tensors.
    moves : tuple of bool
        Whether each element of L(θ) depends on θ.
    start, direction, y : tuple of Tensor, and Tensor
        L(θ), the elements of L(v) that move, and y, to trace with.
    """

    f: Callable[..., Tensor]
    then: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]
    moves: tuple[bool, ...]
    start: tuple[Tensor, ...]
    direction: tuple[Tensor, ...]
    y: Tensor

    @cached_property
    def traced(self) -> tuple[fx.GraphModule, fx.GraphModule]:
        """``primal`` and ``tangent`` of :class:`LineProgram`."""
        start = self.start

        def directions(graph: fx.Graph) -> set[fx.Node]:
            return set(_placeholders(graph)[len(start) + 1 :])

        graph = trace_graph(self._compute, *start, self.y, *self.direction)
        graph.eliminate_dead_code()
        graph = _merge_repetitions(graph)  # each of the two derivatives computes the first one
        drop_neutral(graph)
        spell_out_products(graph, directions(graph))
        move_row_dots(graph, directions(graph))
        graph = _merge_repetitions(graph)  # those that were hidden by zeros
        merge_row_dots(graph, directions(graph))
        gather_and_fuse(graph, directions(graph))
        return split_graph(graph, dependents(graph, directions(graph)))

    def _compute(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """The derivatives, for the arguments (\\*start, y, \\*direction)."""
        count = len(self.moves)
        start, y, direction = arguments[:count], arguments[count], arguments[count + 1 :]

        def moved(*parts: Tensor) -> Tensor:
            left = iter(parts)
            return self.f(*(next(left) if does else part for part, does in zip(start, self.moves, strict=True)))

        def first(*parts: Tensor) -> Any:
            return torch.func.jvp(moved, parts, direction)

        moving = tuple(part for part, does in zip(start, self.moves, strict=True) if does)
        if not moving:
            value = self.f(*start)
            return self.then(value, torch.zeros_like(value), torch.zeros_like(value), y)
        nested: Any = torch.func.jvp(first, moving, direction)
        (value, slope), (_, curvature) = nested
        return self.then(value, slope, curvature, y)


def _for_one(one: fx.GraphModule) -> fx.GraphModule:
    """Return ``one``, with operations that reuse memory. ``one`` itself stays fit to be traced again."""
    program = copy.deepcopy(one)
    reuse_memory(program.graph, set(program.graph.nodes))
    program.recompile()
    return program


def _for_several(one: fx.GraphModule, count: int, parts: Sequence[Tensor], stacked: Sequence[bool]) -> fx.GraphModule:
    """Trace ``one`` for several lines together; see :meth:`LineProgram.apply`."""

    def all_of_them(*parts: Tensor) -> Any:
        lines = parts[0].new_empty(count)  # if no argument is stacked
        dims = tuple(0 if each else None for each in stacked)
        return torch.func.vmap(lambda _, *of_one: one(*of_one), (0, *dims))(lines, *parts)

    def each_alone(*parts: Tensor) -> Any:
        results = [
            one(*(part[i] if each else part for part, each in zip(parts, stacked, strict=True))) for i in range(count)
        ]
        return (
            torch.stack(results)
            if isinstance(results[0], torch.Tensor)
            else tuple(map(torch.stack, zip(*results, strict=True)))
        )

    writes = changed_in_place(one.graph)  # which vmap does not allow for a tensor that all lines share
    graph = trace_graph(each_alone if writes else all_of_them, *parts)
    graph.eliminate_dead_code()
    if writes:
        return fx.GraphModule(one, graph)
    moving = {node for node, each in zip(_placeholders(graph), stacked, strict=True) if each}
    drop_neutral(graph)
    gather_and_fuse(graph, moving)
    reuse_memory(graph, dependents(graph, moving))
    graph.lint()
    return fx.GraphModule(one, graph)


def _placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def _merge_repetitions(graph: fx.Graph) -> fx.Graph:
    """Return the graph in which each operation that occurs twice on the same arguments is done once."""
    module = torch.fx.GraphModule(graph.owning_module or torch.nn.Module(), graph)
    result = CSEPass()(module)
    return module.graph if result is None else result.graph_module.graph
