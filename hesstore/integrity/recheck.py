"""Recheck: compute the results of a sample of grid points again from their weights and the data, and compare.

At each of these grid points, another search from new random vectors looks for eigenvalues that the spectrum lacks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from hesstore.analysis.selection import evenly_spaced
from hesstore.config import SweepConfig
from hesstore.config.l2_grid import AXIS
from hesstore.config.networks import named_code
from hesstore.curvature import gradient
from hesstore.custom_code import calls_back
from hesstore.dataset.completeness import SpectrumSettings
from hesstore.engine.devices import computing_on, resolve_device
from hesstore.engine.experiment import Experiment
from hesstore.errors import CorruptStoreError, StoreError
from hesstore.integrity.findings import Problem
from hesstore.linalg import lanczos
from hesstore.linalg.eigenpairs import distance, order
from hesstore.linalg.long_sums import inner_products
from hesstore.measure.layer_blocks import layer_blocks
from hesstore.problem.seeds import generator
from hesstore.store.identity import identity_of
from hesstore.store.import_origin import origin_of
from hesstore.store.metadata import read_metadata
from hesstore.store.places.location import local_path
from hesstore.store.schema import LOWEST, OUTERMOST, SPLITS, Point, Run, Status
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.dataset.completeness import Completeness, SpectraSummary
    from hesstore.linalg import SymmetricOperator
    from hesstore.linalg.eigenpairs import Which
    from hesstore.measure.metrics import SplitMetrics
    from hesstore.store.schema import PairVariables

    Array = NDArray[np.float64]

SAMPLE = 5
"""The default number of grid points that are computed again."""
MODES = 4
"""The number of eigenpairs whose residual norms are checked at each of them, evenly spaced among all k; likewise among
the lowest."""
FURTHER = 256
"""Maximum number of products of a search for missing eigenvalues, in addition to one for each stored eigenvector."""

OUTSIDE = 0.5
"""The length of what a projection onto the stored eigenvectors leaves of a unit vector that they do not contain."""

# Bounds on the differences between machines, chunk sizes and thread counts that float32 rounding can cause.
RESIDUAL = 128 * float(np.finfo(np.float32).eps)
"""For residual norms, relative to the spectral norm of H. Products were observed to differ by up to 50 ε of it."""
GRADIENT = (1e-4, 1e-5)
"""For ∇E in the 2-norm: relative to its norm, and absolute, because it is a mean of terms that cancel."""
LOSS = 1e-5
"""For E, relative to 1 + E."""
STATIONARITY = 1e-4
"""For the stationarity, relative to 1 plus it."""
ROWS = 1e-3
"""The share of a split's rows (at least one row) whose predicted class may change, because logits can tie."""


@dataclass
class Recheck:
    """The result of :func:`recheck`.

    Attributes
    ----------
    problems : list of Problem
        The results that do not follow from the weights and the data.
    checked : list of (int, float)
        The run ID and the value on the grid (λ in a sweep) of the grid points that were computed again.
    modes : int
        The number of eigenpairs whose residual norms were checked at each of them.
    spectra : list of Completeness
        How complete the spectra are, by the bounds of the new searches, where these found no missing eigenvalue. A
        grid point with wrong residual norms is not searched.
    settings : SpectrumSettings, optional
        The settings of the store's spectra.
    axis : str
        The name of the grid's dimension.
    """

    problems: list[Problem] = field(default_factory=list)
    checked: list[tuple[int, float]] = field(default_factory=list)
    modes: int = 0
    spectra: list[Completeness] = field(default_factory=list)
    settings: SpectrumSettings | None = None
    axis: str = AXIS

    @property
    def summary(self) -> SpectraSummary | None:
        """The summary of :attr:`spectra`; None if there are none."""
        return None if self.settings is None else self.settings.summary(self.spectra)


