"""The loss and the losses of the classes along an eigenvector, in the plane of two, and between two grid points.

A slice at weights θ contains E(θ + t ‖θ‖ v) for one eigenvector v, or E(θ + ‖θ‖ (t v + u w)) for two, next to the
quadratic model of E. A path contains E((1 − s) θ_A + s θ_B). Both are computed from a store's weights on demand.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from hesstore.analysis.attributes import variable, with_attributes
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.selection import l2_position, loss_unit, matrix_name, require_variables, run_position
from hesstore.config.l2_grid import value_text
from hesstore.curvature.row_losses import row_losses
from hesstore.custom_code import calls_back
from hesstore.dataset.networks import load_model, to_state_dict
from hesstore.errors import AnalysisError
from hesstore.measure.network_geometry import load_data, loss_of
from hesstore.problem.models import FlatModel
from hesstore.store.identity import identity_of
from hesstore.store.schema import SPLITS, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hesstore.problem.training_data import ClassificationData

    Progress = Callable[[int, int], None]

STEPS = ("t", "u")
"""The dimensions of a slice: steps along the first and along the second eigenvector."""

_CHUNK_ROWS = 2048


@calls_back("progress")
def loss_slice(
    ds: xr.Dataset,
    l2: float,
    *,
    run: int = 0,
    modes: int | Sequence[int] = 0,
    reach: float = 0.1,
    points: int = 41,
    module: nn.Module | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Compute the loss along an eigenvector of a grid point, or in the plane of two eigenvectors.

    Parameters
    ----------
    ds : Dataset
        A store, as :func:`hesstore.open` returns it.
    l2 : float
        λ of a complete grid point, or its value on the axis of a collection.
    run : int
        Run ID.
    modes : int or sequence of int
        One or two modes, whose eigenvectors span the slice.
    reach : float
        The largest step in each direction, in units of ‖θ‖, above 0.
    points : int
        The number of steps along each eigenvector: an odd number from 3, so that θ itself is among them.
    module : nn.Module, optional
        A network of the same kind, which does not change; see :func:`hesstore.load_model`.
    trust : bool
        Whether custom code that the config names may be imported and run to load the data and build the network.
    progress : callable, optional
        Called with (points done, all points).

    Returns
    -------
    Dataset
        Along ``t``, and ``u`` for two modes, both in units of ‖θ‖: ``loss`` (split) and ``class_loss`` (split, label),
        in nat; ``quadratic``, the quadratic model of the training loss, E + ε g·v + ½ ε² μ with ε = t ‖θ‖, summed over
        the modes. For one mode also ``class_quadratic`` (split, label), from the slopes and curvatures of the classes.
        ``weights_norm`` is ‖θ‖. The Dataset can be written with ``to_netcdf`` and drawn by
        :func:`hesstore.plots.loss_slice`.

    Raises
    ------
    AnalysisError
        If the run, the grid point or a mode does not exist, or an argument is out of range.
    DataError
        If the data are not those with which the store was made.
    ExportError
        If the network cannot be built; see :func:`hesstore.load_model`.
    """
    chosen = (modes,) if isinstance(modes, int) else tuple(modes)
    _check_arguments(ds, chosen, reach, points)
    require_variables(ds, "gradient", "loss")
    reader, axis = eigenvector_reader(ds, run), axis_of(ds)
    index = l2_position(reader.l2, l2, run, axis)
    vectors = reader.read(index, max(chosen) + 1)[list(chosen)].astype(np.float64)
    if not np.isfinite(vectors).all():
        raise AnalysisError(f"{value_text(axis, l2)} of run {run} lacks a mode of {list(chosen)}: choose lower modes")
    value = float(reader.l2[index])
    point = ds.sel({"run": run, axis: value}, drop=False)
    evaluate = _Evaluator.of(ds, module, trust=trust)
    theta = evaluate.weights(run, value)
    norm = float(torch.linalg.vector_norm(theta, dtype=torch.float64))
    steps = np.linspace(-reach, reach, points)
    directions = torch.from_numpy(norm * vectors).to(theta.dtype)
    places = list(itertools.product(steps, repeat=len(chosen)))
    thetas = (theta + torch.tensor(place, dtype=theta.dtype) @ directions for place in places)
    dims = STEPS[: len(chosen)]
    found = evaluate.losses(thetas, len(places), (points,) * len(chosen), dims, progress)
    found["quadratic"] = variable(dims, *_quadratic(point, chosen, vectors, norm * steps))
    if len(chosen) == 1 and "class_slope" in ds:
        found["class_quadratic"] = _class_quadratic(point, chosen[0], norm * steps, found["class_loss"].values)
    names = [f"step along eigenvector {mode}, in units of |weights|" for mode in chosen]
    coords = {
        **{dim: variable((dim,), steps, name) for dim, name in zip(dims, names, strict=True)},
        **_place(point, axis),
        "label": ds["label"].variable,
    }
    result = xr.Dataset(found, coords={**coords, "split": list(SPLITS)}, attrs={"modes": list(chosen)})
    return with_attributes(result.assign(weights_norm=variable((), norm, "2-norm of the weights")))


