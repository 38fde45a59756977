"""What the λ of a sweep share: data and network on a device, and how each λ is fitted and analysed."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hesstore import linalg
from hesstore.curvature import Hessian, HessianOperator, gradient, model_check
from hesstore.engine import environment, work_sizes
from hesstore.engine.devices import resolve_device
from hesstore.errors import ConfigError, DivergedError
from hesstore.measure.class_geometry import Geometry, GeometryInputs
from hesstore.measure.metrics import SplitMetrics, evaluate_each
from hesstore.problem import datasets, models
from hesstore.problem.seeds import derived_seed, generator
from hesstore.store.schema import Point, Run, StoreSpec
from hesstore.training import Fit, FitSettings, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from hesstore.config import SweepConfig
    from hesstore.engine.environment import Environment
    from hesstore.engine.work_sizes import Sizes
    from hesstore.measure.class_geometry import Values
    from hesstore.problem.models import FlatModel
    from hesstore.problem.seeds import Purpose


class Analysis(NamedTuple):
    """What is found at the weights of one λ: ∇E (P,), the wanted eigenpairs of H, and the class geometry."""

    gradient: Tensor
    pairs: linalg.EigenPairs
    geometry: Values


@dataclass(frozen=True)
class Experiment:
    """All that the λ of a sweep share: data and network on the device, and the Hessian's programs."""

    config: SweepConfig
    data: datasets.ClassificationData
    model: FlatModel
    hessian: Hessian
    geometry: Geometry
    sizes: Sizes

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
        is_own = config.model != "mlp"
        if not is_own:  # before memory is taken for it
            widths = (math.prod(data.input_shape), *config.hidden, data.num_classes)
            size = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
            work_sizes.check_memory(device, size, config.k, dtype.itemsize)
        make = partial(models.build, config.model, config.hidden, data.input_shape, data.num_classes)
        seed = derived_seed("init", config.seeds[0])
        model = make(seed)
        if is_own:
            model_check.check_factory(make, model, config.model, seed)
        if config.k >= model.layout.size:
            raise ConfigError(f"k: {config.k} must be below the number of parameters, {model.layout.size}")
        x, y = data.train
        if config.hessian_samples:
            rows = datasets.stratified_indices(y, config.hessian_samples)
            x, y = x[rows], y[rows]
        given = data.train.x.dtype
        data = data.to(device, dtype)
        if given != dtype:
            datasets.check_data(data, f"{config.dataset} in {config.dtype}")  # what was finite may have overflowed
        model.module.to(device, dtype)
        if config.hessian_samples:
            x, y = x.to(device, dtype), y.to(device)
        else:
            x, y = data.train  # the resident copy, not a second one
        if is_own:
            check = model_check.ModelCheck(model, config.model, *_few(data.train), data.num_classes)
            model_check.issue_warnings(check.run())
        theta = model.theta()
        sizes = work_sizes.choose(
            device,
            Hessian(model, x, y),
            theta,
            len(y),
            models=config.models,
            chunk_rows=config.chunk_rows,
            gib=config.memory_gib,
        )
        together = min(sizes.models, len(config.l2) * len(config.runs()))
        work_sizes.check_memory(device, theta.numel(), config.k, dtype.itemsize, together)
        if is_own and sizes.models > 1:
            model_check.check_stack(model, config.model, x, y)
        hessian = Hessian(model, x, y, chunk_rows=sizes.chunk_rows)
        return cls(config, data, model, hessian, Geometry(config, model, data, (x, y), sizes.chunk_rows), sizes)

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.data.train.x.device

    def identity(self) -> dict[str, Any]:
        """What decides the results: settings, data and parameter layout."""
        layout, buffers = self.model.layout, self.model.buffers()
        return {
            **self.config.identity(),
            "data_digest": self.data.digest,
            "parameters": [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
            **({"buffers": buffers} if buffers else {}),
        }

    @cached_property
    def environment(self) -> Environment:
        """What it runs on, and how much at once: other sizes round otherwise."""
        sizes = {"models": self.sizes.models, "chunk_rows": self.sizes.chunk_rows}
        return {**environment.describe(self.device), "sizes": sizes}

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
                "environment": json.dumps(self.environment),
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
    def _trainers(self) -> dict[int, Trainer]:
        return {}

    def trainer(self, models: int) -> Trainer:
        """What fits so many models at once; its programs are traced once for all λ."""
        copies = min(1 << (models - 1).bit_length(), max(models, self.sizes.models))  # a few sizes serve all numbers
        if copies not in self._trainers:
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
            self._trainers[copies] = Trainer(self.model, *self.data.train, settings, copies=copies)
        return self._trainers[copies]

    def fit(
        self, starts: Sequence[Tensor], points: Sequence[Point], on_epoch: Callable[[Point, int, float], None]
    ) -> list[Fit | DivergedError]:
        """Train at each point from its start, side by side.

        ``on_epoch`` is called with (point, epoch from 1, epoch loss). The error stands in place of a fit of which an
        epoch's loss was NaN or infinite.
        """
        return self.trainer(len(points)).fit(
            starts,
            [point.l2 for point in points],
            [generator("shuffle", point.run.seed, point.run.direction, point.l2) for point in points],
            lambda index, epoch, loss: on_epoch(points[index], epoch, loss),
        )

    def measure(self, thetas: Sequence[Tensor]) -> list[tuple[SplitMetrics, SplitMetrics]]:
        """Metrics on the training and the test split at each θ."""
        data, stacked = self.data, torch.stack(list(thetas))
        train, test = (
            evaluate_each(self.model, stacked, *split, data.num_classes, self.sizes.chunk_rows)
            for split in (data.train, data.test)
        )
        return list(zip(train, test, strict=True))

    def analyse(self, thetas: Sequence[Tensor], points: Sequence[Point]) -> list[Analysis | FloatingPointError]:
        """All that is recorded of each θ; the error in place of it where a product was NaN or infinite."""
        if len(thetas) == 1 or self.config.solver != "lanczos":
            return [self._analyse_alone(*each) for each in zip(thetas, points, strict=True)]
        stacked = torch.stack(list(thetas))
        slopes = gradient(self.model, stacked, *self.data.train, self.sizes.chunk_rows)
        spectra = linalg.lanczos_stack(
            self.hessian.at_each(stacked, cache_bytes=self.sizes.cache_bytes),
            generators=[_generator(point)("lanczos") for point in points],
            **self._wanted(),
        )
        return [
            found
            if isinstance(found, FloatingPointError)
            else self._with_geometry(theta, point, slope, found, cache(partial(self._hessian_at, theta)))
            for theta, point, slope, found in zip(thetas, points, slopes, spectra, strict=True)
        ]

    def _analyse_alone(self, theta: Tensor, point: Point) -> Analysis | FloatingPointError:
        solve = {"lanczos": linalg.lanczos, "eigsh": linalg.eigsh}[self.config.solver]
        slope = gradient(self.model, theta, *self.data.train, self.sizes.chunk_rows)
        operator = self._hessian_at(theta)
        try:
            pairs = solve(operator, generator=_generator(point)("lanczos"), **self._wanted())
        except FloatingPointError as error:
            return error
        return self._with_geometry(theta, point, slope, pairs, lambda: operator)

    def _hessian_at(self, theta: Tensor) -> HessianOperator:
        return self.hessian.at(theta, cache_bytes=self.sizes.cache_bytes)

    def _with_geometry(
        self,
        theta: Tensor,
        point: Point,
        slope: Tensor,
        pairs: linalg.EigenPairs,
        hessian: Callable[[], HessianOperator],
    ) -> Analysis | FloatingPointError:
        shift = 2 * self.config.penalty_scale * point.l2
        site = GeometryInputs(theta, shift, slope, pairs, hessian, _generator(point))
        try:
            return Analysis(slope, pairs, self.geometry.at(site))
        except FloatingPointError as error:
            return error

    def _wanted(self) -> dict[str, Any]:
        config = self.config
        return {"k": config.k, "which": config.which, "tol": config.tol, "max_matvecs": config.max_matvecs}


def _few(split: datasets.Split) -> datasets.Split:
    """Some rows of each class."""
    rows = datasets.stratified_indices(split.y, min(model_check.ROWS, len(split.y))).to(split.y.device)
    return datasets.Split(split.x[rows], split.y[rows])


def _generator(point: Point) -> Callable[[Purpose], torch.Generator]:
    return lambda purpose: generator(purpose, point.run.seed, point.run.direction, point.l2)
