"""Products with H, the Hessian of the mean loss E over a data set, and with its Gauss–Newton part G.

For a network with parameters θ and rows n = 1 … N with losses ℓₙ(θ),

    E(θ) = (1/N) Σₙ ℓₙ(θ)        H v = (1/N) Σₙ ∇²ℓₙ(θ) v = d/dt ∇E(θ + t v) at t = 0

so H v is a derivative of the gradient along v, and H is never formed (Pearlmutter 1994). :func:`hessian_product` is
this definition in a few lines. :class:`FlatHessian` computes the same products faster; tests compare the two.

With J the derivative of the outputs z of a row, the chain rule splits H into two parts,

    H = G + R        G = (1/N) Σₙ Jₙᵀ (∂²ℓₙ/∂z∂z) Jₙ        R = (1/N) Σₙ Σ_c (∂ℓₙ/∂z_c) ∇²z_c

:func:`gauss_newton_sum` is the product with G (Schraudolph 2002). N is the weight W of the targets where the loss has
another one (``problem/losses.py``).

The fast versions work in four steps:

1. The rows are split into chunks of equal size (``curvature/row_chunks.py``). Each chunk is a sum over its rows, so a
   short last chunk has its due weight.
2. The sum over the rows, such as d/dt ∇(Σ ℓₙ)(θ + t v), is traced once for each chunk size as a graph of tensor
   operations (``autodiff/tracing.py``), which ``autodiff/simplify.py`` rewrites to do less work.
3. Matrix products leave out the background of x, such as the blank pixels of digits (``autodiff/sparse_rows.py``). The
   rows are sorted so that each chunk has much of it.
4. The graph is split where operations first use v (``autodiff/tangent.py``, ``autodiff/graph_split.py``). The values
   that do not depend on v are computed once at each θ and cached as far as memory allows; each product computes only
   the rest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal, get_args

import torch

from hesstore.autodiff import trace_linear, trace_tangent
from hesstore.curvature.clone_units import CloneUnits, HiddenLayer, find_hidden_layers
from hesstore.curvature.row_chunks import first_rows, split_into_chunks, split_rows
from hesstore.linalg.aligned_rows import in_aligned_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from hesstore.autodiff import TangentProgram
    from hesstore.problem.models import FlatModel, Inputs

    Primal = tuple[Tensor, ...]
    TangentPrograms = dict[torch.Size, dict[int, TangentProgram]]

Kind = Literal["hessian", "ggn"]
"""A matrix of second derivatives: H, or its Gauss–Newton part G."""


def hessian_product(model: FlatModel, theta: Tensor, x: Inputs, y: Tensor, v: Tensor) -> Tensor:
    """H v for ``v`` (P,) by its definition, d/dt ∇E(θ + t v) at t = 0, over all rows together.

    This is the specification of :class:`FlatHessian`, which computes the same products faster.
    """

    def mean_loss(theta: Tensor) -> Tensor:
        return model.loss_sum(theta, x, y) / (model.loss.weight(y) or 1)

    product: Tensor = torch.func.jvp(torch.func.grad(mean_loss), (theta,), (v,))[1]
    return product


def gauss_newton_sum(model: FlatModel, theta: Tensor, x: Inputs, y: Tensor, v: Tensor) -> Tensor:
    """Σₙ Jₙᵀ (∂²ℓₙ/∂z∂z) Jₙ v for ``v`` (P,), over all rows together; G v is this sum, divided as the loss is."""

    def outputs(theta: Tensor) -> Tensor:
        return model.logits(theta, x)

    def loss_sum(outputs: Tensor) -> Tensor:
        return model.loss.sum(outputs, y)

    z, pull_back = torch.func.vjp(outputs, theta)[:2]
    dz = torch.func.jvp(outputs, (theta,), (v,))[1]
    bend = torch.func.jvp(torch.func.grad(loss_sum), (z,), (dz,))[1]
    product: Tensor = pull_back(bend)[0]
    return product


def gradient(model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, chunk_rows: int = 8192) -> Tensor:
    """∇E(θ) of a mean over rows, without the penalty, over all rows of ``x`` and ``y``; summed in float64.

    ``theta`` is one vector (P,) or a stack of G vectors (G, P), for which ``chunk_rows`` limits the rows of all G
    models together.
    """
    gradient_sum = torch.func.grad(model.loss_sum)
    if theta.dim() == 2:
        gradient_sum = torch.func.vmap(gradient_sum, in_dims=(0, None, None))
        chunk_rows = _rows_per_copy(chunk_rows, len(theta))
    total = torch.zeros(theta.shape, dtype=torch.float64, device=theta.device)
    for rows, labels in zip(torch.split(x, chunk_rows), torch.split(y, chunk_rows), strict=True):
        total += gradient_sum(theta, rows, labels)
    return (total / len(y)).to(theta.dtype)


def error_and_gradient(
    model: FlatModel, theta: Tensor, x: Inputs, y: Tensor, chunk_rows: int = 8192
) -> tuple[float, Tensor]:
    """E and ∇E (P,) at ``theta`` (P,), both in float64, over all rows of ``x`` and ``y``."""
    evaluate = torch.func.grad_and_value(model.loss_sum)
    error = torch.zeros((), dtype=torch.float64, device=theta.device)
    total = torch.zeros(theta.shape, dtype=torch.float64, device=theta.device)
    for rows, labels in split_rows(x, y, chunk_rows):
        slope, value = evaluate(theta, rows, labels)
        error += value
        total += slope
    weight = model.loss.weight(y)
    return float(error) / weight, total / weight


def _rows_per_copy(chunk_rows: int, copies: int) -> int:
    """The number of rows in a chunk of each of ``copies`` models that are computed together."""
    return max(1, chunk_rows // copies)


@dataclass(frozen=True)
class _Chunk:
    """A chunk of rows, as its program takes them, and its cached primal values (None: computed at each product)."""

    program: TangentProgram
    inputs: tuple[Tensor, ...]
    y: Tensor
    primal: Primal | None = None


class HessianOperator:
    """H or G at one θ, as a :class:`~hesstore.linalg.SymmetricOperator`; made by :meth:`FlatHessian.at`."""

    def __init__(
        self, theta: Tensor, chunks: list[_Chunk], hessian: FlatHessian, on_product: Callable[[], object] | None = None
    ) -> None:
        self.theta = theta
        self._chunks, self._hessian, self._on_product = chunks, hessian, on_product

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return self.theta.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the products."""
        return self.theta.dtype

    @property
    def device(self) -> torch.device:
        """The device on which the products are computed."""
        return self.theta.device

    @cached_property
    def images(self) -> CloneUnits:
        """Permutations of hidden units that are nearly equal at θ."""
        return CloneUnits(self._hessian.hidden_layers, self.theta)

    @torch.no_grad()
    def matvec(self, v: Tensor) -> Tensor:
        """H v for ``v`` of the shape of θ."""
        total: Tensor | None = None
        for chunk in self._chunks:
            primal = chunk.primal
            if primal is None:
                primal = chunk.program.primal(self.theta, *chunk.inputs, chunk.y)
            product: Tensor = chunk.program.tangent(v, *primal)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 - a data set has rows
        if self._on_product is not None:
            self._on_product()
        return total.div_(self._hessian.weight)


