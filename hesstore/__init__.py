"""hesstore: Hessian spectra, gradients, weights and class accuracies along an L2 sweep, in one Zarr store.

The public names are loaded when they are first used, so that ``import hesstore`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hesstore.checking import check_model
    from hesstore.config import SweepConfig
    from hesstore.curvature import Hessian, HessianOperator
    from hesstore.errors import HesstoreError
    from hesstore.exporting import ExportSummary, export, load_model, to_state_dict
    from hesstore.importing import ImportSummary, import_files
    from hesstore.linalg import EigenPairs, lanczos
    from hesstore.opening import open
    from hesstore.sweep import SweepEvent, SweepPlan, SweepSummary, plan_sweep, run_sweep

_HOMES = {
    "EigenPairs": "hesstore.linalg",
    "Hessian": "hesstore.curvature",
    "HessianOperator": "hesstore.curvature",
    "HesstoreError": "hesstore.errors",
    "ImportSummary": "hesstore.importing",
    "SweepConfig": "hesstore.config",
    "SweepEvent": "hesstore.sweep",
    "SweepPlan": "hesstore.sweep",
    "SweepSummary": "hesstore.sweep",
    "ExportSummary": "hesstore.exporting",
    "check_model": "hesstore.checking",
    "export": "hesstore.exporting",
    "load_model": "hesstore.exporting",
    "to_state_dict": "hesstore.exporting",
    "import_files": "hesstore.importing",
    "lanczos": "hesstore.linalg",
    "open": "hesstore.opening",
    "plan_sweep": "hesstore.sweep",
    "run_sweep": "hesstore.sweep",
}

__all__ = [
    "EigenPairs",
    "ExportSummary",
    "Hessian",
    "HessianOperator",
    "HesstoreError",
    "ImportSummary",
    "SweepConfig",
    "SweepEvent",
    "SweepPlan",
    "SweepSummary",
    "check_model",
    "export",
    "import_files",
    "lanczos",
    "load_model",
    "open",
    "plan_sweep",
    "run_sweep",
    "to_state_dict",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