@calls_back("progress")
def recheck(
    location: str | os.PathLike[str],
    *,
    sample: int = SAMPLE,
    avoid: Collection[tuple[int, int]] = (),
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Recheck:
    """Compute loss, confusion counts, ∇E and some residual norms again at a sample of complete grid points.

    If the residual norms agree, the search for the spectrum is repeated there: it starts from the stored eigenvectors
    and continues in their complement from random vectors that the sweep did not use. Among the k outermost eigenvalues
    that it finds, each that lies beyond the stored ``eigenvalue_bound`` and is not stored is a problem. Otherwise the
    search ends with a new bound, which it tries to bring within the config's ``slack`` or to the stored bound,
    whichever is wider. This takes k products with H, and usually 20 to 80 more.

    Parameters
    ----------
    location : path or ``file://`` URL
        A store in which :func:`hesstore.integrity.verify.verify` finds only problems of grid points to ``avoid``.
    sample : int
        The maximum number of grid points, evenly spaced among all complete ones.
    avoid : collection of (int, int)
        The (run ID, index) of grid points that are known to be bad.
    trust : bool
        Whether to import a custom data set or model that the store's config names.
    progress : callable, optional
        Called with (grid points checked, grid points in total).

    Raises
    ------
    StoreError
        If the config names custom code and ``trust`` is off.
    CorruptStoreError
        If the data or the model are not those with which the store was made.
    HesstoreError
        If the experiment cannot be set up, for example because its data are missing.
    """
    path = local_path(location)
    attributes = read_metadata(path).attributes
    origin = origin_of(attributes)
    if origin.is_import and not origin.recompute:
        raise StoreError(
            f"{path}: was imported without --recompute, from files that may have been made in other ways, so nothing "
            "can be computed again; `hesstore import --recompute` compares them with the results of their weights"
        )
    config = replace(SweepConfig.from_mapping(json.loads(attributes["config"])), device="auto")
    for name in named_code(config.dataset, config.model).values():
        if not trust:
            raise StoreError(
                f"{path}: its config names code, {name!r}, that --deep would run: "
                "pass --trust if you know where the store comes from"
            )
    with computing_on(resolve_device(config.device), config.threads):
        return _recheck_sample(path, attributes, config, sample, avoid, progress)


def _recheck_sample(
    path: Path,
    attributes: Mapping[str, Any],
    config: SweepConfig,
    sample: int,
    avoid: Collection[tuple[int, int]],
    progress: Callable[[int, int], None] | None,
) -> Recheck:
    """Compute the results of a sample of grid points again on the current device; see :func:`recheck`."""
    store, origin = SweepStore.open(path), origin_of(attributes)
    experiment = Experiment.prepare(config, store, reread=False)
    stored, current = identity_of(attributes), experiment.identity()
    for key, what in (
        ("data_digest", "data set"),
        ("parameters", "model"),
        ("buffers", "model"),
        ("statistics", "model"),
    ):
        there, own = stored.get(key), current.get(key)
        if there != own:
            raise CorruptStoreError(
                f"{path}: the {what} is not the one with which it was made ({key} is {_short(there)} in the store, "
                f"{_short(own)} now): check the --data-dir of its config, {config.data_dir!r}, or your custom code"
            )
    imported = {
        (run.id, index) for run, index in _complete(store, ()) if origin.is_as_imported(run.id, store.grid[index])
    }
    complete = _complete(store, {*avoid, *imported})
    chosen = [complete[index] for index in evenly_spaced(len(complete), sample)]
    settings = SpectrumSettings(config.k, config.which, config.slack, config.dtype)
    modes = min(MODES, config.k) + min(MODES, config.lowest) if config.k else 0
    found = Recheck(modes=modes, settings=settings, axis=store.axis)
    for done, (run, index) in enumerate(chosen, start=1):
        point = store.point(run, index)
        own = np.asarray(store.read("statistics", run, index)) if experiment.statistics else None
        check = _Recalculation(experiment.at_statistics(own), settings, store, point)
        found.problems += [Problem.at(point, what) for what in check.differences()]
        found.spectra += [check.spectrum] if check.spectrum else []
        found.checked.append((run.id, point.value))
        if progress is not None:
            progress(done, len(chosen))
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:24]}…"


def _complete(store: SweepStore, avoid: Collection[tuple[int, int]]) -> list[tuple[Run, int]]:
    return [
        (run, int(index))
        for run in store.runs
        for index in np.flatnonzero(store.status(run) == Status.COMPLETE)
        if (run.id, int(index)) not in avoid
    ]


