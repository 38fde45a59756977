"""hesstore: Hessian spectra, gradients, weights and class accuracies along an L2 sweep, in one Zarr store.

Public names are loaded when they are first used, so that ``import hesstore`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hesstore.comparison.compare import Comparison, compare
    from hesstore.config import SweepConfig
    from hesstore.curvature.model_check import check_model
    from hesstore.dataset.networks import load_model, to_state_dict
    from hesstore.dataset.opening import open
    from hesstore.engine.sweep import SweepEvent, SweepPlan, SweepSummary, plan_sweep, run_sweep
    from hesstore.errors import HesstoreError
    from hesstore.exporting import ExportSummary, export
    from hesstore.importing import ImportSummary, import_files
    from hesstore.importing.checkpoints import analyse
    from hesstore.linalg import EigenPairs, lanczos
    from hesstore.measure.loss_slices import loss_path, loss_slice
    from hesstore.measure.network_geometry import network_geometry
    from hesstore.operators import GGN, Block, Hessian, Trace, top_eigenpairs
    from hesstore.training.checkpoint_writer import CheckpointWriter, lightning_callback

_MODULES = {
    "CheckpointWriter": "hesstore.training.checkpoint_writer",
    "Comparison": "hesstore.comparison.compare",
    "EigenPairs": "hesstore.linalg",
    "Block": "hesstore.operators",
    "GGN": "hesstore.operators",
    "Hessian": "hesstore.operators",
    "HesstoreError": "hesstore.errors",
    "ImportSummary": "hesstore.importing",
    "SweepConfig": "hesstore.config",
    "SweepEvent": "hesstore.engine.sweep",
    "SweepPlan": "hesstore.engine.sweep",
    "SweepSummary": "hesstore.engine.sweep",
    "ExportSummary": "hesstore.exporting",
    "analyse": "hesstore.importing.checkpoints",
    "check_model": "hesstore.curvature.model_check",
    "compare": "hesstore.comparison.compare",
    "export": "hesstore.exporting",
    "lightning_callback": "hesstore.training.checkpoint_writer",
    "load_model": "hesstore.dataset.networks",
    "to_state_dict": "hesstore.dataset.networks",
    "import_files": "hesstore.importing",
    "lanczos": "hesstore.linalg",
    "loss_path": "hesstore.measure.loss_slices",
    "loss_slice": "hesstore.measure.loss_slices",
    "network_geometry": "hesstore.measure.network_geometry",
    "open": "hesstore.dataset.opening",
    "plan_sweep": "hesstore.engine.sweep",
    "run_sweep": "hesstore.engine.sweep",
    "top_eigenpairs": "hesstore.operators",
    "Trace": "hesstore.operators",
}

__all__ = [
    "GGN",
    "Block",
    "CheckpointWriter",
    "Comparison",
    "EigenPairs",
    "ExportSummary",
    "Hessian",
    "HesstoreError",
    "ImportSummary",
    "SweepConfig",
    "SweepEvent",
    "SweepPlan",
    "SweepSummary",
    "Trace",
    "analyse",
    "check_model",
    "compare",
    "export",
    "import_files",
    "lanczos",
    "lightning_callback",
    "load_model",
    "loss_path",
    "loss_slice",
    "network_geometry",
    "open",
    "plan_sweep",
    "run_sweep",
    "to_state_dict",
    "top_eigenpairs",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
