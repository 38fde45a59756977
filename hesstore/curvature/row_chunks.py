"""Splitting the rows of a data set into chunks, each with the traced program for its number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from hesstore.autodiff import constant_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class RowProgram(Protocol):
    """A program that was traced for a number of rows."""

    @property
    def takes_varying_columns(self) -> bool:
        """Whether the program takes rows without their constant columns."""
        ...

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the program for the rows ``x``."""
        ...


Program = TypeVar("Program", bound=RowProgram)


def split_into_chunks(
    trace: Callable[[Tensor, Tensor], Program],
    x: Tensor,
    y: Tensor,
    max_rows: int,
    programs: dict[int, Program] | None = None,
) -> list[tuple[Program, tuple[Tensor, ...], Tensor]]:
    """Split rows into chunks of at most ``max_rows`` rows: (program, inputs, labels) of each.

    ``programs`` holds the program for each number of rows; programs that are missing are made by ``trace`` and added.
    If the programs can leave out constant columns, the rows are first sorted so that chunks have many of them.
    """
    programs = {} if programs is None else programs

    def program_for(rows: Tensor, labels: Tensor) -> Program:
        if len(labels) not in programs:
            programs[len(labels)] = trace(rows, labels)
        return programs[len(labels)]

    size = even_chunk_rows(len(y), max_rows)
    if program_for(x[:size], y[:size]).takes_varying_columns:
        order = constant_columns.row_order(x, y)
        x, y = x[order], y[order]
    chunks = []
    for rows, labels in zip(torch.split(x, size), torch.split(y, size), strict=True):
        program = program_for(rows, labels)
        chunks.append((program, program.inputs(rows), labels))
    return chunks


def even_chunk_rows(rows: int, max_rows: int) -> int:
    """The number of rows in a chunk, at most ``max_rows``.

    It is the largest size above half of ``max_rows`` that leaves no short chunk, or ``max_rows`` if there is no such
    size. A short chunk needs its own program, and tracing one takes as long as about ten products.
    """
    sizes = range(min(max_rows, rows), max_rows // 2, -1)
    return next((size for size in sizes if rows % size == 0), max_rows)
