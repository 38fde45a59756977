"""Compute from imported weights what a sweep would have recorded at their grid points."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from hesstore.engine.driver import Driver
from hesstore.engine.executor import LocalExecutor
from hesstore.engine.experiment import Experiment
from hesstore.engine.worker import Worker, fitted_values
from hesstore.errors import ImportFilesError
from hesstore.problem.models import constant_buffers
from hesstore.problem.state_dicts import read_state_dict
from hesstore.store.environments import record_environment
from hesstore.store.schema import REFERENCES, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from hesstore.engine.events import SweepEvent
    from hesstore.importing.import_plan import ImportPlan
    from hesstore.problem.models import FlatModel
    from hesstore.store.schema import Point, StoreSpec
    from hesstore.store.writing import SweepStore


@dataclass(frozen=True)
class Recomputer:
    """Computes results at imported weights, with the data and the network of the config.

    Attributes
    ----------
    experiment : Experiment
        Data, network and Hessian.
    """

    experiment: Experiment

    @classmethod
    def prepare(cls, plan: ImportPlan) -> Recomputer:
        """Load the data and build the network.

        Raises
        ------
        ImportFilesError
            If no file has weights, or if the weights do not fit the network.
        HesstoreError
            As in :meth:`Experiment.prepare`.
        """
        if not plan.index.paths["weights"]:
            raise ImportFilesError("recompute: none of the files has weights: leave out --recompute")
        first = next(iter(plan.index.paths["weights"].values()))

        def read_statistics(model: FlatModel) -> Mapping[str, Any]:
            return read_state_dict(first, model.layout.names, constant_buffers(model.module)).statistics

        recomputer = cls(Experiment.prepare(plan.config, read_statistics=read_statistics))
        _check_layout(recomputer.with_network(plan), recomputer.experiment)
        return recomputer

    def with_network(self, plan: ImportPlan) -> ImportPlan:
        """Return the plan with the names of the network's parameters, and its buffers."""
        model = self.experiment.model
        return replace(plan, network=model.layout.names, constants=constant_buffers(model.module))

    def spec(self, plan: ImportPlan) -> StoreSpec:
        """The specification of the store."""
        known = self.experiment.spec()
        facts = {key: known.identity[key] for key in ("data_digest", "buffers", *REFERENCES) if key in known.identity}
        spec = plan.spec(facts, json.loads(known.attrs["environment"]))
        return replace(spec, references=known.references)

    def measure(self, weights: NDArray[np.float32], point: Point) -> dict[str, Any]:
        """Evaluate the metrics that are recorded at a fitted grid point; there was no training, so it took no time."""
        data = self.experiment.data.train.x
        stored = torch.from_numpy(weights)
        theta = stored.to(data.device, data.dtype)
        (splits,) = self.experiment.measure([theta])
        scale, center = self.experiment.config.penalty_scale * point.value, self.experiment.center
        values = fitted_values(weights, theta, splits, scale, center)
        return {**values, **self._without_polishing(theta, point), "epochs": 0, "fit_seconds": 0.0}

    def _without_polishing(self, theta: torch.Tensor, point: Point) -> dict[str, Any]:
        """The values about polishing of weights (P,) that were not polished here."""
        if not self.experiment.config.polish:
            return {}
        stationarity = self.experiment.stationarity(theta, point)
        return {"polish_distance": 0.0, "polish_stationarity": stationarity, "polish_evaluations": 0}

    def compute(self, store: SweepStore, observer: Callable[[SweepEvent], None], stop: Callable[[], bool]) -> None:
        """Analyse every grid point that is fitted; results on disk remain if the process ends."""
        runs = [run for run in store.runs if (store.status(run) == Status.FITTED).any()]
        if not runs:
            return
        record_environment(store, self.experiment.environment)
        driver = Driver(store, runs, observer, continuation=False)
        with ExitStack() as claims:
            for run in runs:
                claims.enter_context(store.claim(run))
            driver.drive(LocalExecutor(Worker(self.experiment, store, remember=False)), stop, fits=False)


def _check_layout(plan: ImportPlan, experiment: Experiment) -> None:
    """Raise :class:`ImportFilesError` if parameters or classes of the files are not those of the config."""
    layout = experiment.model.layout
    in_files, in_network = list(plan.shapes.items()), list(zip(layout.names, layout.shapes, strict=True))
    first = next(iter(plan.index.paths["weights"].values()))
    for (name, shape), (own_name, own_shape) in zip(in_files, in_network, strict=False):
        if (name, shape) != (own_name, own_shape):
            raise ImportFilesError(
                f"{first}: has {name} {shape} where the network of the config has {own_name} {own_shape}: "
                "specify network and data with --model, --hidden and --dataset"
            )
    if len(in_files) != len(in_network):
        raise ImportFilesError(
            f"{first}: has {len(in_files)} parameters, but the network of the config has {len(in_network)}: "
            "specify the network with --model, --hidden"
        )
    if plan.num_classes != experiment.data.num_classes:
        raise ImportFilesError(
            f"the files have {plan.num_classes} classes, but the data set has {experiment.data.num_classes}: "
            "specify the data with --dataset"
        )
