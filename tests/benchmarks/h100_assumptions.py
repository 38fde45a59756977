"""The assumptions of the prediction for an H100: the machine, hesstore's kernels, and the sizes of the experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.benchmarks.result_tables import Row


def _assumed(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


class _Described:
    """A dataclass whose fields have a meaning in their metadata."""

    def described(self) -> list[Row]:
        """Return name, value and meaning of each field."""
        return [
            {"name": each.name, "value": _text(getattr(self, each.name)), "meaning": each.metadata["meaning"]}
            for each in fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        ]


def _text(value: object) -> str:
    return "→".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class Assumptions(_Described):
    """The rates of the machine, and the kernels and memory accesses of hesstore's work."""

    peak_flops: float = _assumed(67e12, "float32 operations per second in the data sheet, without TF32")
    flop_share: float = _assumed(0.6, "share of peak_flops that matrix products reach")
    peak_bandwidth: float = _assumed(3.35e12, "bytes per second in the data sheet")
    bandwidth_share: float = _assumed(0.7, "share of peak_bandwidth that is reached")
    launch_eager: float = _assumed(4e-6, "seconds per kernel launch from Python, without other work on the host")
    launch_graph: float = _assumed(1.5e-6, "seconds per kernel launch inside a CUDA graph")
    step_kernels: int = _assumed(29, "training step: 2 gather, 5 forward, 2 loss, 5 objective, 13 backward, 2 Adam")
    product_kernels: int = _assumed(36, "Hessian product: 15 matrix products, elementwise work, sums")
    lanczos_kernels: int = _assumed(14, "Lanczos step without its product: dots, Gram–Schmidt, norms, copies")
    parameter_accesses: int = _assumed(11, "training step, per parameter: 2 passes, gradient, 7 of Adam, norm")
    input_accesses: int = _assumed(4, "training step, per input value: gather (2), forward, backward")
    unit_accesses: int = _assumed(16, "values read and written per unit and row, in a pass or a product")
    cached_per_unit: int = _assumed(6, "values kept per unit and row while a spectrum is computed")
    gram_schmidt_passes: int = _assumed(1, "passes of reorthogonalisation per step; a second one is rare")
    check_interval: int = _assumed(8, "Lanczos steps between two checks of T on the host")
    check_seconds: float = _assumed(1e-3, "seconds per check: wait for the device, small eigenproblem")
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


@dataclass(frozen=True, kw_only=True)
class Workload(_Described):
    """The sizes of the experiment."""

    grid_points: int = _assumed(451, "number of grid points")
    rows: int = _assumed(60_000, "training digits")
    test_rows: int = _assumed(10_000, "test digits")
    batch: int = _assumed(64, "rows per training step")
    epochs: float = _assumed(50, "mean epochs per grid point; the experiment allows at most 50")
    widths: tuple[int, ...] = _assumed((784, 128, 128, 10), "widths of the layers")
    k: int = _assumed(30, "eigenpairs")
    products: int = _assumed(130, "Hessian products per grid point")

    @property
    def steps_per_epoch(self) -> int:
        """The training steps per epoch; the batch of the last one may be smaller."""
        return math.ceil(self.rows / self.batch)

    @property
    def units(self) -> int:
        """The number of hidden units and logits."""
        return sum(self.widths[1:])
