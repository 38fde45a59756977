"""Deep linear networks with the squared error, whose stationary points are known (Ersoy & Wiesner, arXiv 2606.17120).

Let the inputs be whitened, E x xᵀ = 1, and M = E e_y xᵀ. For C outputs, PyTorch's mean squared error of the linear map
W is (1/C) ‖W − M‖² plus a constant. Biases and means play no role: no layer has a bias, and no mean is subtracted.
With the penalty (λ/2) Σ_l ‖W_l‖², the product w of the singular values of the L layers in a mode with the singular
value η of M has, up to the factor C/2, the objective

    ½ (w − η)² + (β/2) Σ_l σ_l²        w = Π_l σ_l        β = λ C / 2

The σ_l are equal at its stationary points, so that w = 0, or w − η + β w^(k−1) = 0 with k = 2/L. For L > 2, the
largest solution, a metastable minimum, ends where the derivative of the left side vanishes as well, at β_c.
:func:`tests.support.toy.signs` has C = 2 and one mode, with η = √(0.894² + 0.106²) = 0.9003, and λ = β.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep

MakeConfig = Callable[..., SweepConfig]
ETA = math.hypot(0.894, 0.106)
GRID = np.array([0.15, 0.5, 0.7, 0.85, 0.95, 0.99, 0.998, 1.002, 1.05])
"""Values of β, in units of the critical one."""


def critical(eta: float, layers: int) -> float:
    """β_c, from which on the metastable minimum does not exist; for two layers, w = η − β vanishes continuously."""
    k = 2 / layers
    return eta if k == 1 else (eta * (1 - k) / (2 - k)) ** (2 - k) / (1 - k)


def test_published_values() -> None:
    assert critical(0.9, 3) == pytest.approx(0.411, abs=5e-4)
    assert critical(0.8, 3) == pytest.approx(0.351, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_the_network_collapses_at_the_critical_strength(layers: int, toy_config: MakeConfig, tmp_path: Path) -> None:
    """Going up in λ along stationary points, ‖θ‖ jumps to 0 between 0.998 β_c and 1.002 β_c, but not for two layers."""
    beta = GRID * critical(ETA, layers)
    config = toy_config(
        dataset="tests.support.toy:signs",
        model=f"linear:{layers}",
        hidden="2",
        loss="mse",
        l2=[round(float(each), 8) for each in beta],
        k=0,
        dtype="float64",
        batch_size=1000,
        lr=1e-3,
        epochs=1,
        polish=300,
        polish_tol=1e-9,
    )
    run_sweep(config, tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").sel(run=0).load()
    w = (ds["weights_norm"].values ** 2 / layers) ** (layers / 2)  # ‖θ‖² = Σ_l σ_l² = L w^(2/L)
    below = beta < critical(ETA, layers)
    left = w[below] - ETA + beta[below] * w[below] ** (2 / layers - 1)
    np.testing.assert_allclose(left, 0, atol=1e-5)
    assert w[~below].max() < 1e-6
    rest = 1 - 0.894**2 - 0.106**2  # E ‖e_y − M x‖²
    np.testing.assert_allclose(ds["loss"].sel(split="train"), ((w - ETA) ** 2 + rest) / 2, atol=1e-6)
    at_fold = 0.0 if layers == 2 else ETA * (layers - 2) / (2 * layers - 2)  # η (1 − k)/(2 − k)
    assert w[below][-1] == pytest.approx(at_fold, abs=0.1 * ETA)
    assert w[below][-1] >= at_fold
