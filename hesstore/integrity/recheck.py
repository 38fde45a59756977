"""Whether stored results follow from the stored weights and the data: a sample of λ is calculated again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hesstore.config import SweepConfig
from hesstore.curvature import gradient
from hesstore.engine.experiment import Experiment
from hesstore.errors import CorruptStoreError, StoreError
from hesstore.integrity.findings import Problem
from hesstore.store.metadata import read_metadata
from hesstore.store.origin import origin_of
from hesstore.store.places.location import local_path
from hesstore.store.schema import SPLITS, Run, Status
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator

    from torch import Tensor

    from hesstore.measure.metrics import SplitMetrics

SAMPLE = 5
"""λ that are calculated again, unless told otherwise."""
MODES = 4
"""Eigenpairs that are checked at each of them, spread over all k."""

# Bounds on what float32 rounding may change between one machine, chunk size or thread count and another.
RESIDUAL = 128 * float(np.finfo(np.float32).eps)
"""Of a residual norm, as a share of the spectral norm of H. Products were seen to differ by up to 50 ε of it."""
GRADIENT = (1e-4, 1e-5)
"""Of ∇E, in the 2-norm: a share of its norm, and an absolute part, for it is a mean of terms that cancel."""
LOSS = 1e-5
"""Of E, as a share of 1 + E."""
ROWS = 1e-3
"""Share of a split's rows (at least one) whose predicted class may change: logits may tie."""


@dataclass
class DeepReport:
    """What :func:`deep_check` found.

    Attributes
    ----------
    problems : list of Problem
        Results that do not follow from weights and data.
    checked : list of (int, float)
        (run, λ) of those that were calculated again.
    modes : int
        Eigenpairs that were checked at each of them.
    """

    problems: list[Problem] = field(default_factory=list)
    checked: list[tuple[int, float]] = field(default_factory=list)
    modes: int = 0


