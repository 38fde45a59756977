"""What the prediction for an H100 takes for granted: the machine, hesstore's kernels, and the experiment's sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.benchmarks.result_tables import Row


def _given(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


class _Stated:
    """A dataclass that can be printed with the meaning of each value."""

    def stated(self) -> list[Row]:
        """Name, value and meaning of each field."""
        return [
            {"name": given.name, "value": _text(getattr(self, given.name)), "meaning": given.metadata["meaning"]}
            for given in fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        ]


def _text(value: object) -> str:
    return "→".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class Assumptions(_Stated):
    """Rates of the machine, and how hesstore's work is cut into kernels and reads."""

    peak_flops: float = _given(67e12, "float32 operations a second of the data sheet, TF32 off")
    flop_share: float = _given(0.6, "share of them that matrix products reach")
    peak_bandwidth: float = _given(3.35e12, "bytes a second of the data sheet")
    bandwidth_share: float = _given(0.7, "share of them that is reached")
    launch_eager: float = _given(4e-6, "seconds a kernel launch from Python, nothing else on the host")
    launch_graph: float = _given(1.5e-6, "seconds a kernel inside a CUDA graph")
    step_kernels: int = _given(29, "training step: 2 gather, 5 forward, 2 loss, 5 objective, 13 backward, 2 Adam")
    product_kernels: int = _given(36, "Hessian product: 15 matrix products, elementwise work, sums")
    lanczos_kernels: int = _given(14, "Lanczos step beside its product: dots, Gram–Schmidt, norms, copies")
    parameter_accesses: int = _given(11, "training step, a parameter: 2 passes, gradient, 7 of Adam, norm")
    input_accesses: int = _given(4, "training step, an input value: gather (2), forward, backward")
    unit_accesses: int = _given(16, "values read and written for each unit and row, a pass or a product")
    cached_per_unit: int = _given(6, "values kept for each unit and row while a spectrum is computed")
    gram_schmidt_passes: int = _given(1, "passes of reorthogonalisation at each step; a second one is rare")
    look_every: int = _given(8, "Lanczos steps between two looks at T on the host")
    look_seconds: float = _given(1e-3, "seconds of a look: wait for the device, small eigenproblem")
    rows_at_once: int = _given(65_536, "rows of all stacked models that pass through the network together")
    store_seconds: float = _given(0.15, "seconds to write a λ into the store, in a thread of its own")

    @property
    def flop_rate(self) -> float:
        """Operations a second."""
        return self.peak_flops * self.flop_share

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return self.peak_bandwidth * self.bandwidth_share


@dataclass(frozen=True, kw_only=True)
class Workload(_Stated):
    """Sizes of the experiment."""

    l2s: int = _given(451, "number of λ")
    rows: int = _given(60_000, "training digits")
    test_rows: int = _given(10_000, "test digits")
    batch: int = _given(64, "rows a training step")
    epochs: float = _given(50, "mean epochs at a λ; 50 is the most that the experiment allows")
    widths: tuple[int, ...] = _given((784, 128, 128, 10), "of the layers")
    k: int = _given(30, "eigenpairs")
    products: int = _given(130, "Hessian products at a λ")

    @property
    def steps_per_epoch(self) -> int:
        """Training steps in an epoch, the last one short."""
        return math.ceil(self.rows / self.batch)

    @property
    def units(self) -> int:
        """Hidden units and logits."""
        return sum(self.widths[1:])
