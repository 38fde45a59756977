"""Pieces of a sweep's work on a given device, whose results tests compare with those of the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from hesstore import linalg
from hesstore.curvature import FlatHessian
from hesstore.engine.devices import HostCopy
from hesstore.problem.models import FlatModel, build
from hesstore.training import Fit, FitSettings, Trainer
from tests.support import toy

SETTINGS = FitSettings(
    optimizer="adam",
    lr=0.01,
    momentum=0.0,
    batch_size=5,  # 48 rows: eight steps that are launched together, one step, and one of three rows
    epochs=2,
    patience=5,
    stop_on="objective",
    keep="best",
    penalty_scale=0.5,
)
BATCH = SETTINGS.batch_size


def make_model(device: str, name: str = "mlp") -> FlatModel:
    """A small network in float64 on a device."""
    model = build(name, (6, 5), (5,), 3, seed=0)
    model.module.to(device, torch.float64)
    return model


def make_rows(device: str) -> tuple[Tensor, Tensor]:
    """48 rows of three classes on a device."""
    x, y = toy.blobs(48)
    return x.to(device), y.to(device)


def make_trainer(device: str, copies: int = 1, name: str = "mlp") -> Trainer:
    """A trainer of the small network."""
    return Trainer(make_model(device, name), *make_rows(device), SETTINGS, copies=copies)


def train(device: str, trainer: Trainer | None = None) -> Tensor:
    """The weights (G, P) after fits at different λ, on the host."""
    trainer = trainer or make_trainer(device)
    start = trainer.model.theta()
    rngs = [torch.Generator().manual_seed(seed) for seed in range(trainer.copies)]
    fits = trainer.fit([start] * trainer.copies, [0.01 * (1 + copy) for copy in range(trainer.copies)], rngs)
    assert all(isinstance(fit, Fit) for fit in fits)
    return torch.stack([fit.theta for fit in fits if isinstance(fit, Fit)]).cpu()


def train_stack(device: str) -> Tensor:
    """The same for two models side by side."""
    return train(device, make_trainer(device, 2))


def train_with_constant(device: str) -> Tensor:
    """The same for a network that makes a constant in its forward pass."""
    return train(device, make_trainer(device, name="tests.support.toy:five_with_constant"))


def search(device: str) -> Tensor:
    """The top eigenvalues of the Hessian at the initial weights."""
    model = make_model(device)
    operator = FlatHessian(model, *make_rows(device), chunk_rows=24).at(model.theta())
    return linalg.lanczos(operator, 3, tol=1e-8).eigenvalues


def copy_home(device: str) -> Tensor:
    """Weights that were copied to the host asynchronously."""
    return torch.from_numpy(HostCopy(make_model(device).theta()).numpy())
