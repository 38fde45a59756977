"""Quantities that need the network of a grid point and its data: they are computed from a store's weights on demand."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from hesstore.analysis.alignment import default_k, mean_square, principal_cosines
from hesstore.analysis.attributes import scalar_coordinates, variable, with_attributes
from hesstore.analysis.eigenvectors import eigenvector_reader
from hesstore.analysis.selection import l2_position, loss_unit, require_all_rows
from hesstore.curvature.logit_geometry import gauss_newton_curvatures, mean_logit_gradients, mean_loss
from hesstore.custom_code import calls_back
from hesstore.dataset.networks import load_model
from hesstore.errors import AnalysisError, DataError
from hesstore.problem import training_data
from hesstore.problem.losses import LABEL_LOSSES, LabelLoss
from hesstore.problem.models import FlatModel
from hesstore.store.identity import identity_of
from hesstore.store.schema import SIGNS, axis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hesstore.analysis.eigenvectors import EigenvectorReader


@calls_back("progress")
def network_geometry(
    ds: xr.Dataset,
    run: int = 0,
    l2: float | Sequence[float] | None = None,
    *,
    k: int | None = None,
    radius: float = 0.01,
    module: nn.Module | None = None,
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Compute what needs the network and its training data again: logits, Gauss–Newton parts and measured sharpness.

    Parameters
    ----------
    ds : Dataset
        A store, as :func:`hesstore.open` returns it.
    run : int
        Run ID.
    l2 : float or sequence of float, optional
        λ of complete grid points; by default all of the run.
    k : int, optional
        Number of eigenvectors of the span; by default C − 1 for C classes, or all modes if there are fewer.
    radius : float
        ρ, the length of the steps in units of ‖θ‖, above 0.
    module : nn.Module, optional
        A network of the same kind, which does not change; see :func:`hesstore.load_model`.
    trust : bool
        Whether custom code that the config names may be imported and run to load the data and build the network.
    progress : callable, optional
        Called with (grid points done, all grid points).

    Returns
    -------
    Dataset
        Along ``l2``. For each ``mode``: ``gauss_newton`` = vᵀGv (nat), the part of the eigenvalue that does not depend
        on second derivatives of the logits, and ``residual`` = μ − vᵀGv (nat). For each ``label`` c: ``share``, the
        share of the squared norm of a_c within the span of the first k eigenvectors. Here a_c is the gradient of the
        mean logit c over all training rows, minus the mean of these gradients over c. ``principal_angle`` (angle) in
        radians and ``overlap`` compare that span with the one of all a_c, as in :func:`hesstore.analysis.alignment`.
        ``sharpness`` (nat) is the largest rise E(θ ± ρ‖θ‖v) − E(θ) over the eigenvectors v and both signs, measured, at
        ``sharpest_mode`` and ``sharpest_sign``.

    Raises
    ------
    AnalysisError
        If the run or a grid point does not exist or is not complete, an argument is out of range, H was taken over a
        subset of the training rows, or the store does not name its data.
    DataError
        If the data are not those with which the store was made.
    ExportError
        If the network cannot be built; see :func:`hesstore.load_model`.

    Notes
    -----
    A grid point takes three passes over the data for each eigenvector, and one backward pass for each class.
    """
    if not radius > 0:
        raise AnalysisError(f"radius = {radius:g}: it must be above 0")
    require_all_rows(ds)
    vectors = eigenvector_reader(ds, run)
    k = vectors.checked_k(default_k(ds) if k is None else k)
    indices = _indices(vectors, l2, run)
    data, dtype = load_data(ds, trust=trust)
    x, y = data.train.x.to(dtype), data.train.y
    points = []
    own = None if module is None else copy.deepcopy(module)  # the user's module keeps its weights and its precision
    for done, index in enumerate(indices):
        network = load_model(ds, run=run, l2=float(vectors.l2[index]), module=own, trust=trust)
        model = FlatModel(network.to(dtype), loss=loss_of(ds))
        rows = torch.from_numpy(vectors.read(index, vectors.num_modes).copy()).to(dtype)
        points.append(_at(model, x, y, rows, k, radius))
        if progress:
            progress(done + 1, len(indices))
    return _as_dataset(points, vectors.part.isel({axis_of(ds): indices}), ds, k, radius)


class _Geometry(NamedTuple):
    """The results at one grid point; NaN for modes that the solver did not find."""

    gauss_newton: NDArray[np.float64]
    share: NDArray[np.float64]
    cosines: NDArray[np.float64]
    rises: NDArray[np.float64]


