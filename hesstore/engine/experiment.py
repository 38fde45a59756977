"""An experiment holds what all grid points of a sweep share, and fits, measures and analyses grid points.

It has the data and the network on a device, the traced programs of the Hessian, and the settings. It knows nothing of
stores: weights come in as tensors, and results go out as tensors.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hesstore import linalg
from hesstore.curvature import FlatHessian, error_and_gradient, gradient, model_check
from hesstore.engine import environment, preparation
from hesstore.engine.collection import settings_identity, without_training
from hesstore.engine.devices import resolve_device
from hesstore.engine.references import load_references
from hesstore.measure.class_geometry import ClassGeometry, GridPointInputs
from hesstore.measure.metrics import SplitMetrics, evaluate_each
from hesstore.problem import training_data
from hesstore.problem.seeds import derived_seed, generator
from hesstore.store.digest import reference_digest
from hesstore.store.schema import Point, Run, StoreSpec, l2_at
from hesstore.training import Fit, FitSettings, Objective, Trainer, polish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from hesstore.config import SweepConfig
    from hesstore.curvature import HessianOperator
    from hesstore.curvature.hessian import HessianStack, TangentPrograms
    from hesstore.engine.collection import Collection
    from hesstore.engine.environment import Environment
    from hesstore.engine.speed_probe import Rates
    from hesstore.engine.work_sizes import Sizes
    from hesstore.errors import DivergedError
    from hesstore.measure.class_geometry import Values
    from hesstore.problem.models import FlatModel
    from hesstore.problem.seeds import Purpose
    from hesstore.store.writing import SweepStore


class Analysis(NamedTuple):
    """The results at the weights of one grid point: ∇E (P,), the eigenpairs of H, and the class geometry."""

    gradient: Tensor
    pairs: linalg.EigenPairs
    geometry: Values


class Polished(NamedTuple):
    """Polished weights (P,), and the number of gradients and Hessian products that this took."""

    theta: Tensor
    evaluations: int


@dataclass(eq=False)
class Experiment:
    """The data, the network, the Hessian and the settings that all grid points of a sweep share.

    Only :meth:`use_sizes` changes an experiment.

    Parameters
    ----------
    config : SweepConfig
        The settings.
    data : ClassificationData
        Both splits, on the device and in the precision of the computation.
    model : FlatModel
        The network, likewise.
    hessian : FlatHessian
        H of the mean training loss over the training rows that the config selects, or its Gauss–Newton part.
    geometry : ClassGeometry
        Computes the class geometry.
    sizes : Sizes
        How many models and rows the device processes together.
    references : mapping of str to ndarray
        (P,) float32, the weights that the config names as ``center`` and ``start``.
    collection : Collection, optional
        The checkpoints from which the weights come, if there is no training.
    statistics : mapping of str to tuple of int
        The shapes of the running statistics of batch norm that each grid point has of its own. :meth:`at_statistics`
        is the experiment with those of one of them.
    """

    config: SweepConfig
    data: training_data.ClassificationData
    model: FlatModel
    hessian: FlatHessian
    geometry: ClassGeometry
    sizes: Sizes
    references: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    collection: Collection | None = None
    statistics: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rates: dict[tuple[int, int, int], Rates] = field(default_factory=dict, init=False, repr=False, compare=False)
    _trainers: dict[int, Trainer] = field(default_factory=dict, init=False, repr=False, compare=False)
    _check: model_check.ModelCheck | None = field(default=None, init=False, repr=False, compare=False)
    _full_hessian: FlatHessian | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def prepare(
        cls,
        config: SweepConfig,
        store: SweepStore | None = None,
        *,
        reread: bool = True,
        whole_check: bool = True,
        read_statistics: Callable[[FlatModel], Mapping[str, Any]] | None = None,
        collection: Collection | None = None,
    ) -> Experiment:
        """Load the data and build the network on the config's device, and check that they can be used.

        Parameters
        ----------
        config : SweepConfig
            The settings.
        store : SweepStore, optional
            The store of the experiment, if it exists: it keeps copies of the references.
        reread : bool
            Whether references that still exist are read again, so that a change of them is noticed.
        whole_check : bool
            Whether a custom network is checked completely. Otherwise :meth:`finish_check` is left to the caller.
        read_statistics : callable, optional
            Returns the running statistics of batch norm for the network, if its weights come from checkpoints. Those
            of a store are used again.
        collection : Collection, optional
            The checkpoints from which the weights come, instead of from training.

        Raises
        ------
        HesstoreError
            If this machine can't carry out the config: because of the device, the data, the network, the memory, or a
            k that is too large.
        """
        device, dtype = resolve_device(config.device), getattr(torch, config.dtype)
        preparation.check_device(config, device)
        data = training_data.load(config.dataset, config.data_dir)
        model = preparation.build_network(config, data, device, dtype)
        statistics = preparation.set_statistics(model, store, read_statistics, collection)
        data, rows = preparation.move_data(config, data, device, dtype)
        references = load_references(config, model, store, reread=reread)
        model.module.to(device, dtype)
        programs: TangentPrograms = {}
        check = preparation.check_network(config, model, data, rows, programs)
        sizes = preparation.choose_sizes(
            config, model, rows, len(collection.values) if collection else 0, one_by_one=bool(statistics)
        )
        preparation.check_stack(config, model, rows, sizes)
        hessian = FlatHessian(
            model, *rows, chunk_rows=sizes.chunk_rows, kind=preparation.kind_of(config), programs=programs
        )
        geometry = ClassGeometry(config, model, data, rows, sizes.chunk_rows)
        experiment = cls(config, data, model, hessian, geometry, sizes, references, collection, statistics)
        experiment._check = check
        if whole_check:
            experiment.finish_check()
        return experiment

    def finish_check(self) -> None:
        """Finish the check of a custom network. It traces the programs of the class geometry, which take a while.

        Raises
        ------
        ModelError
            If the second derivatives of its class losses are wrong, or can't be computed.
        """
        if self._check is not None:
            is_hessian = self.hessian.kind == "hessian"
            self._check.check_class_curvatures(self.geometry.training_losses if is_hessian else None)
            self._check = None

    @property
    def device(self) -> torch.device:
        """The device on which the work is done."""
        return self.data.train.x.device

    @property
    def is_side_by_side(self) -> bool:
        """Whether analyses run at the same time as fits: on a GPU that computes one model of each kind at a time.

        Polishing is a part of a fit that uses the Hessian, as analyses do, so nothing runs at the same time. Nor does
        an analysis that traces programs of its own, because each grid point has its own running statistics.
        """
        is_alone = self.config.polish or self.statistics
        return self.device.type == "cuda" and self.sizes.models == 1 and not is_alone

    def identity(self) -> dict[str, Any]:
        """The part that decides the results: settings, data digest, parameter layout, buffers and references."""
        layout, buffers = self.model.layout, self.model.buffers()
        buffers = [entry for entry in buffers if entry[0] not in self.statistics]
        return {
            **settings_identity(self.config, self.collection),
            "data_digest": self.data.digest,
            "parameters": [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)],
            **({"buffers": buffers} if buffers else {}),
            **(
                {"statistics": [[name, list(shape)] for name, shape in self.statistics.items()]}
                if self.statistics
                else {}
            ),
            **{name: reference_digest(weights) for name, weights in self.references.items()},
        }

    def use_sizes(self, sizes: Sizes) -> None:
        """Use other sizes from now on. The programs that were traced with the old ones, and their memory, are freed."""
        self.sizes = sizes
        self._trainers.clear()
        self._full_hessian = None
        self.hessian = FlatHessian(self.model, *self.geometry.rows, chunk_rows=sizes.chunk_rows, kind=self.hessian.kind)
        self.geometry = replace(self.geometry, chunk_rows=sizes.chunk_rows)

    def at_statistics(self, values: NDArray[np.float32] | None) -> Experiment:
        """The experiment for a network with other running statistics of batch norm (S,); itself if none are given."""
        if values is None:
            return self
        model = self.model.with_statistics(values)
        hessian = FlatHessian(model, *self.geometry.rows, chunk_rows=self.sizes.chunk_rows, kind=self.hessian.kind)
        return replace(self, model=model, hessian=hessian, geometry=replace(self.geometry, model=model))

    @property
    def environment(self) -> Environment:
        """The environment of this process, with the sizes, because results round differently with others."""
        sizes = {"models": self.sizes.models, "chunk_rows": self.sizes.chunk_rows}
        return {**environment.describe(self.device), "sizes": sizes}

    def spec(self) -> StoreSpec:
        """The specification of a new store for this experiment."""
        config = self.config.to_mapping()
        return StoreSpec(
            grid=self.config.l2 if self.collection is None else self.collection.values,
            runs=tuple(Run(index, *run) for index, run in enumerate(self.config.runs())),
            k=self.config.k,
            num_classes=self.data.num_classes,
            parameters=tuple(zip(self.model.layout.names, self.model.layout.shapes, strict=True)),
            identity=self.identity(),
            attrs={
                "config": json.dumps(config if self.collection is None else without_training(config)),
                "penalty_scale": self.config.penalty_scale,
                "environment": json.dumps(self.environment),
            },
            references=self.references,
        )

    # -- fits ---------------------------------------------------------------------------------------------

    def initial_weights(self, run: Run) -> Tensor:
        """The weights (P,) before the first grid point of a run: the given ones, or those of the run's seed."""
        start = self._reference("start")
        if start is not None:
            return start
        model = preparation.build_model(self.config, self.data, derived_seed("init", run.seed))
        return model.theta().to(self.device, self.data.train.x.dtype)

    @cached_property
    def center(self) -> Tensor | None:
        """The centre (P,) of the penalty; None if it is 0."""
        return self._reference("center")

    def displacement(self, theta: Tensor) -> Tensor:
        """The weights (P,) minus the centre of the penalty."""
        return theta if self.center is None else theta - self.center

    def _reference(self, name: str) -> Tensor | None:
        """One of the references on the device, in the precision of the computation."""
        weights = self.references.get(name)
        return None if weights is None else torch.tensor(weights).to(self.device, self.data.train.x.dtype)

    def trainer(self, models: int) -> Trainer:
        """The trainer that fits ``models`` models side by side. It is made once, and so its programs are traced once.

        The number of models is rounded up to a power of 2, so that a few trainers serve all numbers.
        """
        copies = min(1 << (models - 1).bit_length(), max(models, self.sizes.models))
        if copies not in self._trainers:
            config = self.config
            settings = FitSettings(
                optimizer=config.optimizer,
                lr=config.lr,
                momentum=config.momentum,
                batch_size=config.batch_size,
                epochs=config.epochs,
                patience=config.patience,
                stop_on=config.stop_on,
                keep=config.keep,
                penalty_scale=config.penalty_scale,
            )
            self._trainers[copies] = Trainer(self.model, *self.data.train, settings, copies=copies, center=self.center)
        return self._trainers[copies]

    def fit(
        self, starts: Sequence[Tensor], points: Sequence[Point], on_epoch: Callable[[Point, int, float], None]
    ) -> list[Fit | DivergedError]:
        """Train at each point from its start weights (P,), side by side.

        ``on_epoch`` is called with (point, epoch from 1, epoch loss). If the loss of an epoch was NaN or infinite, the
        error takes the place of that fit.
        """
        return self.trainer(len(points)).fit(
            starts,
            [point.value for point in points],
            [_generator(point, "shuffle") for point in points],
            lambda index, epoch, loss: on_epoch(points[index], epoch, loss),
        )

    def polish(self, theta: Tensor, point: Point) -> Polished:
        """Descend from the weights (P,) of a fit to a stationary point of the objective; see ``training/polish.py``.

        With λ = 0 the weights stay as they are: without a penalty, E need not have a minimum.
        """
        objective = self._objective(point.value)
        config = self.config
        end = polish(objective, theta, config.polish, config.polish_tol).theta if point.value else theta
        return Polished(end, objective.evaluations)

    def l2_at(self, point: Point) -> float:
        """λ at a grid point: its value in a sweep, and one λ for all checkpoints of a collection."""
        return l2_at(point, {"l2": self.config.l2})

    def stationarity(self, theta: Tensor, point: Point) -> float:
        """The norm of the objective's gradient at ``theta`` (P,), over that of ∇E; NaN if ∇E is 0."""
        found = self._objective(self.l2_at(point)).at(theta).stationarity
        return found if math.isfinite(found) else math.nan

    def _objective(self, l2: float) -> Objective:
        rows, chunk_rows = self.data.train, self.sizes.chunk_rows
        return Objective(
            error=lambda theta: error_and_gradient(self.model, theta, *rows, chunk_rows),
            hessian=lambda theta: self._hessian_of_all_rows.at(theta, cache_bytes=self.sizes.cache_bytes).matvec,
            shift=2 * self.config.penalty_scale * l2,
            center=self.center,
        )

    @property
    def _hessian_of_all_rows(self) -> FlatHessian:
        """H over all training rows, also if the spectrum is that of fewer rows or of another matrix."""
        if not self.config.hessian_samples and self.hessian.kind == "hessian":
            return self.hessian
        if self._full_hessian is None:
            self._full_hessian = FlatHessian(self.model, *self.data.train, chunk_rows=self.sizes.chunk_rows)
        return self._full_hessian

    def measure(self, thetas: Sequence[Tensor]) -> list[tuple[SplitMetrics, SplitMetrics]]:
        """The metrics on the training and the test split at each θ (P,)."""
        data, stacked = self.data, torch.stack(list(thetas))
        train, test = (
            evaluate_each(self.model, stacked, *split, data.num_classes, self.sizes.chunk_rows)
            for split in (data.train, data.test)
        )
        return list(zip(train, test, strict=True))

    # -- analyses -----------------------------------------------------------------------------------------

    def analyse(
        self, thetas: Sequence[Tensor], points: Sequence[Point], on_product: Callable[[], object] | None = None
    ) -> list[Analysis | FloatingPointError]:
        """Compute the gradient, the spectrum and the class geometry at each θ (P,).

        ``on_product`` is called after each product with the Hessian, or with those of all points together. If a product
        was NaN or infinite, the error takes the place of that analysis.
        """
        if len(thetas) == 1 or self.config.solver != "lanczos":
            return [self._analyse_one(*each, on_product) for each in zip(thetas, points, strict=True)]
        stacked = torch.stack(list(thetas))
        gradients = gradient(self.model, stacked, *self.data.train, self.sizes.chunk_rows)
        spectra = linalg.lanczos_stack(
            self.hessian.at_each(stacked, cache_bytes=self.sizes.cache_bytes, on_product=on_product),
            generators=[_generator(point, "lanczos") for point in points],
            **self._solver_options(),
        )
        options: dict[str, Any] = {"cache_bytes": self.sizes.cache_bytes, "on_product": on_product}
        hessian_at, hessians = partial(self.hessian.at, **options), partial(self.hessian.at_each, **options)
        return self._add_geometry(thetas, points, gradients, spectra, hessian_at, hessians)

    def _analyse_one(
        self, theta: Tensor, point: Point, on_product: Callable[[], object] | None
    ) -> Analysis | FloatingPointError:
        solve = {"lanczos": linalg.lanczos, "eigsh": linalg.eigsh}[self.config.solver]
        slope = gradient(self.model, theta, *self.data.train, self.sizes.chunk_rows)
        operator = self.hessian.at(theta, cache_bytes=self.sizes.cache_bytes, on_product=on_product)
        try:
            pairs = solve(operator, generator=_generator(point, "lanczos"), **self._solver_options())
        except FloatingPointError as error:
            return error
        (found,) = self._add_geometry([theta], [point], [slope], [pairs], lambda _: operator)
        return found

    def _add_geometry(
        self,
        thetas: Sequence[Tensor],
        points: Sequence[Point],
        gradients: Iterable[Tensor],
        spectra: Sequence[linalg.EigenPairs | FloatingPointError],
        hessian_at: Callable[[Tensor], HessianOperator],
        hessians: Callable[[Tensor], HessianStack] | None = None,
    ) -> list[Analysis | FloatingPointError]:
        """The analyses of grid points from their gradients and eigenpairs.

        For further products with H, ``hessian_at`` makes it at one θ (P,), and ``hessians`` at several (G, P).
        """
        inputs = {
            place: GridPointInputs(
                theta,
                self.displacement(theta),
                2 * self.config.penalty_scale * self.l2_at(point),
                slope,
                pairs,
                partial(hessian_at, theta),
                partial(_generator, point),
            )
            for place, (theta, point, slope, pairs) in enumerate(zip(thetas, points, gradients, spectra, strict=True))
            if isinstance(pairs, linalg.EigenPairs)
        }
        found: dict[int, Analysis | FloatingPointError] = {
            place: pairs for place, pairs in enumerate(spectra) if isinstance(pairs, FloatingPointError)
        }
        geometries = self.geometry.at_each(list(inputs.values()), hessians)
        for (place, own), values in zip(inputs.items(), geometries, strict=True):
            if isinstance(values, FloatingPointError):
                found[place] = values
            else:
                found[place] = Analysis(own.gradient, own.pairs, values)
        return [found[place] for place in range(len(thetas))]

    def _solver_options(self) -> dict[str, Any]:
        config = self.config
        names = ("k", "which", "tol", "max_matvecs", "slack", "eta", "lowest")
        return {name: getattr(config, name) for name in names}


def _generator(point: Point, purpose: Purpose) -> torch.Generator:
    """The random numbers of one purpose at a grid point. They depend on no other grid point."""
    return generator(purpose, point.run.seed, point.run.direction, point.value)