def _outside(eigenvalues: Tensor, vectors: Tensor, span: Tensor) -> Tensor:
    """The eigenvalues (float64) of eigenvectors that are outside a span.

    Within a cluster, single vectors may lie partly in the span. Each singular value above ½ of what a projection leaves
    of all vectors is one dimension outside, and the eigenvalues are those of the operator on these dimensions.

    Parameters
    ----------
    eigenvalues : Tensor
        (n,) μ.
    vectors : Tensor
        (n, P) their orthonormal eigenvectors.
    span : Tensor
        (k, P) an orthonormal basis of the span.
    """
    rest = vectors - inner_products(vectors, span) @ span
    mix, sizes, _ = torch.linalg.svd(rest.double().cpu(), full_matrices=False)
    mix = mix[:, sizes > OUTSIDE]
    outside: Tensor = torch.linalg.eigvalsh(mix.T @ (eigenvalues[:, None] * mix))
    return outside


class _Recalculation:
    """A grid point whose results are computed again from its weights."""

    def __init__(self, experiment: Experiment, settings: SpectrumSettings, store: SweepStore, point: Point) -> None:
        self.experiment, self.settings, self.store = experiment, settings, store
        self.run, self.index, self.point = point.run, point.index, point
        self.theta = self._tensor("weights")
        self.spectrum: Completeness | None = None  # with the new bound, if no eigenvalue is missing

    def _tensor(self, name: str) -> Tensor:
        values = torch.from_numpy(np.array(self.store.read(name, self.run, self.index)))
        return values.to(self.experiment.device, self.experiment.data.train.x.dtype)

    def differences(self) -> Iterator[str]:
        """Describe each result that does not follow from the weights and the data."""
        (splits,) = self.experiment.measure([self.theta])
        for position, metrics in enumerate(splits):
            yield from self._of_split(position, metrics)
        if self.experiment.config.polish:
            yield from self._of_polishing()
        if self.experiment.config.k:
            yield from self._of_gradient()
            yield from self._of_spectrum()

    def _of_split(self, position: int, metrics: SplitMetrics) -> Iterator[str]:
        split = SPLITS[position]
        loss = float(self.store.read("loss", self.run, self.index)[position])
        if not abs(loss - metrics.loss) <= LOSS * (1 + abs(metrics.loss)):
            yield f"loss: {split} is {loss:.8g}, computed again {metrics.loss:.8g}"
        counts = self.store.read("confusion", self.run, self.index)[position].astype(np.int64)
        moved, rows = int(np.abs(counts - metrics.confusion).sum()) // 2, int(metrics.confusion.sum())
        if counts.sum() != rows or moved > max(1, ROWS * rows):
            yield f"confusion: {split} has {moved} of {rows} rows in other cells when computed again"

    def _of_polishing(self) -> Iterator[str]:
        again = self.experiment.stationarity(self.theta, self.point)
        stored = float(self.store.read("polish_stationarity", self.run, self.index))
        if not np.isclose(stored, again, rtol=STATIONARITY, atol=STATIONARITY, equal_nan=True):
            yield f"polish_stationarity: is {stored:.3g}, computed again {again:.3g}"

    def _of_gradient(self) -> Iterator[str]:
        experiment = self.experiment
        again = gradient(experiment.model, self.theta, *experiment.data.train, experiment.sizes.chunk_rows)
        norm = float(torch.linalg.vector_norm(again))
        off = float(torch.linalg.vector_norm(again - self._tensor("gradient")))
        share, absolute = GRADIENT
        if not off <= share * norm + absolute:
            yield f"gradient: differs by {off:.2g} from the one that was computed again, of norm {norm:.2g}"

    def _of_spectrum(self) -> Iterator[str]:
        operator = self.experiment.hessian.at(self.theta, cache_bytes=self.experiment.sizes.cache_bytes)
        eigenvalues, vectors = self._pairs(OUTERMOST)
        rounding = RESIDUAL * self._scale(operator.matvec, float(np.abs(eigenvalues).max()))
        kinds = (OUTERMOST, LOWEST) if self.experiment.config.lowest else (OUTERMOST,)
        wrong = [line for names in kinds for line in self._wrong_residuals(operator, names, rounding)]
        yield from wrong or self._missing_eigenvalues(operator, eigenvalues, vectors, rounding)
        if self.experiment.config.blocks != "none":
            yield from self._of_blocks(operator, rounding)

    def _of_blocks(self, operator: SymmetricOperator, rounding: float) -> Iterator[str]:
        """Compute the blocks again from other random vectors."""
        experiment, run = self.experiment, self.run
        rng = generator("recheck", run.seed, run.direction, self.point.value)
        again = layer_blocks(operator, experiment.geometry.rows_of_layers, experiment.config, rng)
        stored = {name: np.asarray(self.store.read(name, run, self.index), np.float64) for name in again}
        slack = experiment.config.slack * np.abs(again["block_eigenvalues"])  # a copy may have been found in one only
        allowed = stored["block_residual_norm"] + again["block_residual_norm"] + slack + rounding
        wrong = ~(np.abs(stored["block_eigenvalues"] - again["block_eigenvalues"]) <= allowed)
        wrong &= np.isfinite(stored["block_eigenvalues"]) | np.isfinite(again["block_eigenvalues"])
        for block, mode in np.argwhere(wrong)[:1]:
            values = (found["block_eigenvalues"][block, mode] for found in (stored, again))
            yield "block_eigenvalues: of block {} is {:.6g}, computed again {:.6g}".format(block, *values)

    def _pairs(self, names: PairVariables) -> tuple[Array, Tensor]:
        """The stored eigenvalues (n,) and eigenvectors (n, P) that the solver found."""
        eigenvalues = np.asarray(self.store.read(names.eigenvalues, self.run, self.index), np.float64)
        there = np.flatnonzero(np.isfinite(eigenvalues))
        return eigenvalues[there], self._tensor(names.eigenvectors)[there]

    def _wrong_residuals(self, operator: SymmetricOperator, names: PairVariables, rounding: float) -> Iterator[str]:
        eigenvalues, vectors = self._pairs(names)
        residuals = self.store.read(names.residual_norm, self.run, self.index)
        for mode in evenly_spaced(len(eigenvalues), MODES):
            vector, value, stored = vectors[mode], float(eigenvalues[mode]), float(residuals[mode])
            residual = float(torch.linalg.vector_norm(operator.matvec(vector) - value * vector, dtype=torch.float64))
            if not abs(residual - stored) <= rounding:
                yield (
                    f"{names.eigenvectors}: mode {mode} has residual norm {residual:.3g}, {stored:.3g} is stored "
                    f"(they may differ by {rounding:.1g})"
                )

    def _missing_eigenvalues(
        self, operator: SymmetricOperator, eigenvalues: Array, vectors: Tensor, rounding: float
    ) -> Iterator[str]:
        """Search again, from the stored eigenvectors (n, P); without a finding, set :attr:`spectrum`."""
        config, run = self.experiment.config, self.run
        which = cast("Which", config.which)
        bound = float(self.store.read("eigenvalue_bound", run, self.index))
        pairs = lanczos(
            operator,
            config.k,
            which=which,
            tol=config.tol,
            max_matvecs=config.k + FURTHER,
            generator=generator("recheck", run.seed, run.direction, self.point.value),
            eta=config.eta,
            slack=self._slack(eigenvalues, bound),
            known=vectors,
        )
        found = torch.isfinite(pairs.eigenvalues)
        others = _outside(pairs.eigenvalues[found], pairs.eigenvectors[found.to(vectors.device)], vectors)
        others = others[order(others, which)]
        limit = float(distance(torch.tensor(bound), which)) + rounding
        missing = others[distance(others, which) > limit].tolist()
        if missing:
            values, verb = ", ".join(f"{value:.6g}" for value in missing), "is" if len(missing) == 1 else "are"
            yield f"eigenvalues: {values} {verb} missing beyond {bound:.6g}, the stored bound on further eigenvalues"
            return
        ends = torch.cat([others, torch.tensor([pairs.bound], dtype=torch.float64)])
        outermost = float(ends[order(ends, which)[0]])
        self.spectrum = self.settings.completeness(eigenvalues, abs(outermost) if which == "LM" else outermost)

    def _slack(self, eigenvalues: Array, bound: float) -> float:
        """The slack of a new search: that of the config, or as much as leads to the stored bound if that is wider."""
        stored = self.settings.completeness(eigenvalues, bound)
        is_whole = len(eigenvalues) == self.experiment.config.k
        return max(self.experiment.config.slack, (stored.fraction if stored and is_whole else None) or 0.0)

    def _scale(self, product: Callable[[Tensor], Tensor], known: float) -> float:
        """Return the approximate spectral norm of H: from the stored eigenvalues, unless they are of one end only."""
        if self.experiment.config.which == "LM":
            return known
        vector = torch.ones_like(self.theta)
        norm = known
        for _ in range(5):  # a lower bound of the right magnitude is enough
            vector = product(vector / torch.linalg.vector_norm(vector))
            norm = max(norm, float(torch.linalg.vector_norm(vector)))
        return norm
