"""Splitting the rows of a data set into chunks, each with the traced program for its number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import torch

from hesstore.autodiff import sparse_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from hesstore.problem.models import Inputs


class RowProgram(Protocol):
    """A program that was traced for a number of rows."""

    @property
    def takes_sparse_rows(self) -> bool:
        """Whether the program takes rows as :class:`~hesstore.autodiff.sparse_rows.SparseRows`."""
        ...

    def inputs(self, x: Any) -> tuple[Tensor, ...]:
        """The inputs of the program for the rows ``x``."""
        ...


Program = TypeVar("Program", bound=RowProgram)


class RowChunk(NamedTuple, Generic[Program]):
    """A chunk of the rows of a data set.

    Attributes
    ----------
    program : RowProgram
        The program for its number of rows.
    inputs : tuple of Tensor
        What the program takes for the inputs of the rows.
    labels : Tensor
        Their labels or other targets.
    rows : Tensor
        (n,) Their indices in the data set.
    """

    program: Program
    inputs: tuple[Tensor, ...]
    labels: Tensor
    rows: Tensor


def split_into_chunks(
    trace: Callable[[Any, Tensor], Program],
    x: Inputs,
    y: Tensor,
    max_rows: int,
    programs: dict[int, Program] | None = None,
) -> list[RowChunk[Program]]:
    """Split rows into chunks of at most ``max_rows`` rows.

    ``programs`` holds the program for each number of rows; programs that are missing are made by ``trace`` and added.
    If the programs can leave out the background of the rows, these are first sorted so that chunks have much of it.
    """
    programs = {} if programs is None else programs

    def program_for(rows: Inputs, labels: Tensor) -> Program:
        if len(labels) not in programs:
            programs[len(labels)] = trace(rows, labels)
        return programs[len(labels)]

    size, order = even_chunk_rows(len(y), max_rows), torch.arange(len(y), device=y.device)
    if program_for(first_rows(x, size), y[:size]).takes_sparse_rows:
        rows: Any = x  # one tensor, because programs of several do not take sparse rows
        order = sparse_rows.row_order(rows, y)
        x, y = rows[order], y[order]
    chunks = []
    for (rows, labels), indices in zip(split_rows(x, y, size), torch.split(order, size), strict=True):
        program = program_for(rows, labels)
        chunks.append(RowChunk(program, program.inputs(rows), labels, indices))
    return chunks


def first_rows(x: Inputs, count: int) -> Inputs:
    """The first rows of the inputs of a network."""
    return tuple(part[:count] for part in x) if isinstance(x, tuple) else x[:count]


def split_rows(x: Inputs, y: Tensor, size: int) -> Iterator[tuple[Any, Tensor]]:
    """The inputs and targets of successive chunks of at most ``size`` rows."""
    if isinstance(x, tuple):
        parts: Any = zip(*(torch.split(part, size) for part in x), strict=True)
    else:
        parts = torch.split(x, size)
    return zip(parts, torch.split(y, size), strict=True)


def even_chunk_rows(rows: int, max_rows: int) -> int:
    """The number of rows in a chunk, at most ``max_rows``.

    It is the largest size above half of ``max_rows`` that leaves no short chunk, or ``max_rows`` if there is no such
    size. A short chunk needs its own program, and tracing one takes as long as about ten products.
    """
    sizes = range(min(max_rows, rows), max_rows // 2, -1)
    return next((size for size in sizes if rows % size == 0), max_rows)