class HessianStack(HessianOperator):
    """H at each of G points, as a :class:`~hesstore.linalg.OperatorStack`; made by :meth:`FlatHessian.at_each`.

    For v (G, P), the product has H(θ_g) v_g in row g.
    """

    def __init__(
        self,
        theta: Tensor,
        chunks: list[_Chunk],
        hessian: FlatHessian,
        cache_bytes: float,
        on_product: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(theta, chunks, hessian, on_product)
        self._cache_bytes = cache_bytes

    @property
    def copies(self) -> int:
        """G, the number of points."""
        return len(self.theta)

    @cached_property
    def each_images(self) -> list[CloneUnits]:
        """The permutations at each of the points."""
        return [CloneUnits(self._hessian.hidden_layers, theta) for theta in self.theta]

    def subset(self, rows: list[int]) -> HessianStack:
        """Return the stack for some of the points; this stack must not be used again."""
        self._chunks = []  # frees the cached values before the subset computes its own
        return self._hessian.at_each(self.theta[rows], cache_bytes=self._cache_bytes, on_product=self._on_product)


class FlatHessian:
    """H of E over a data set, at any θ, or its Gauss–Newton part G.

    Parameters
    ----------
    model : FlatModel
        The network; twice differentiable.
    x, y : Tensor
        Inputs (N, …) and labels (N,), or other targets of the model's loss.
    chunk_rows : int
        Maximum number of rows in a chunk, counting the rows of all points of a stack together. It fixes the order of
        summation and hence the last bits. On a CPU a few thousand rows are fastest, because their values stay in the
        processor's cache and more of their columns are constant.
    kind : {"hessian", "ggn"}
        Whether products are those with H or with G.
    programs : dict
        The traced programs by the shape of θ and the number of rows. Pass the same dict to share programs between
        data sets of one model and one kind.

    Examples
    --------
    >>> import torch
    >>> from hesstore.problem.models import build
    >>> model = build("mlp", (3,), (4,), 2, seed=0)
    >>> x, y = torch.randn(10, 4), torch.randint(2, (10,))
    >>> FlatHessian(model, x, y).at(model.theta()).matvec(torch.ones(model.layout.size)).shape
    torch.Size([23])
    """

    def __init__(
        self,
        model: FlatModel,
        x: Inputs,
        y: Tensor,
        *,
        chunk_rows: int = 2048,
        kind: Kind = "hessian",
        programs: TangentPrograms | None = None,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"kind: {kind!r} is not one of {', '.join(get_args(Kind))}")
        self.model, self.kind = model, kind
        self._x, self._y, self._chunk_rows = x, y, chunk_rows
        self._programs: TangentPrograms = {} if programs is None else programs
        self._chunks_by_shape: dict[torch.Size, list[_Chunk]] = {}

    @cached_property
    def hidden_layers(self) -> list[HiddenLayer]:
        """The hidden layers whose units can be exchanged."""
        return find_hidden_layers(self.model, first_rows(self._x, 8))

    @cached_property
    def weight(self) -> float:
        """The number by which sums over all rows are divided: N, or the weight of the targets in the loss."""
        return self.model.loss.weight(self._y)

    def _trace(self, theta: Tensor, x: Inputs, y: Tensor) -> TangentProgram:
        """Trace the program of the products, summed over rows."""
        stacked = theta.dim() == 2
        if self.kind == "ggn":
            return trace_linear(partial(gauss_newton_sum, self.model), theta, x, y, stacked=stacked)
        return trace_tangent(torch.func.grad(self.model.loss_sum), theta, x, y, stacked=stacked)

    def _split_rows(self, theta: Tensor) -> list[_Chunk]:
        """The rows in chunks, each with the program for its number of rows."""
        max_rows = _rows_per_copy(self._chunk_rows, len(theta)) if theta.dim() == 2 else self._chunk_rows
        programs = self._programs.setdefault(theta.shape, {})
        chunks = split_into_chunks(partial(self._trace, theta), self._x, self._y, max_rows, programs)
        return [_Chunk(chunk.program, chunk.inputs, chunk.labels) for chunk in chunks]

    def at(
        self, theta: Tensor, *, cache_bytes: float = float("inf"), on_product: Callable[[], object] | None = None
    ) -> HessianOperator:
        """H at ``theta`` (P,), with at most ``cache_bytes`` of cached primal values.

        Chunks that do not fit compute their primal values again at each product, which is slower but gives the same
        bits. ``on_product`` is called after each product.
        """
        return HessianOperator(theta, self._chunks_at(theta, cache_bytes), self, on_product)

    def at_each(
        self, theta: Tensor, *, cache_bytes: float = float("inf"), on_product: Callable[[], object] | None = None
    ) -> HessianStack:
        """H at each row of ``theta`` (G, P), as one operator; ``cache_bytes`` is the limit for all rows together."""
        theta = in_aligned_rows(theta)
        return HessianStack(theta, self._chunks_at(theta, cache_bytes), self, cache_bytes, on_product)

    def part_at(self, theta: Tensor, *, cache_bytes: float, seconds: float) -> tuple[HessianOperator, float]:
        """A part of the sum over rows, whose products show how long those of all rows take.

        Parameters
        ----------
        theta : Tensor
            (P,) or (G, P), as for :meth:`at` and :meth:`at_each`.
        cache_bytes : float
            The memory for cached primal values of all rows; as large a share of the part is cached.
        seconds : float
            The time after which no further chunk is added to the first.

        Returns
        -------
        operator : HessianOperator
            The sum over the first chunks.
        share : float
            Their share of all chunks.
        """
        chunks = self._chunks_at(theta, cache_bytes, seconds)
        share = len(chunks) / len(self._chunks_by_shape[theta.shape])
        resident = self._resident(theta, chunks)
        cached = sum(_unshared_bytes(chunk.primal, resident) for chunk in chunks if chunk.primal is not None)
        if cached > share * cache_bytes:
            kept = int(len(chunks) * share * cache_bytes / cached)
            chunks = [*chunks[:kept], *(replace(chunk, primal=None) for chunk in chunks[kept:])]
        return HessianOperator(theta, chunks, self), share

    @property
    def _inputs(self) -> tuple[Tensor, ...]:
        return self._x if isinstance(self._x, tuple) else (self._x,)

    @torch.no_grad()
    def row_bytes(self, theta: Tensor, *, sample: int = 64) -> float:
        """Number of bytes that are cached for each row at one θ, measured on the first ``sample`` rows."""
        x, y = first_rows(self._x, sample), self._y[:sample]
        program = self._trace(theta, x, y)
        inputs = program.inputs(x)
        primal = program.primal(theta, *inputs, y)
        return _unshared_bytes(primal, {_storage(t) for t in (theta, *self._inputs, y, *inputs)}) / len(y)

    def _resident(self, theta: Tensor, chunks: list[_Chunk]) -> set[int]:
        """The storages of θ and of the data, which take no memory of their own in primal values."""
        resident = {_storage(t) for t in (theta, *self._inputs)}
        return resident | {_storage(t) for chunk in chunks for t in (*chunk.inputs, chunk.y)}

    @torch.no_grad()
    def _chunks_at(self, theta: Tensor, cache_bytes: float, seconds: float = float("inf")) -> list[_Chunk]:
        """The chunks with their primal values at ``theta``, as many as fit in ``cache_bytes``.

        After ``seconds``, the remaining chunks are left out.
        """
        if theta.shape not in self._chunks_by_shape:  # tracing is done once and serves every θ of this shape
            self._chunks_by_shape[theta.shape] = self._split_rows(theta)
        uncached = self._chunks_by_shape[theta.shape]
        chunks: list[_Chunk] = []
        left = cache_bytes
        resident = self._resident(theta, uncached)
        began = time.perf_counter()
        for chunk in uncached:
            if chunks and time.perf_counter() - began > seconds:
                break
            # After one chunk that does not fit, no other is tried: each attempt costs a pass and its memory.
            primal: Primal | None = chunk.program.primal(theta, *chunk.inputs, chunk.y) if left > 0 else None
            if primal is not None:
                left -= _unshared_bytes(primal, resident)
                if left < 0:
                    primal = None
            chunks.append(replace(chunk, primal=primal))
        return chunks


def _unshared_bytes(tensors: Primal, resident: set[int]) -> int:
    """Number of bytes in the distinct storages of ``tensors``, without those in ``resident``."""
    storages = {_storage(t): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for storage, size in storages.items() if storage not in resident)


def _storage(tensor: Tensor) -> int:
    """A number that identifies the memory of a tensor, even on devices without addresses."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001
