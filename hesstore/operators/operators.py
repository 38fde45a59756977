"""The Hessian of a network's mean loss, and its Gauss–Newton part, as operators that multiply vectors.

>>> import torch
>>> from torch import nn
>>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
>>> x, y = torch.randn(100, 4), torch.randint(3, (100,))
>>> hessian = Hessian(model, x, y)
>>> hessian.shape, (hessian @ torch.ones(67)).shape
((67, 67), torch.Size([67]))
>>> pairs = hessian.top_eigenpairs(k=5)
>>> pairs.eigenvectors.shape, bool(pairs.converged.all())
(torch.Size([5, 67]), True)
>>> list(hessian.split(pairs.eigenvectors[0]))
['0.weight', '0.bias', '2.weight', '2.bias']
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch

from hesstore.curvature import FlatHessian, error_and_gradient
from hesstore.curvature.row_memory import rows_in
from hesstore.custom_code import guarded
from hesstore.engine.devices import free_memory
from hesstore.engine.precision import full_precision
from hesstore.errors import ModelError, first_line
from hesstore.linalg import as_scipy, lanczos, trace
from hesstore.operators.blocks import Block, check_by, group_parameters
from hesstore.operators.network import make_model
from hesstore.operators.rows import load_rows
from hesstore.problem.losses import as_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scipy.sparse.linalg import LinearOperator
    from torch import Tensor, nn

    from hesstore.curvature import HessianOperator
    from hesstore.curvature.clone_units import CloneUnits
    from hesstore.curvature.hessian import Kind
    from hesstore.linalg import EigenPairs
    from hesstore.linalg.eigenpairs import Which
    from hesstore.operators.rows import Rows
    from hesstore.problem.models import FlatModel

GIB = 1 << 30
MOST_ROWS = 2048
"""Maximum number of rows in a chunk. Values of so many rows of a small network stay in a processor's cache."""


class Trace(NamedTuple):
    """An estimate of the trace of a matrix.

    Attributes
    ----------
    value : float
        The estimate.
    error : float
        Half the width of its 95 % interval by Student's t distribution; 0 if the value is exact.
    """

    value: float
    error: float