@calls_back("progress")
def loss_path(
    ds: xr.Dataset,
    l2_a: float,
    l2_b: float,
    *,
    run: int = 0,
    run_b: int | None = None,
    beyond: float = 0.0,
    points: int = 41,
    module: nn.Module | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Compute the loss on the straight line between the weights of two grid points, A and B.

    Parameters
    ----------
    ds, run, points, module, trust, progress
        As for :func:`loss_slice`; ``run`` is that of A.
    l2_a, l2_b : float
        λ of the grid points A and B, or their values on the axis of a collection.
    run_b : int, optional
        The run of B; by default that of A.
    beyond : float
        How far the line continues beyond A and B, in units of their distance, at least 0.

    Returns
    -------
    Dataset
        Along ``s``, which is 0 at A and 1 at B: ``loss`` (split) and ``class_loss`` (split, label), in nat.
        ``distance`` is ‖θ_B − θ_A‖.

    Raises
    ------
    AnalysisError
        If a grid point does not exist or is not complete, an argument is out of range, or A and B differ in the running
        statistics of their batch norm, so that no network lies between them.
    DataError, ExportError
        As for :func:`loss_slice`.
    """
    if points < 3 or not 0 <= beyond < np.inf:
        raise AnalysisError(f"points = {points}, beyond = {beyond:g}: they must be at least 3 and at least 0")
    runs = (run, run if run_b is None else run_b)
    for each in runs:
        run_position(ds, each)
    axis, evaluate = axis_of(ds), _Evaluator.of(ds, module, trust=trust)
    _check_same_statistics(ds, [*zip(runs, (l2_a, l2_b), strict=True)])
    a, b = (evaluate.weights(each, value) for each, value in zip(runs, (l2_a, l2_b), strict=True))
    along = np.linspace(-beyond, 1 + beyond, points)
    thetas = (a + float(s) * (b - a) for s in along)
    found = evaluate.losses(thetas, points, (points,), ("s",), progress)
    ends = [f"{value_text(axis, value)}, run {each}" for each, value in zip(runs, (l2_a, l2_b), strict=True)]
    text = f"place on the line from {ends[0]} (0) to {ends[1]} (1)"
    coords = {"s": variable(("s",), along, text), "label": ds["label"].variable, "split": list(SPLITS)}
    distance = float(torch.linalg.vector_norm(b - a, dtype=torch.float64))
    result = xr.Dataset(found, coords=coords, attrs={"ends": ends})
    return with_attributes(result.assign(distance=variable((), distance, "2-norm of the difference of the weights")))


def _check_same_statistics(ds: xr.Dataset, ends: Sequence[tuple[int, float]]) -> None:
    """Raise :class:`AnalysisError` if two grid points differ in the running statistics of batch norm."""
    names = [name for name, _ in identity_of(ds.attrs).get("statistics", ())]
    if not names:
        return
    a, b = (to_state_dict(ds, run=run, l2=value) for run, value in ends)
    for name in names:
        if not torch.equal(a[name], b[name]):
            raise AnalysisError(
                f"the grid points differ in the running statistic {name!r} of batch norm, so the line between their "
                "weights is not a line of networks: draw slices at single grid points instead"
            )


def _check_arguments(ds: xr.Dataset, modes: tuple[int, ...], reach: float, points: int) -> None:
    require_variables(ds, "eigenvectors")
    count = ds.sizes["mode"]
    if len(modes) not in {1, 2} or len(set(modes)) < len(modes):
        raise AnalysisError(f"modes = {list(modes)}: give one mode, or two different ones")
    for mode in modes:
        if not 0 <= mode < count:
            raise AnalysisError(f"mode {mode} is not in the store: choose from 0 to {count - 1}")
    if not 0 < reach < np.inf:
        raise AnalysisError(f"reach = {reach:g}: it must be above 0")
    if points < 3 or points % 2 == 0:
        raise AnalysisError(f"points = {points}: it must be an odd number of at least 3")


def _place(point: xr.Dataset, axis: str) -> dict[str, xr.Variable]:
    """The coordinates that name the grid point of a slice."""
    return {name: point[name].variable for name in ("run", "seed", "direction", axis)}


def _quadratic(
    point: xr.Dataset, modes: tuple[int, ...], vectors: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str, str | None]:
    """The quadratic model of the training loss after ``steps`` along each eigenvector, for a variable."""
    slopes = vectors @ point["gradient"].values.astype(np.float64)
    rises = [
        slope * steps + float(point["eigenvalues"][mode]) / 2 * steps**2
        for slope, mode in zip(slopes, modes, strict=True)
    ]
    total = rises[0] if len(rises) == 1 else rises[0][:, None] + rises[1][None, :]
    return (
        float(point["loss"].sel(split="train")) + total,
        f"{_model_name(point)} of the mean training loss",
        loss_unit(point),
    )


def _model_name(point: xr.Dataset) -> str:
    """The name of the quadratic model with the curvatures of the store."""
    return "quadratic model" if matrix_name(point) == "Hessian" else "Gauss-Newton model"


def _class_quadratic(
    point: xr.Dataset, mode: int, steps: NDArray[np.float64], losses: NDArray[np.float64]
) -> xr.Variable:
    """The quadratic models of the classes' losses, which agree with the measured ``losses`` at the middle step."""
    slope, curvature = (
        point[name].sel(mode=mode).transpose("split", "label").values[..., None]
        for name in ("class_slope", "class_curvature")
    )
    start = losses[..., len(steps) // 2, None]
    text = f"{_model_name(point)} of the mean loss of the class"
    return variable(("split", "label", "t"), start + slope * steps + curvature / 2 * steps**2, text, loss_unit(point))


class _Evaluator(NamedTuple):
    """Evaluates the losses of a store's networks on its data."""

    ds: xr.Dataset
    data: ClassificationData
    dtype: torch.dtype
    module: nn.Module | None
    trust: bool
    models: list[FlatModel]

    @classmethod
    def of(cls, ds: xr.Dataset, module: nn.Module | None, *, trust: bool) -> _Evaluator:
        data, dtype = load_data(ds, trust=trust)
        return cls(ds, data, dtype, None if module is None else copy.deepcopy(module), trust, [])

    def weights(self, run: int, value: float) -> Tensor:
        """The weights (P,) of a grid point."""
        network = load_model(self.ds, run=run, l2=value, module=self.module, trust=self.trust)
        model = FlatModel(network.to(self.dtype), loss=loss_of(self.ds))
        self.models.append(model)
        return model.theta()

    @torch.no_grad()
    def losses(
        self,
        thetas: Any,
        count: int,
        shape: tuple[int, ...],
        dims: tuple[str, ...],
        progress: Progress | None,
    ) -> dict[str, xr.Variable]:
        """The mean loss and the mean losses of the classes at ``count`` θ, on both splits, as variables."""
        classes = self.data.num_classes
        sums = np.zeros((len(SPLITS), classes, count))
        for index, theta in enumerate(thetas):
            for row, split in enumerate((self.data.train, self.data.test)):
                sums[row, :, index] = self._class_sums(theta, split.x.to(self.dtype), split.y)
            if progress:
                progress(index + 1, count)
        rows = np.stack(
            [np.bincount(split.y.numpy(), minlength=classes) for split in (self.data.train, self.data.test)]
        )
        with np.errstate(invalid="ignore"):  # a class without rows has no loss: 0/0 is NaN
            of_classes = (sums / rows[..., None]).reshape(*sums.shape[:2], *shape)
        total = (sums.sum(1) / rows.sum(1)[:, None]).reshape(len(SPLITS), *shape)
        unit = loss_unit(self.ds)
        name = "mean cross-entropy" if unit else "mean squared error"
        return {
            "loss": variable(("split", *dims), total, f"{name}, without the penalty", unit),
            "class_loss": variable(("split", "label", *dims), of_classes, f"{name} of the class", unit),
        }

    def _class_sums(self, theta: Tensor, x: Tensor, y: Tensor) -> NDArray[np.float64]:
        values = row_losses(self.models[-1].loss).values
        sums = torch.zeros(self.data.num_classes, dtype=torch.float64)
        for rows, labels in zip(torch.split(x, _CHUNK_ROWS), torch.split(y, _CHUNK_ROWS), strict=True):
            losses = values(self.models[-1].logits(theta, rows), labels)
            sums.index_add_(0, labels, losses.to(torch.float64))
        result: NDArray[np.float64] = sums.numpy()
        return result
