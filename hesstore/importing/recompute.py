"""Computing from imported weights what a sweep would have recorded of them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hesstore.engine.driver import Driver
from hesstore.engine.executor import LocalExecutor
from hesstore.engine.experiment import Experiment
from hesstore.engine.worker import Worker, fitted_values
from hesstore.errors import ImportFilesError
from hesstore.store.environments import record_environment
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from hesstore.engine.events import SweepEvent
    from hesstore.importing.import_plan import Plan
    from hesstore.store.schema import StoreSpec
    from hesstore.store.writing import SweepStore


@dataclass(frozen=True)
class Recomputer:
    """What computes: data, network and programs of the config that the files are said to be made with."""

    experiment: Experiment

    @classmethod
    def prepare(cls, plan: Plan) -> Recomputer:
        """Load data and network.

        Raises
        ------
        ImportFilesError
            If there are no weights, or they are not those of the network.
        HesstoreError
            As :meth:`Experiment.prepare`.
        """
        if not plan.paths["weights"]:
            raise ImportFilesError("recompute: no file has weights: leave it out")
        experiment = Experiment.prepare(plan.config)
        _check_layout(plan, experiment)
        return cls(experiment)

    def spec(self, plan: Plan) -> StoreSpec:
        """The store to be."""
        known = self.experiment.spec()
        facts = {key: known.identity[key] for key in ("data_digest", "buffers") if key in known.identity}
        return plan.spec(facts, json.loads(known.attrs["environment"]))

    def measured(self, weights: NDArray[np.float32], l2: float) -> dict[str, Any]:
        """What is recorded of a fitted λ; nothing was trained, which took no time."""
        data = self.experiment.data.train.x
        stored = torch.from_numpy(weights)
        theta = stored.to(data.device, data.dtype)
        (splits,) = self.experiment.measure([theta])
        values = fitted_values(weights, theta, splits, self.experiment.config.penalty_scale * l2)
        return {**values, "epochs": 0, "fit_seconds": 0.0}

    def compute(self, store: SweepStore, observer: Callable[[SweepEvent], None], stop: Callable[[], bool]) -> None:
        """Analyse every λ that is fitted; what is on disk stays there if the process ends."""
        runs = [run for run in store.runs if (store.status(run) == Status.FITTED).any()]
        if not runs:
            return
        record_environment(store, self.experiment.environment)
        driver = Driver(store, runs, observer, continuation=False)
        with ExitStack() as claims:
            for run in runs:
                claims.enter_context(store.claim(run))
            driver.drive(LocalExecutor(Worker(self.experiment, store, remember=False)), stop, fits=False)


def _check_layout(plan: Plan, experiment: Experiment) -> None:
    layout = experiment.model.layout
    there, here = list(plan.shapes.items()), list(zip(layout.names, layout.shapes, strict=True))
    first = next(iter(plan.paths["weights"].values()))
    for (name, shape), (own_name, own_shape) in zip(there, here, strict=False):
        if (name, shape) != (own_name, own_shape):
            raise ImportFilesError(
                f"{first}: has {name} {shape} where the config's network has {own_name} {own_shape}: "
                "say which network and data with --model, --hidden and --dataset"
            )
    if len(there) != len(here):
        raise ImportFilesError(
            f"{first}: has {len(there)} parameters, the config's network {len(here)}: say which with --model, --hidden"
        )
    if plan.classes != experiment.data.num_classes:
        raise ImportFilesError(
            f"the files have {plan.classes} classes, the data set {experiment.data.num_classes}: "
            "say which with --dataset"
        )
