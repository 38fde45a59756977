"""The assumptions of the prediction for an H100: the rates of the machine, and the sizes of the experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.benchmarks.kernel_counts import KernelCounts
    from tests.benchmarks.result_tables import Row


def _assumed(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


def _text(value: object) -> str:
    return "→".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """The rates of the machine, and the memory accesses of hesstore's work. None of them was measured on a GPU.

    The defaults are the favourable end of the range; :data:`SLOW` is the other end.
    """

    peak_flops: float = _assumed(67e12, "float32 operations per second in the data sheet, without TF32")
    flop_share: float = _assumed(0.6, "share of peak_flops that matrix products reach")
    peak_bandwidth: float = _assumed(3.35e12, "bytes per second in the data sheet")
    bandwidth_share: float = _assumed(0.7, "share of peak_bandwidth that is reached")
    kernel_eager: float = _assumed(4e-6, "seconds per kernel that Python launches, at least")
    kernel_graph: float = _assumed(2.8e-6, "seconds per kernel inside a CUDA graph, at least")
    wait_seconds: float = _assumed(10e-6, "seconds per wait of the host for the device")
    check_seconds: float = _assumed(0.5e-3, "seconds per eigenproblem of the tridiagonal matrix on the host")
    parameter_accesses: int = _assumed(11, "training step, per parameter: 2 passes, gradient, 7 of Adam, norm")
    input_accesses: int = _assumed(4, "training step, per input value: gather (2), forward, backward")
    unit_accesses: int = _assumed(16, "values read and written per unit and row, in a pass or a product")
    cached_per_unit: int = _assumed(6, "values kept per unit and row while a spectrum is computed")
    gram_schmidt_passes: int = _assumed(1, "passes of reorthogonalisation per step; a second one is rare")
    rows_at_once: int = _assumed(65_536, "rows of all stacked models that pass through the network together")
    store_seconds: float = _assumed(0.15, "seconds to write a grid point to the store, in a separate thread")

    @property
    def flop_rate(self) -> float:
        """The achieved operations per second."""
        return self.peak_flops * self.flop_share

    @property
    def bandwidth(self) -> float:
        """The achieved bytes per second."""
        return self.peak_bandwidth * self.bandwidth_share


FAST = Assumptions()
SLOW = Assumptions(
    flop_share=0.3,
    bandwidth_share=0.4,
    kernel_eager=10e-6,
    kernel_graph=4.1e-6,
    wait_seconds=30e-6,
    check_seconds=2e-3,
    store_seconds=0.3,
)
"""The unfavourable end of each assumption."""


def described_assumptions() -> list[Row]:
    """Return the name, both ends and the meaning of each assumption."""
    return [
        {
            "name": each.name,
            "fast": _text(getattr(FAST, each.name)),
            "slow": _text(getattr(SLOW, each.name)),
            "meaning": each.metadata["meaning"],
        }
        for each in fields(Assumptions)
    ]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The sizes of the experiment, and the kernels of its work."""

    counts: KernelCounts
    grid_points: int = _assumed(451, "number of grid points")
    rows: int = _assumed(60_000, "training digits")
    test_rows: int = _assumed(10_000, "test digits")
    batch: int = _assumed(64, "rows per training step")
    epochs: float = _assumed(50, "mean epochs per grid point: at most 50; the mean of the quickstart is 9")
    widths: tuple[int, ...] = _assumed((784, 128, 128, 10), "widths of the layers")
    k: int = _assumed(30, "eigenpairs")
    products: int = _assumed(167, "Hessian products per spectrum: the mean of the quickstart")
    geometry_products: float = _assumed(39, "products that take as long as the arithmetic of the class geometry")

    @property
    def steps_per_epoch(self) -> int:
        """The training steps per epoch; the batch of the last one may be smaller."""
        return math.ceil(self.rows / self.batch)

    @property
    def units(self) -> int:
        """The number of hidden units and logits."""
        return sum(self.widths[1:])

    def described(self) -> list[Row]:
        """Return the name, the value and the meaning of each size."""
        return [
            {"name": each.name, "value": _text(getattr(self, each.name)), "meaning": each.metadata["meaning"]}
            for each in fields(self)
            if each.metadata
        ]
