"""How much a device takes on at once: models side by side, and rows of data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hesstore.engine.devices import free_memory
from hesstore.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from hesstore.curvature import Hessian

GIB = 1 << 30

CPU_ROWS = 2048
"""Rows at once on a CPU: what stays in cache (measured)."""

GPU_ROWS = 65536
"""Rows at once on a GPU: enough to fill a large one (not measured)."""

GPU_MODELS = 64
"""Most models at once on a GPU: beyond, launches cost little beside arithmetic (a model on paper, not measured)."""

LANCZOS_VECTORS = 256
"""Lanczos vectors, and as many products, that a spectrum has room for before it wants more."""

FIT_VECTORS = 8
"""θ, gradient, the optimiser's state, the best weights and temporaries of a fit."""


@dataclass(frozen=True)
class Sizes:
    """What a device takes on at once.

    Attributes
    ----------
    models : int
        G, models that are trained, and λ that are analysed, together.
    chunk_rows : int
        Rows of data, those of all models together.
    cache_bytes : float
        Most memory for primal values that are cached while spectra are computed.
    """

    models: int
    chunk_rows: int
    cache_bytes: float


def choose(
    device: torch.device, hessian: Hessian, theta: torch.Tensor, rows: int, *, models: int, chunk_rows: int, gib: float
) -> Sizes:
    """The sizes for ``rows`` rows; what is given as 0 is chosen.

    On a CPU one model at a time and a few thousand rows are fastest. On a GPU as many models as memory for their
    Lanczos vectors and all their cached rows is free, and as many rows as an eighth of the free memory holds.
    """
    free = free_memory(device)
    budget = gib * GIB or free / 2
    if device.type == "cpu":
        return Sizes(models or 1, chunk_rows or CPU_ROWS, budget)
    row = hessian.row_bytes(theta)
    return Sizes(
        models or models_that_fit(budget, row * rows, theta.numel() * theta.element_size()),
        chunk_rows or rows_that_fit(free / 8, row),
        budget,
    )


def least_bytes(parameters: int, k: int, itemsize: int, models: int = 1) -> int:
    """What fits and spectra of so many models hold at the least, beside the data: k pairs take 3 vectors each."""
    return models * (FIT_VECTORS + 3 * k) * parameters * itemsize


def check_memory(device: torch.device, parameters: int, k: int, itemsize: int, models: int = 1) -> None:
    """Raise :class:`ConfigError` if a sweep surely has no room on ``device``."""
    needed, free = least_bytes(parameters, k, itemsize, models), free_memory(device)
    if needed > free:
        together = f"{models} models of " if models > 1 else ""
        raise ConfigError(
            f"memory: {k} eigenpairs of {together}{parameters:,} parameters take at least {needed / 1e9:.1f} GB on "
            f"{device}, {free / 1e9:.1f} GB are free: give a smaller network, --k or --models, or another --device"
        )


def models_that_fit(budget: float, cached: float, parameters: float) -> int:
    """Models whose fits and spectra fit into ``budget`` bytes: 1 to :data:`GPU_MODELS`.

    ``cached`` and ``parameters`` are the bytes of one model's cached rows and of one vector of its parameters.
    """
    each = cached + (2 * LANCZOS_VECTORS + FIT_VECTORS) * parameters
    return max(1, min(GPU_MODELS, int(budget / each)))


def rows_that_fit(budget: float, row: float) -> int:
    """Rows, a power of 2 up to :data:`GPU_ROWS`, whose activations, taken as 4 times the cached ``row``, fit."""
    rows = GPU_ROWS
    while rows > 1024 and 4 * row * rows > budget:
        rows //= 2
    return rows
