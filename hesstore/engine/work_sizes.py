"""How much work a device takes on together: models side by side, and rows of data per pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hesstore.curvature import FlatHessian
from hesstore.curvature.row_memory import rows_in
from hesstore.engine.devices import free_memory
from hesstore.errors import ConfigError, size_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hesstore.curvature.hessian import Kind
    from hesstore.problem.models import FlatModel

GIB = 1 << 30

CPU_ROWS = 2048
"""Maximum number of rows per pass on a CPU. Those of a small network stay in the cache (measured)."""

CPU_CHUNK = 2**29
"""The memory of a product on a CPU, in bytes. It is fixed, because the number of rows decides how results round."""

GPU_ROWS = 65536
"""Maximum number of rows per pass on a GPU. On an H200, matrix products of so many rows take 20 to 230 µs each, which
hides the launches."""

GPU_MODELS = 64
"""Maximum number of models side by side on a GPU. With so many, a training step on an H200 takes 4 µs for each
model, most of it memory traffic."""

LANCZOS_VECTORS = 352
"""Number of vectors for which memory is set aside for each spectrum: 256 of a chain, and 3 for each of 32 pairs."""

LEAST_ROWS = 256
"""Number of rows per pass below which a device that runs out of memory does not go."""

FIT_VECTORS = 8
"""Number of parameter vectors that a fit holds: θ, gradient, optimiser state, best weights and temporaries."""


@dataclass(frozen=True)
class Sizes:
    """How much work a device takes on together.

    Attributes
    ----------
    models : int
        G, the number of models that are trained together and of grid points that are analysed together.
    chunk_rows : int
        The number of rows of data per pass, summed over the models.
    cache_bytes : float
        The maximum memory for cached primal values while spectra are computed.
    """

    models: int
    chunk_rows: int
    cache_bytes: float

    def smaller(self, together: int, *, keep_rows: bool) -> Sizes | None:
        """The sizes to use after the device ran out of memory, or None if nothing can become smaller.

        Fewer models are tried before fewer rows. Either way, less memory is used for cached values, which changes no
        bit of the results.

        Parameters
        ----------
        together : int
            The number of models that did not fit.
        keep_rows : bool
            Whether the number of rows per pass must not change, because the config fixes it.
        """
        cache = self.cache_bytes / 2
        if together > 1:
            return replace(self, models=together // 2, cache_bytes=cache)
        if keep_rows:
            return replace(self, cache_bytes=0.0) if self.cache_bytes else None
        if self.chunk_rows <= LEAST_ROWS:
            return None
        return replace(self, chunk_rows=max(LEAST_ROWS, self.chunk_rows // 2), cache_bytes=cache)


def choose(
    model: FlatModel, x: Tensor, y: Tensor, *, models: int, chunk_rows: int, memory_gib: float, kind: Kind = "hessian"
) -> Sizes:
    """Choose the sizes for a network and the rows of its Hessian, on the device of ``x``.

    On a CPU, one model at a time and a few thousand rows are fastest. On a GPU, as many models are chosen as have room
    for their Lanczos vectors and for cached values of all rows, and as many rows as an eighth of the free memory holds.

    Parameters
    ----------
    model : FlatModel
        The network, on the same device.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    models, chunk_rows : int
        The sizes if they are given; 0 means that they are chosen here.
    memory_gib : float
        The memory to use, in GiB; 0 means half of the free memory.
    kind : {"hessian", "ggn"}
        The matrix of the products.
    """
    free = free_memory(x.device)
    budget = memory_gib * GIB or free / 2
    if x.device.type == "cpu":
        return Sizes(models or 1, chunk_rows or cpu_rows(model, x, y), budget)
    theta = model.theta()
    row_bytes = FlatHessian(model, x, y, kind=kind).row_bytes(theta)
    return Sizes(
        models or models_that_fit(budget, row_bytes * len(y), theta.numel() * theta.element_size()),
        chunk_rows or rows_that_fit(free / 8, row_bytes),
        budget,
    )


def cpu_rows(model: FlatModel, x: Tensor, y: Tensor) -> int:
    """The maximum number of rows per pass of a network on a CPU."""
    return rows_in(CPU_CHUNK, CPU_ROWS, model, x, y)


def least_bytes(parameters: int, pairs: int, itemsize: int, models: int = 1) -> int:
    """The minimum memory of fits and spectra of ``models`` models, without the data.

    Each of the eigenpairs of a spectrum, ``pairs`` in number, takes 3 vectors.
    """
    return models * (FIT_VECTORS + 3 * pairs) * parameters * itemsize


def check_memory(device: torch.device, parameters: int, pairs: int, itemsize: int, models: int = 1) -> None:
    """Check that the memory of ``device`` holds at least :func:`least_bytes`.

    Raises
    ------
    ConfigError
        If it does not.
    """
    needed, free = least_bytes(parameters, pairs, itemsize, models), free_memory(device)
    if needed > free:
        together = f"{models} models of " if models > 1 else ""
        raise ConfigError(
            f"memory: {pairs} eigenpairs of {together}{parameters:,} parameters take at least {size_text(needed)} on "
            f"{device}, but only {size_text(free)} are free: use a smaller network, --k, --lowest or --models, "
            "or another --device"
        )


def models_that_fit(budget: float, cached_bytes: float, vector_bytes: float) -> int:
    """The number of models, 1 to :data:`GPU_MODELS`, whose fits and spectra fit into ``budget`` bytes.

    Parameters
    ----------
    budget : float
        Bytes of memory.
    cached_bytes, vector_bytes : float
        For one model, the bytes of its cached rows and of one vector of its parameters.
    """
    each = cached_bytes + (LANCZOS_VECTORS + FIT_VECTORS) * vector_bytes
    return max(1, min(GPU_MODELS, int(budget / each)))


def rows_that_fit(budget: float, row_bytes: float) -> int:
    """The number of rows, a power of 2 up to :data:`GPU_ROWS`, whose activations fit into ``budget`` bytes.

    Activations are assumed to take 4 times the cached bytes of a row, ``row_bytes``.
    """
    rows = GPU_ROWS
    while rows > 1024 and 4 * row_bytes * rows > budget:
        rows //= 2
    return rows
