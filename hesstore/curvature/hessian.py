"""Products with H, the Hessian of the mean cross-entropy E over a data set (Pearlmutter 1994).

H v = (1/N) Σₙ ∇²ℓₙ(θ) v is the derivative of ∇E along v. It is computed in chunks of rows, each summed, so a short last
chunk has its due weight. What does not depend on v is computed once at each θ and cached, as far as memory allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from hesstore.programs import columns, trace

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.models import FlatModel
    from hesstore.programs import TangentProgram

    Primal = tuple[Tensor, ...]


def gradient(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, chunk_rows: int = 8192) -> Tensor:
    """∇E(θ) (P,), without the penalty, over all rows of ``x``, ``y``; summed in float64."""
    total = torch.zeros(theta.shape, dtype=torch.float64, device=theta.device)
    for rows, labels in zip(torch.split(x, chunk_rows), torch.split(y, chunk_rows), strict=True):
        total += torch.func.grad(model.loss_sum)(theta, rows, labels)
    return (total / len(y)).to(theta.dtype)


@dataclass(frozen=True)
class _Chunk:
    """Some rows, as their program takes them, and the cached primal values (None: recomputed at each product)."""

    program: TangentProgram
    inputs: tuple[Tensor, ...]
    y: Tensor
    primal: Primal | None = None


class HessianOperator:
    """H at one θ; a :class:`~hesstore.linalg.SymmetricOperator`. Made by :meth:`Hessian.at`."""

    def __init__(self, theta: Tensor, chunks: list[_Chunk]) -> None:
        self.theta = theta
        self._chunks = chunks
        self._rows = sum(len(chunk.y) for chunk in chunks)

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return len(self.theta)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products."""
        return self.theta.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self.theta.device

    @property
    def cached_share(self) -> float:
        """Share of the rows whose primal pass is cached."""
        return sum(len(chunk.y) for chunk in self._chunks if chunk.primal is not None) / self._rows

    @torch.no_grad()
    def matvec(self, v: Tensor) -> Tensor:
        """H v (P,) for ``v`` (P,)."""
        total: Tensor | None = None
        for chunk in self._chunks:
            primal = chunk.primal
            if primal is None:
                primal = chunk.program.primal(self.theta, *chunk.inputs, chunk.y)
            product: Tensor = chunk.program.tangent(v, *primal)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 - a data set has rows
        return total.div_(self._rows)


class Hessian:
    """H of E over a data set, at any θ.

    Parameters
    ----------
    model : FlatModel
        The network; twice differentiable.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    chunk_rows : int
        Rows that pass through the network at once. It fixes the order of summation, hence the last bits. On a CPU a
        few thousand are fastest: their values stay in cache, and more columns of theirs are constant.

    Examples
    --------
    >>> import torch
    >>> from hesstore.models import build
    >>> model = build("mlp", (3,), (4,), 2, seed=0)
    >>> x, y = torch.randn(10, 4), torch.randint(2, (10,))
    >>> Hessian(model, x, y).at(model.theta()).matvec(torch.ones(model.layout.size)).shape
    torch.Size([23])
    """

    def __init__(self, model: FlatModel, x: Tensor, y: Tensor, *, chunk_rows: int = 2048) -> None:
        self.model = model
        self._x, self._y, self._chunk_rows = x, y, chunk_rows
        self._chunks: list[_Chunk] = []

    def _arrange(self, theta: Tensor) -> list[_Chunk]:
        """The rows in chunks, each with the program of its size.

        Where a program can leave out constant columns, the rows are put in an order that makes many.
        """
        x, y, most = self._x, self._y, self._chunk_rows
        slope = torch.func.grad(self.model.loss_sum)
        programs = {len(y[:most]): trace(slope, theta, x[:most], y[:most])}
        if programs[len(y[:most])].factored:
            order = columns.order(x, y)
            x, y = x[order], y[order]
        chunks = []
        for rows, labels in zip(torch.split(x, most), torch.split(y, most), strict=True):
            if len(labels) not in programs:
                programs[len(labels)] = trace(slope, theta, rows, labels)
            program = programs[len(labels)]
            chunks.append(_Chunk(program, program.inputs(rows), labels))
        return chunks

    @torch.no_grad()
    def at(self, theta: Tensor, *, cache_bytes: float = float("inf")) -> HessianOperator:
        """H at ``theta`` (P,), with at most ``cache_bytes`` of cached primal values.

        Chunks beyond the budget recompute their primal pass at each product: slower, same bits.
        """
        if not self._chunks:  # once: what is traced serves every θ
            self._chunks = self._arrange(theta)
        chunks = []
        left = cache_bytes
        resident = {theta.untyped_storage().data_ptr()}
        resident |= {t.untyped_storage().data_ptr() for chunk in self._chunks for t in (*chunk.inputs, chunk.y)}
        for chunk in self._chunks:
            # Once a chunk did not fit none is tried again: a trial costs a pass and its memory.
            primal: Primal | None = chunk.program.primal(theta, *chunk.inputs, chunk.y) if left > 0 else None
            if primal is not None:
                left -= _unshared_bytes(primal, resident)
                if left < 0:
                    primal = None
            chunks.append(replace(chunk, primal=primal))
        return HessianOperator(theta, chunks)


def _unshared_bytes(tensors: Primal, resident: set[int]) -> int:
    """Bytes of the distinct storages behind ``tensors``, less those that are resident anyway."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for pointer, size in storages.items() if pointer not in resident)
