"""Products with H, the Hessian of the mean cross-entropy E over a data set (Pearlmutter 1994).

H v = (1/N) Σₙ ∇²ℓₙ(θ) v is the derivative of ∇E along v. It is computed in chunks of rows, each summed, so a short last
chunk has its due weight. What does not depend on v is computed once at each θ and cached, as far as memory allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from hesstore.autodiff import trace_tangent
from hesstore.curvature.row_chunks import arrange_chunks

if TYPE_CHECKING:
    from torch import Tensor

    from hesstore.autodiff import TangentProgram
    from hesstore.problem.models import FlatModel

    Primal = tuple[Tensor, ...]


def gradient(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, chunk_rows: int = 8192) -> Tensor:
    """∇E(θ), without the penalty, over all rows of ``x``, ``y``; summed in float64.

    For θ (P,) as for G of them, (G, P); ``chunk_rows`` counts the rows of all.
    """
    slope = torch.func.grad(model.loss_sum)
    if theta.dim() == 2:
        slope, chunk_rows = torch.func.vmap(slope, in_dims=(0, None, None)), _share(chunk_rows, len(theta))
    total = torch.zeros(theta.shape, dtype=torch.float64, device=theta.device)
    for rows, labels in zip(torch.split(x, chunk_rows), torch.split(y, chunk_rows), strict=True):
        total += slope(theta, rows, labels)
    return (total / len(y)).to(theta.dtype)


def _share(chunk_rows: int, copies: int) -> int:
    """Rows of one of ``copies`` models that pass through the network together."""
    return max(1, chunk_rows // copies)


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
        return self.theta.shape[-1]

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
        """H v for ``v`` of θ's shape."""
        total: Tensor | None = None
        for chunk in self._chunks:
            primal = chunk.primal
            if primal is None:
                primal = chunk.program.primal(self.theta, *chunk.inputs, chunk.y)
            product: Tensor = chunk.program.tangent(v, *primal)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 - a data set has rows
        return total.div_(self._rows)


class HessianStack(HessianOperator):
    """H at each of G points; a :class:`~hesstore.linalg.OperatorStack`. Made by :meth:`Hessian.at_each`.

    Products are of v (G, P), row by row: H(θ_g) v_g.
    """

    def __init__(self, theta: Tensor, chunks: list[_Chunk], hessian: Hessian, cache_bytes: float) -> None:
        super().__init__(theta, chunks)
        self._hessian, self._cache_bytes = hessian, cache_bytes

    @property
    def copies(self) -> int:
        """G."""
        return len(self.theta)

    def subset(self, rows: list[int]) -> HessianStack:
        """H at some of the points."""
        self._chunks = []  # their cache, before the subset fills its own
        return self._hessian.at_each(self.theta[rows], cache_bytes=self._cache_bytes)


class Hessian:
    """H of E over a data set, at any θ.

    Parameters
    ----------
    model : FlatModel
        The network; twice differentiable.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    chunk_rows : int
        Most rows that pass through the network at once, those of all points of a stack together. It fixes the order of
        summation, hence the last bits. On a CPU a few thousand are fastest: their values stay in cache, and more
        columns of theirs are constant.

    Examples
    --------
    >>> import torch
    >>> from hesstore.problem.models import build
    >>> model = build("mlp", (3,), (4,), 2, seed=0)
    >>> x, y = torch.randn(10, 4), torch.randint(2, (10,))
    >>> Hessian(model, x, y).at(model.theta()).matvec(torch.ones(model.layout.size)).shape
    torch.Size([23])
    """

    def __init__(self, model: FlatModel, x: Tensor, y: Tensor, *, chunk_rows: int = 2048) -> None:
        self.model = model
        self._x, self._y, self._chunk_rows = x, y, chunk_rows
        self._arranged: dict[torch.Size, list[_Chunk]] = {}

    def _arrange(self, theta: Tensor) -> list[_Chunk]:
        """The rows in chunks, each with the program of its size."""
        stacked = theta.dim() == 2
        most = _share(self._chunk_rows, len(theta)) if stacked else self._chunk_rows
        slope = torch.func.grad(self.model.loss_sum)
        chunks = arrange_chunks(lambda x, y: trace_tangent(slope, theta, x, y, stacked=stacked), self._x, self._y, most)
        return [_Chunk(program, inputs, labels) for program, inputs, labels in chunks]

    def at(self, theta: Tensor, *, cache_bytes: float = float("inf")) -> HessianOperator:
        """H at ``theta`` (P,), with at most ``cache_bytes`` of cached primal values.

        Chunks beyond the budget recompute their primal pass at each product: slower, same bits.
        """
        return HessianOperator(theta, self._chunks_at(theta, cache_bytes))

    def at_each(self, theta: Tensor, *, cache_bytes: float = float("inf")) -> HessianStack:
        """H at each row of ``theta`` (G, P), as one operator; ``cache_bytes`` for all together."""
        return HessianStack(theta, self._chunks_at(theta, cache_bytes), self, cache_bytes)

    @torch.no_grad()
    def row_bytes(self, theta: Tensor, *, sample: int = 64) -> float:
        """Bytes of primal values that are cached for each row at one θ, measured on a ``sample`` of rows."""
        x, y = self._x[:sample], self._y[:sample]
        program = trace_tangent(torch.func.grad(self.model.loss_sum), theta, x, y)
        inputs = program.inputs(x)
        primal = program.primal(theta, *inputs, y)
        return _unshared_bytes(primal, {_storage(t) for t in (theta, self._x, y, *inputs)}) / len(y)

    @torch.no_grad()
    def _chunks_at(self, theta: Tensor, cache_bytes: float) -> list[_Chunk]:
        if theta.shape not in self._arranged:  # once: what is traced serves every θ of its shape
            self._arranged[theta.shape] = self._arrange(theta)
        arranged = self._arranged[theta.shape]
        chunks = []
        left = cache_bytes
        resident = {_storage(theta), _storage(self._x)}
        resident |= {_storage(t) for chunk in arranged for t in (*chunk.inputs, chunk.y)}
        for chunk in arranged:
            # Once a chunk did not fit none is tried again: a trial costs a pass and its memory.
            primal: Primal | None = chunk.program.primal(theta, *chunk.inputs, chunk.y) if left > 0 else None
            if primal is not None:
                left -= _unshared_bytes(primal, resident)
                if left < 0:
                    primal = None
            chunks.append(replace(chunk, primal=primal))
        return chunks


def _unshared_bytes(tensors: Primal, resident: set[int]) -> int:
    """Bytes of the distinct storages behind ``tensors``, less those that are resident anyway."""
    storages = {_storage(t): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for storage, size in storages.items() if storage not in resident)


def _storage(tensor: Tensor) -> int:
    """What tells a tensor's memory from another's, on devices without addresses too."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001
