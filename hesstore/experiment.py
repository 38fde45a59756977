"""What the λ of a sweep share: data and network on a device, and how each λ is fitted and analysed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from hesstore import datasets, environment, linalg, models
from hesstore.curvature import Hessian
from hesstore.devices import free_memory, resolve_device
from hesstore.errors import ConfigError, DivergedError
from hesstore.randomness import derived_seed, generator
from hesstore.store.schema import Run, StoreSpec
from hesstore.training import Fit, FitSettings, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import Tensor

    from hesstore.config import SweepConfig
    from hesstore.models import FlatModel

GIB = 1 << 30

CHUNK_ROWS = {"cpu": 2048, "cuda": 65536}
"""Rows at once: on a CPU what stays in cache (measured), on a GPU enough to fill it (not measured)."""


@dataclass(frozen=True)
class Experiment:
    """All that the λ of a sweep share: data and network on the device, and the Hessian's programs."""

    config: SweepConfig
    data: datasets.ClassificationData
    model: FlatModel
    hessian: Hessian
    cache_bytes: float
    chunk_rows: int

    @classmethod
    def prepare(cls, config: SweepConfig) -> Experiment:
        """Load the data and build the model on the config's device.

        Raises
        ------
        HesstoreError
            If the config can't be carried out on this machine: device, data, model, or a k that is too large.
        """
        device, dtype = resolve_device(config.device), getattr(torch, config.dtype)
        data = datasets.load(config.dataset, config.data_dir)
        model = models.build(
            config.model, config.hidden, data.input_shape, data.num_classes, derived_seed("init", config.seeds[0])
        )
        if config.k >= model.layout.size:
            raise ConfigError(f"k: {config.k} must be below the number of parameters, {model.layout.size}")
        x, y = data.train
        if config.hessian_samples:
            rows = datasets.stratified_indices(y, config.hessian_samples)
            x, y = x[rows], y[rows]
        given = data.train.x.dtype
        data = data.to(device, dtype)
        if given != dtype:
            datasets.checked(data, f"{config.dataset} in {config.dtype}")  # what was finite may have overflowed
        model.module.to(device, dtype)
        if config.hessian_samples:
            x, y = x.to(device, dtype), y.to(device)
        else:
            x, y = data.train  # the resident copy, not a second one
        cache_bytes = config.memory_gib * GIB or free_memory(device) / 2
        chunk_rows = config.chunk_rows or CHUNK_ROWS[device.type]
        return cls(config, data, model, Hessian(model, x, y, chunk_rows=chunk_rows), cache_bytes, chunk_rows)

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.data.train.x.device

    def identity(self) -> dict[str, Any]:
        """What decides the results: settings, data and parameter layout."""
        layout = self.model.layout
        return {
            **self.config.identity(),
            "data_digest": self.data.digest,
            "parameters": [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
        }

    def spec(self) -> StoreSpec:
        """The store that this experiment fills."""
        return StoreSpec(
            l2=self.config.l2,
            runs=tuple(Run(index, *run) for index, run in enumerate(self.config.runs())),
            k=self.config.k,
            num_classes=self.data.num_classes,
            param_coords=self.model.layout.coordinates(),
            identity=self.identity(),
            attrs={
                "config": json.dumps(self.config.to_mapping()),
                "penalty_scale": self.config.penalty_scale,
                "environment": json.dumps(environment.describe(self.device)),
            },
        )

    def initial_weights(self, run: Run) -> Tensor:
        """(P,) weights before the first λ of a run; they depend on its seed alone."""
        config, data = self.config, self.data
        fresh = models.build(
            config.model, config.hidden, data.input_shape, data.num_classes, derived_seed("init", run.seed)
        )
        return fresh.theta().to(self.device, self.data.train.x.dtype)

    @cached_property
    def trainer(self) -> Trainer:
        """What fits; its programs are traced once for all λ."""
        config = self.config
        settings = FitSettings(
            optimizer=config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            batch_size=config.batch_size,
            epochs=config.epochs,
            patience=config.patience,
            penalty_scale=config.penalty_scale,
        )
        return Trainer(self.model, *self.data.train, settings)

    def fit(self, start: Tensor, run: Run, l2: float, on_epoch: Callable[[int, float], None]) -> Fit:
        """Train at λ from ``start``.

        Raises
        ------
        DivergedError
            If an epoch's loss is NaN or infinite.
        """
        rng = generator("shuffle", run.seed, run.direction, l2)
        (found,) = self.trainer.fit([start], [l2], [rng], lambda _, epoch, loss: on_epoch(epoch, loss))
        if isinstance(found, DivergedError):
            raise found
        return found

    def spectrum(self, theta: Tensor, run: Run, l2: float) -> linalg.EigenPairs:
        """The wanted eigenpairs of H at ``theta``."""
        config = self.config
        solve = {"lanczos": linalg.lanczos, "eigsh": linalg.eigsh}[config.solver]
        return solve(
            self.hessian.at(theta, cache_bytes=self.cache_bytes),
            config.k,
            which=config.which,  # type: ignore[arg-type]  # the config has checked it
            tol=config.tol,
            max_matvecs=config.max_matvecs,
            generator=generator("lanczos", run.seed, run.direction, l2),
        )