class _Operator:
    """A symmetric matrix (P, P) of second derivatives of E at the weights of a network, known by its products."""

    _kind: Kind

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        y: Any = None,
        *,
        loss: str | nn.Module = "cross_entropy",
        output: Callable[[Any], Tensor] | None = None,
        dtype: torch.dtype | None = None,
        chunk_rows: int = 0,
        memory_gib: float = 0.0,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        if chunk_rows < 0 or memory_gib < 0:
            raise ValueError(f"chunk_rows and memory_gib: {chunk_rows} and {memory_gib:g} must not be negative")
        flat, rows = make_model(model, load_rows(x, y), as_loss(loss), guarded("output", output), dtype)
        self._start(flat, rows, chunk_rows, memory_gib, guarded("progress", progress))

    def _start(
        self,
        model: FlatModel,
        rows: Rows,
        chunk_rows: int,
        memory_gib: float,
        progress: Callable[[int], object] | None,
    ) -> None:
        self._model, self._rows, self._theta = model, rows, model.theta()
        self._chunk_rows, self._memory_gib, self._progress = chunk_rows, memory_gib, progress
        self.num_matvecs = 0

    def _like(self, kind: type[_Operator], model: FlatModel) -> Any:
        """Return an operator on the same rows, of another kind or network, without another check."""
        operator = kind.__new__(kind)
        operator._start(model, self._rows, self._chunk_rows, self._memory_gib, self._progress)  # noqa: SLF001 - of this class
        return operator

    # -- a matrix ------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """P, the number of parameters that are not frozen."""
        return self._model.layout.size

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (P, P)."""
        return self.size, self.size

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the products."""
        return self._theta.dtype

    @property
    def device(self) -> torch.device:
        """The device on which the products are computed."""
        return self._theta.device

    @property
    def images(self) -> CloneUnits:
        """Permutations of hidden units that are nearly equal, with which the eigensolver finds copies."""
        return self._products.images

    @cached_property
    def _products(self) -> HessianOperator:
        rows = self._rows
        with full_precision():
            chunk_rows, cache_bytes = self._choose_sizes()
            flat = FlatHessian(self._model, rows.inputs, rows.y, chunk_rows=chunk_rows, kind=self._kind)
            try:
                return flat.at(self._theta, cache_bytes=cache_bytes)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                raise ModelError(
                    f"model: its operations can't be traced: {first_line(error)}: remove what depends on values, such "
                    "as an if on a tensor, or .item()"
                ) from error

    def _choose_sizes(self) -> tuple[int, float]:
        """The number of rows in a chunk, and the memory for cached values.

        The products of a chunk may take an eighth of the memory. Cached values that do not fit into it are computed
        again at each product.
        """
        memory = self._memory_gib * GIB or free_memory(self.device) / 2
        if self._chunk_rows:
            return self._chunk_rows, memory
        chunk_rows = rows_in(memory / 8, MOST_ROWS, self._model, self._rows.inputs, self._rows.y)
        return chunk_rows, memory

    def matvec(self, v: Tensor) -> Tensor:
        """Return the product with ``v`` (P,).

        Raises
        ------
        ValueError
            If ``v`` has another shape.
        """
        if tuple(v.shape) != (self.size,):
            raise ValueError(f"v: the shape {tuple(v.shape)} is not ({self.size},), one entry per parameter")
        with full_precision():
            product = self._products.matvec(v.to(self._theta))
        self.num_matvecs += 1
        if self._progress is not None:
            self._progress(self.num_matvecs)
        return product

    def __matmul__(self, v: Tensor) -> Tensor:
        """Return the product with ``v`` (P,), or with each column of ``v`` (P, n)."""
        if v.dim() != 2:
            return self.matvec(v)
        return torch.stack([self.matvec(column) for column in v.T], 1)

    def to_scipy(self) -> LinearOperator:
        """Return the same matrix as a SciPy ``LinearOperator``."""
        return as_scipy(self)

    # -- what it is for ------------------------------------------------------------------------------------------

    def top_eigenpairs(
        self,
        k: int = 30,
        *,
        which: Which = "LM",
        tol: float = 1e-3,
        max_matvecs: int = 2000,
        slack: float = 3e-3,
        eta: float = 1e-4,
        lowest: int = 0,
        seed: int = 0,
    ) -> EigenPairs:
        """Return the k outermost eigenpairs with their measured residual norms, and a bound on all other eigenvalues.

        Parameters
        ----------
        k : int
            Number of pairs, 1 ≤ k ≤ P.
        which : {"LM", "LA", "SA"}
            Largest magnitude, largest, smallest.
        tol : float
            Relative residual at which a pair has converged.
        max_matvecs : int
            Maximum number of products.
        slack : float
            How far the bound may lie beyond the k-th eigenvalue, relative to it. A wider bound takes fewer products;
            with ``math.inf``, there may be none.
        eta : float
            The probability with which the bound may be wrong.
        lowest : int
            Number of algebraically smallest pairs to find in addition.
        seed : int
            Seed of the start vectors.

        Returns
        -------
        EigenPairs
            The eigenvector i is ``eigenvectors[i]``, so that ``eigenvectors.T`` is (P, k).
        """
        return lanczos(
            self,
            k,
            which=which,
            tol=tol,
            max_matvecs=max_matvecs,
            slack=slack,
            eta=eta,
            lowest=lowest,
            generator=torch.Generator().manual_seed(seed),
        )

    def trace(self, num_matvecs: int = 64, *, pairs: EigenPairs | None = None, seed: int = 0) -> Trace:
        """Return the trace, from products with random vectors of signs; exact if P ≤ ``num_matvecs``.

        Parameters
        ----------
        num_matvecs : int
            Number of products, at least 2.
        pairs : EigenPairs, optional
            Eigenpairs of this operator. Their part of the trace is then known, which makes the error much smaller.
        seed : int
            Seed of the random vectors.
        """
        if num_matvecs < 2:
            raise ValueError(f"num_matvecs: {num_matvecs} is below the smallest number, 2")
        generator = torch.Generator().manual_seed(seed)
        return Trace(*trace(self, pairs if pairs is not None else self._no_pairs(), num_matvecs, generator))

    def _no_pairs(self) -> EigenPairs:
        from hesstore.linalg import EigenPairs  # noqa: PLC0415 - a type elsewhere

        none = torch.zeros(0, dtype=torch.float64)
        vectors = torch.zeros(0, self.size, dtype=self.dtype, device=self.device)
        return EigenPairs(none, vectors, none, none > 0, 0, "")

    @cached_property
    def _loss_and_gradient(self) -> tuple[float, Tensor]:
        with full_precision():
            chunk_rows = self._choose_sizes()[0]
            return error_and_gradient(self._model, self._theta, self._rows.inputs, self._rows.y, chunk_rows)

    @property
    def loss(self) -> float:
        """E, the mean loss over the rows."""
        return self._loss_and_gradient[0]

    def gradient(self) -> Tensor:
        """Return ∇E (P,), summed in float64."""
        return self._loss_and_gradient[1].to(self.dtype)

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters in the order of the entries; frozen parameters are left out."""
        return self._model.layout.names

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """Return views of a vector ``v`` (P,), such as an eigenvector, by parameter name and in its shape."""
        if tuple(v.shape) != (self.size,):
            raise ValueError(f"v: the shape {tuple(v.shape)} is not ({self.size},), one entry per parameter")
        return self._model.layout.unflatten(v)

    def restricted_to(self, names: Sequence[str]) -> Self:
        """Return the diagonal block of some parameters, by name, as an operator.

        Raises
        ------
        ValueError
            If a name is not among :attr:`parameter_names`, or if there are no names.
        """
        unknown = [name for name in names if name not in self.parameter_names]
        if unknown or not names:
            what = f"{unknown[0]!r} is not one" if unknown else "no names"
            raise ValueError(f"names: {what} of the parameters {', '.join(self.parameter_names)}")
        block: Self = self._like(type(self), self._model.restricted_to(set(names)))
        return block

    def blocks(
        self, by: str = "layer", *, k: int = 5, tol: float = 1e-3, num_matvecs: int = 64, seed: int = 0
    ) -> list[Block]:
        """Return the top eigenpairs and the trace of each diagonal block.

        Parameters
        ----------
        by : {"layer", "parameter"}
            Whether a block has all parameters of one module, or a single parameter.
        k : int
            Number of eigenpairs of each block; at most as many as it has parameters.
        tol : float
            Relative residual at which a pair has converged.
        num_matvecs : int
            Number of products for the trace; exact for blocks with at most as many parameters.
        seed : int
            Seed of the random vectors.
        """
        return list(self._each_block(check_by(by), k, tol, num_matvecs, seed))

    def _each_block(self, by: str, k: int, tol: float, num_matvecs: int, seed: int) -> Iterator[Block]:
        for name, names in group_parameters(self.parameter_names, by).items():
            block = self.restricted_to(names)
            pairs = block.top_eigenpairs(min(k, block.size), tol=tol, seed=seed)
            trace, error = block.trace(num_matvecs, pairs=pairs, seed=seed)
            self.num_matvecs += block.num_matvecs
            yield Block(name, tuple(names), block.size, pairs, trace, error)


class GGN(_Operator):
    """G, the generalised Gauss–Newton matrix of a network's mean loss: the part of H from the curvature of the loss.

    With J the derivative of the outputs of row n, G = (1/N) Σₙ Jₙᵀ (∂²ℓₙ/∂z∂z) Jₙ, and H = G + R. It has no negative
    eigenvalues. For the cross-entropy, with or without label smoothing, and for the binary cross-entropy, ∂²ℓ/∂z∂z is
    the covariance of the labels that the model predicts, so that G is the Fisher information matrix, averaged over the
    rows. For the squared error, ∂²ℓ/∂z∂z = 2 I; G is the Fisher matrix of a Gaussian with variance ½, divided by the
    number of outputs per row. The class weights of a loss count in G, but not in a Fisher matrix.

    Parameters and methods are those of :class:`Hessian`.

    Source: Schraudolph, *Fast Curvature Matrix-Vector Products* (2002); Martens, *New Insights and Perspectives on the
    Natural Gradient Method* (arXiv 1412.1193).

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> ggn = GGN(model, torch.randn(100, 4), torch.randint(3, (100,)))
    >>> bool(ggn.top_eigenpairs(k=2).eigenvalues.min() > 0)
    True
    """

    _kind: Kind = "ggn"


class Hessian(_Operator):
    """H, the Hessian of the mean loss E of a network over data, at the weights that it has now.

    The network is copied, in eval mode, so that dropout is off and batch norm uses its running statistics. The module
    itself never changes. Entries of a vector are the parameters with ``requires_grad=True``, in the order of
    ``named_parameters()``; frozen parameters and buffers are constants. A parameter in several places counts once. A
    parametrized weight is a function of the parameters that it is made of. The vector of an embedding's padding index
    is a constant.

    Parameters
    ----------
    model : nn.Module
        The network. Each output row must be a twice differentiable function of the parameters and of its own input row.
    x : array, tuple, dict, Dataset or DataLoader
        The inputs, (N, …), as a tensor or array. Floating-point values get the precision of the network; integers stay
        integers. A tuple is several inputs, a dict several inputs by name. A Dataset or DataLoader has both inputs and
        targets: it is read once, and yields ``(inputs, targets)``, or dicts with ``labels``.
    y : array, optional
        The targets, (N, …); not for a Dataset or DataLoader.
    loss : str or nn.Module
        ``"cross_entropy"``, ``"bce"`` (of logits), ``"mse"``, or an ``nn.CrossEntropyLoss``, ``nn.BCEWithLogitsLoss``
        or ``nn.MSELoss``. E is exactly this loss of all rows together.
    output : callable, optional
        Returns the tensor of outputs from what the network returns. By default it is the returned tensor, an entry or
        attribute ``logits``, or the only tensor that is returned.
    dtype : torch.dtype, optional
        float32 or float64; by default the precision of the network, and at least float32.
    chunk_rows : int
        Maximum number of rows that are computed together; 0 chooses it.
    memory_gib : float
        The memory to use, in GiB; 0 means half of the free memory. Values that do not fit are computed again at each
        product.
    progress : callable, optional
        Called with the number of products after each of them.

    Raises
    ------
    ModelError
        If E is not a twice differentiable function of the parameters alone.
    DataError
        If inputs and targets do not fit together, or are not finite.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> hessian = Hessian(model, torch.randn(100, 4), torch.randint(3, (100,)))
    >>> hessian.top_eigenpairs(k=5).eigenvalues.shape
    torch.Size([5])
    >>> [block.name for block in hessian.blocks("layer", k=1)]
    ['0', '2']
    """

    _kind: Kind = "hessian"

    def gauss_newton(self) -> GGN:
        """Return G, the Gauss–Newton part of this Hessian."""
        ggn: GGN = self._like(GGN, self._model)
        return ggn

    def residual_shares(self, pairs: EigenPairs) -> Tensor:
        """Return vᵀRv / μ of each eigenpair (k,), float64: the share of R = H − G in the eigenvalue.

        It is NaN for an eigenvalue of zero.
        """
        ggn = self.gauss_newton()
        forms = [float((ggn.matvec(v) * v).sum(dtype=torch.float64)) for v in pairs.eigenvectors]
        shares: Tensor = 1 - torch.tensor(forms, dtype=torch.float64) / pairs.eigenvalues
        return shares.where(pairs.eigenvalues != 0, torch.nan)


def top_eigenpairs(
    model: nn.Module,
    x: Any,
    y: Any = None,
    k: int = 30,
    *,
    loss: str | nn.Module = "cross_entropy",
    which: Which = "LM",
    tol: float = 1e-3,
    max_matvecs: int = 2000,
    slack: float = 3e-3,
    eta: float = 1e-4,
    lowest: int = 0,
    seed: int = 0,
    **options: Any,
) -> EigenPairs:
    """Return the k outermost eigenpairs of the Hessian of a network's mean loss.

    Parameters
    ----------
    model, x, y, loss
        As in :class:`Hessian`: x and y are tensors or arrays, or x is a Dataset or a DataLoader of both.
    k, which, tol, max_matvecs, slack, eta, lowest, seed
        As in :meth:`Hessian.top_eigenpairs`.
    **options
        Further arguments of :class:`Hessian`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> pairs = top_eigenpairs(model, torch.randn(100, 4), torch.randint(3, (100,)), k=5)
    >>> pairs.eigenvalues.shape, pairs.eigenvectors.shape
    (torch.Size([5]), torch.Size([5, 67]))
    """
    hessian = Hessian(model, x, y, loss=loss, **options)
    return hessian.top_eigenpairs(
        k, which=which, tol=tol, max_matvecs=max_matvecs, slack=slack, eta=eta, lowest=lowest, seed=seed
    )