def deep_check(
    location: str | os.PathLike[str],
    *,
    sample: int = SAMPLE,
    avoid: Collection[tuple[int, int]] = (),
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DeepReport:
    """Calculate loss, confusion counts, ∇E and some residual norms again at a sample of complete λ.

    Parameters
    ----------
    location : path or ``file://`` URL
        A store that :func:`hesstore.integrity.verify.verify` finds no fault with, but for λ to ``avoid``.
    sample : int
        Most λ, spread over all complete ones.
    avoid : collection of (int, int)
        (run, index of λ) of those that are known to be bad.
    trust : bool
        Import the data set or model of one's own that the store's config names.
    progress : callable, optional
        Called with (λ checked, λ in all).

    Raises
    ------
    StoreError
        If the config names code of one's own and ``trust`` is off.
    CorruptStoreError
        If data or model are not those that the store was made from.
    HesstoreError
        If the experiment can't be set up: data that are not there, for one.
    """
    path = local_path(location)
    attributes = read_metadata(path).attributes
    origin = origin_of(attributes)
    if origin.is_import and not origin.recompute:
        raise StoreError(
            f"{path}: was imported as it is, from files that may have been made otherwise: nothing can be calculated "
            "again; `hesstore import --recompute` compares them with what follows from their weights"
        )
    config = replace(SweepConfig.from_mapping(json.loads(attributes["config"])), device="auto")
    for name in (config.dataset, config.model):
        if ":" in name and not trust:
            raise StoreError(
                f"{path}: its config names code, {name!r}, that a deep check would run: "
                "pass --trust if you know where the store comes from"
            )
    experiment = Experiment.prepare(config)
    stored, here = json.loads(attributes["identity"]), experiment.identity()
    for key, what in (("data_digest", "data set"), ("parameters", "model"), ("buffers", "model")):
        there, own = stored.get(key), here.get(key)
        if there != own:
            raise CorruptStoreError(
                f"{path}: the {what} here is not the one that it was made from ({key} is {_short(there)} there, "
                f"{_short(own)} here): check the --data-dir of its config, {config.data_dir!r}, or your own code"
            )
    store = SweepStore(path)
    imported = {
        (run.id, index) for run, index in _complete(store, ()) if origin.is_as_imported(run.id, store.l2[index])
    }
    chosen = _spread(_complete(store, {*avoid, *imported}), sample)
    report = DeepReport(modes=min(MODES, config.k))
    for done, (run, index) in enumerate(chosen, start=1):
        l2 = float(store.l2[index])
        check = _Recalculation(experiment, store, run, index)
        report.problems += [Problem(what, run.id, index, l2) for what in check.differences()]
        report.checked.append((run.id, l2))
        if progress is not None:
            progress(done, len(chosen))
    return report


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


def _spread(items: list[tuple[Run, int]], most: int) -> list[tuple[Run, int]]:
    """At most ``most`` items, evenly, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in np.unique(places)]


class _Recalculation:
    """One λ, calculated again from its weights."""

    def __init__(self, experiment: Experiment, store: SweepStore, run: Run, index: int) -> None:
        self.experiment, self.store, self.run, self.index = experiment, store, run, index
        self.theta = self._tensor("weights")

    def _tensor(self, name: str) -> Tensor:
        values = torch.from_numpy(np.array(self.store.read(name, self.run, self.index)))
        return values.to(self.experiment.device, self.experiment.data.train.x.dtype)

    def differences(self) -> Iterator[str]:
        """What does not follow from weights and data, a line each."""
        (splits,) = self.experiment.measure([self.theta])
        for position, metrics in enumerate(splits):
            yield from self._of_split(position, metrics)
        yield from self._of_gradient()
        yield from self._of_spectrum()

    def _of_split(self, position: int, metrics: SplitMetrics) -> Iterator[str]:
        split = SPLITS[position]
        loss = float(self.store.read("loss", self.run, self.index)[position])
        if not abs(loss - metrics.loss) <= LOSS * (1 + abs(metrics.loss)):
            yield f"loss: {split} is {loss:.8g}, calculated again {metrics.loss:.8g}"
        counts = self.store.read("confusion", self.run, self.index)[position].astype(np.int64)
        moved, rows = int(np.abs(counts - metrics.confusion).sum()) // 2, int(metrics.confusion.sum())
        if counts.sum() != rows or moved > max(1, ROWS * rows):
            yield f"confusion: {split} has {moved} of {rows} rows elsewhere when calculated again"

    def _of_gradient(self) -> Iterator[str]:
        experiment = self.experiment
        again = gradient(experiment.model, self.theta, *experiment.data.train, experiment.sizes.chunk_rows)
        norm = float(torch.linalg.vector_norm(again))
        off = float(torch.linalg.vector_norm(again - self._tensor("gradient")))
        share, absolute = GRADIENT
        if not off <= share * norm + absolute:
            yield f"gradient: is off by {off:.2g} from the one calculated again, of norm {norm:.2g}"

    def _of_spectrum(self) -> Iterator[str]:
        operator = self.experiment.hessian.at(self.theta, cache_bytes=self.experiment.sizes.cache_bytes)
        eigenvalues = self.store.read("eigenvalues", self.run, self.index)
        residuals = self.store.read("residual_norm", self.run, self.index)
        vectors = self._tensor("eigenvectors")
        there = np.flatnonzero(np.isfinite(eigenvalues))
        modes = there[np.unique(np.linspace(0, len(there) - 1, min(MODES, len(there))).round().astype(int))]
        bound = RESIDUAL * self._scale(operator.matvec, float(np.nanmax(np.abs(eigenvalues))))
        for mode in modes:
            vector, value, stored = vectors[mode], float(eigenvalues[mode]), float(residuals[mode])
            residual = float(torch.linalg.vector_norm(operator.matvec(vector) - value * vector, dtype=torch.float64))
            if not abs(residual - stored) <= bound:
                yield (
                    f"eigenvectors: mode {mode} has residual norm {residual:.3g}, {stored:.3g} is stored "
                    f"(they may differ by {bound:.1g})"
                )

    def _scale(self, product: Callable[[Tensor], Tensor], known: float) -> float:
        """About the spectral norm of H: that of the stored eigenvalues, unless they are of one end only."""
        if self.experiment.config.which == "LM":
            return known
        vector = torch.ones_like(self.theta)
        norm = known
        for _ in range(5):  # a lower bound of the right size will do
            vector = product(vector / torch.linalg.vector_norm(vector))
            norm = max(norm, float(torch.linalg.vector_norm(vector)))
        return norm
