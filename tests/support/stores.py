"""A small store, and random values of the right shapes for its grid points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hesstore.store import Run, Status, StoreSpec, SweepStore
from hesstore.store.schema import BY_NAME, DENSITY_POINTS, GEOMETRY, promised_large, promised_small

P, K, N = 12, 3, 2
IDENTITY = {"k": K, "lowest": N, "lr": 0.1, "response": 0.1, "probes": 4, "density": True}
SETTINGS = {"k": K, "which": "LM", "slack": 0.003, "dtype": "float32"}
LARGE = promised_large(IDENTITY, Status.COMPLETE)
_GEOMETRY = sorted(GEOMETRY & {*LARGE, *promised_small(IDENTITY, Status.COMPLETE)})
SIZES = {"mode": K, "split": 2, "label": 2, "other": 2, "sign": 2, "mu": DENSITY_POINTS}


def spec(**changes: Any) -> StoreSpec:
    values: dict[str, Any] = {
        "grid": (0.0, 0.0006, 0.01),
        "runs": (Run(0, 4, "up"), Run(1, 4, "down")),
        "k": K,
        "num_classes": 2,
        "parameters": (("fc1.weight", (2, 3)), ("fc1.bias", (2,)), ("fc2.weight", (1, 3)), ("fc2.bias", (1,))),
        "identity": IDENTITY,
        "attrs": {"config": json.dumps(SETTINGS), "environment": "{}", "penalty_scale": 0.5},
    }
    return StoreSpec(**{**values, **changes})


def fitted(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.normal(size=P).astype(np.float32),
        "loss": rng.random(2),
        "accuracy": rng.random(2),
        "class_accuracy": rng.random((2, 2)),
        "confusion": rng.integers(0, 9, (2, 2, 2)).astype(np.int32),
        "penalty": 0.25,
        "weights_norm": 1.5,
        "epochs": 3,
        "fit_seconds": 0.5,
    }


def analysed(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed + 100)
    gradient, eigenvectors, eigenvalues = rng.normal(size=P), rng.normal(size=(K, P)), rng.normal(size=K)
    return {
        "gradient": gradient.astype(np.float32),
        "eigenvectors": eigenvectors.astype(np.float32),
        "eigenvalues": eigenvalues,
        "eigenvalue_bound": 1.002 * abs(eigenvalues[-1]),
        "residual_norm": rng.random(K),
        "converged": np.array([True, False, True]),
        "lowest_eigenvectors": rng.normal(size=(N, P)).astype(np.float32),
        "lowest_eigenvalues": rng.normal(size=N),
        "lowest_residual_norm": rng.random(N),
        "lowest_converged": np.array([True, False]),
        "lowest_bound": -2.0,
        "matvecs": 17,
        "solver_message": "converged",
        "analysis_seconds": 1.5,
        **{name: rng.normal(size=[SIZES[dim] for dim in BY_NAME[name].dims[2:]]) for name in _GEOMETRY},
    }


_FITS = {"k": 0, "lr": 0.1, "lowest": 0}
SMALL = spec(k=0, identity={**_FITS, "l2": "0,0.0006,0.01"})
GROWN = spec(
    k=0,
    identity={**_FITS, "l2": "0,0.0003,0.0006,0.01,0.02"},
    grid=(0.0, 0.0003, 0.0006, 0.01, 0.02),
    runs=(Run(0, 1, "up"), Run(1, 4, "up"), Run(2, 4, "down")),
)
"""A larger store into which that of :data:`SMALL` can grow."""


def recorded(location: Path | str) -> SweepStore:
    """A store of :data:`SMALL` with two of the three grid points of its first run."""
    store = SweepStore.create(location, SMALL)
    with store.claim(store.runs[0]):
        for index in (0, 2):
            store.record(store.runs[0], index, Status.COMPLETE, fitted(index))
    return store
