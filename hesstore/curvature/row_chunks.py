"""Rows of a data set in chunks, each with the program that takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from hesstore.autodiff import constant_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class RowProgram(Protocol):
    """A program traced for a number of rows."""

    @property
    def takes_varying_columns(self) -> bool:
        """Whether it takes rows without their constant columns."""
        ...

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """``x`` as it takes it."""
        ...


Program = TypeVar("Program", bound=RowProgram)


def arrange_chunks(
    trace: Callable[[Tensor, Tensor], Program],
    x: Tensor,
    y: Tensor,
    most: int,
    programs: dict[int, Program] | None = None,
) -> list[tuple[Program, tuple[Tensor, ...], Tensor]]:
    """(program, inputs, labels) of chunks of at most ``most`` rows.

    ``trace`` makes the program of each number of rows that is not among ``programs``, and it joins them. Where a
    program can leave out constant columns, the rows are put in an order that makes many.
    """
    programs = {} if programs is None else programs

    def program_for(rows: Tensor, labels: Tensor) -> Program:
        if len(labels) not in programs:
            programs[len(labels)] = trace(rows, labels)
        return programs[len(labels)]

    most = even(len(y), most)
    if program_for(x[:most], y[:most]).takes_varying_columns:
        order = constant_columns.row_order(x, y)
        x, y = x[order], y[order]
    chunks = []
    for rows, labels in zip(torch.split(x, most), torch.split(y, most), strict=True):
        program = program_for(rows, labels)
        chunks.append((program, program.inputs(rows), labels))
    return chunks


def even(rows: int, most: int) -> int:
    """At most ``most`` rows a chunk: the largest size down to half of it that leaves no short chunk, else ``most``.

    A short chunk is a program of its own, and tracing one costs as much as some ten products.
    """
    sizes = range(min(most, rows), most // 2, -1)
    return next((size for size in sizes if rows % size == 0), most)