def _at(model: FlatModel, x: Tensor, y: Tensor, vectors: Tensor, k: int, radius: float) -> _Geometry:
    """Return the geometry of one network; ``vectors`` are all its eigenvectors (modes, P)."""
    theta = model.theta()
    found = vectors.isfinite().all(1)
    gradients = mean_logit_gradients(model, theta, x)
    units = gradients / torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    components = (vectors[:k].to(torch.float64) @ units.T).numpy()
    length = radius * float(torch.linalg.vector_norm(theta, dtype=torch.float64))
    curvatures, rises = (np.full(shape, np.nan) for shape in ((len(vectors),), (len(vectors), len(SIGNS))))
    curvatures[found] = gauss_newton_curvatures(model, theta, x, vectors[found]).numpy()
    start = mean_loss(model, theta, x, y)
    for mode in found.nonzero()[:, 0].tolist():
        rises[mode] = [mean_loss(model, theta + sign * length * vectors[mode], x, y) - start for sign in SIGNS]
    cosines = principal_cosines(components, (units @ units.T).numpy())
    return _Geometry(curvatures, np.square(components).sum(0), cosines, rises)


def _indices(vectors: EigenvectorReader, l2: float | Sequence[float] | None, run: int) -> list[int]:
    known, axis = vectors.l2, axis_of(vectors.part)
    if l2 is None:
        return list(range(known.size))
    wanted = np.atleast_1d(np.asarray(l2, dtype=np.float64))
    return sorted({l2_position(known, float(each), run, axis) for each in wanted})


def loss_of(ds: xr.Dataset) -> LabelLoss:
    """Return the loss of the sweep."""
    config = json.loads(str(ds.attrs.get("config", "{}")))
    return LABEL_LOSSES[config.get("loss", "cross_entropy")]


def load_data(ds: xr.Dataset, *, trust: bool) -> tuple[training_data.ClassificationData, torch.dtype]:
    """Return the data of the store and the precision of its computation, after a check of the data's digest."""
    config, identity = json.loads(str(ds.attrs.get("config", "{}"))), identity_of(ds.attrs)
    name = config.get("dataset")
    if not name or "data_digest" not in identity:
        raise AnalysisError("the store does not name its data, because it was imported: import it with --recompute")
    if ":" in name and not trust:
        raise AnalysisError(
            f"the store's config names code, {name!r}, that loads the data: pass trust=True (--trust) to run it"
        )
    data = training_data.load(name, config.get("data_dir", ""))
    if data.digest != identity["data_digest"]:
        raise DataError(f"dataset: {name!r} has changed since the store was made: restore the data of the sweep")
    return data, getattr(torch, config.get("dtype", "float32"))


def _as_dataset(points: list[_Geometry], part: xr.Dataset, ds: xr.Dataset, k: int, radius: float) -> xr.Dataset:
    axis, unit = axis_of(ds), loss_unit(ds)
    count = min(k, ds.sizes["label"])
    gauss_newton, share = (np.stack([getattr(each, name) for each in points]) for name in ("gauss_newton", "share"))
    cosines = np.stack(
        [np.pad(each.cosines, (0, count - each.cosines.size), constant_values=np.nan) for each in points]
    )
    rises = np.stack([each.rises.ravel() for each in points])
    best = np.where(np.isfinite(rises), rises, -np.inf).argmax(1)
    mu = part["eigenvalues"].transpose(axis, "mode").values
    spans = f"the spans of the first {k} eigenvectors and of the gradients of the mean logits"
    of_share = f"share of the mean logit's gradient within the span of the first {k} eigenvectors"
    values: dict[str, tuple[tuple[str, ...], Any, str, str | None]] = {
        "gauss_newton": ((axis, "mode"), gauss_newton, "Gauss-Newton part of the eigenvalue", unit),
        "residual": ((axis, "mode"), mu - gauss_newton, "part of the eigenvalue beyond Gauss-Newton", unit),
        "share": ((axis, "label"), share, of_share, None),
        "principal_angle": ((axis, "angle"), np.arccos(cosines), f"principal angle between {spans}", "rad"),
        "overlap": (
            (axis,),
            mean_square(cosines),
            f"mean squared cosine of the principal angles between {spans}",
            None,
        ),
        "sharpness": (
            (axis,),
            np.fmax.reduce(rises, axis=1),
            f"measured rise of the training loss at {radius:g} |weights|",
            unit,
        ),
        "sharpest_mode": ((axis,), best // len(SIGNS), "mode of the largest rise", None),
        "sharpest_sign": ((axis,), np.array(SIGNS)[best % len(SIGNS)], "sign of the step with the largest rise", None),
    }
    coords = {
        **scalar_coordinates(part),
        axis: part[axis].variable,
        "mode": part["mode"].variable,
        "label": ds["label"].variable,
        "angle": np.arange(count),
    }
    return with_attributes(xr.Dataset({name: variable(*each) for name, each in values.items()}, coords=coords))
