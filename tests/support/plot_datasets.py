"""Stores like those of a sweep in both directions: classes are lost one after the other, eigenvalues decay."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hesstore.analysis.selection import RECORDING_OPTIONS
from hesstore.store.schema import Status, density_grid
from tests.support.analysis_datasets import Runs, dataset, random_bases

CLASSES = 10
BOTH: Runs = ((0, "up"), (0, "down"))
LAST = 0.09


def store(count: int = 16, k: int = 12, size: int = 40, runs: Runs = BOTH, *, with_density: bool = True) -> xr.Dataset:
    """Return a complete store of ``count`` grid points."""
    rng = np.random.default_rng(5)
    l2 = np.round(np.linspace(0, LAST, count), 10)
    parts = [_run(rng, l2, k, size, 1.0 if direction == "up" else 0.85) for _, direction in runs]
    values = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    values["density"] = values["density"] if with_density else np.full_like(values["density"], np.nan)
    ds = dataset(l2, values, runs).assign_coords(mu=("mu", np.array(density_grid())))
    return ds.assign_attrs(penalty_scale=0.5)


def with_holes(ds: xr.Dataset, holes: dict[int, list[int]], status: Status = Status.FAILED) -> xr.Dataset:
    """Return ``ds`` with grid points, by position in each run, that are not complete and whose values are NaN."""
    ds = ds.copy(deep=True)
    for run, positions in holes.items():
        for variable in ds.data_vars.values():
            if variable.dtype.kind == "f":
                variable.values[run, positions] = np.nan
        ds["status"].values[run, positions] = status
    return ds


def without_options(ds: xr.Dataset) -> xr.Dataset:
    """Return ``ds`` as a sweep writes it whose config asks for no optional variable."""
    optional = [name for name in RECORDING_OPTIONS if name in ds]
    return ds.drop_vars(optional).drop_dims(["lowest", "mu", "sign", "block", "block_mode"], errors="ignore")


def _run(
    rng: np.random.Generator, l2: NDArray[np.float64], k: int, size: int, scale: float
) -> dict[str, NDArray[np.generic]]:
    count = l2.size
    onset = scale * np.linspace(0.018, 0.075, CLASSES)[rng.permutation(CLASSES) if scale == 1 else _order(rng)]
    alive = 1 / (1 + np.exp(np.clip((l2[:, None] - onset) / 0.0015, -50, 50)))
    class_accuracy = np.clip(alive * (0.96 - 2.0 * l2[:, None]) + rng.normal(0, 0.008, (count, CLASSES)), 0, 1)
    both = np.stack([np.clip(class_accuracy + 0.02, 0, 1), class_accuracy], axis=1)
    eigenvalues = _eigenvalues(rng, l2, alive, k)
    share = _shares(rng, alive, k)
    pi = 1 / CLASSES
    curvature = share * eigenvalues[:, :, None] / pi
    norms = (0.05 + 6 * l2 * np.exp(-l2 / 0.03))[:, None] * rng.uniform(0.5, 2, CLASSES)
    rows = 900
    hits = (rows * both).round().astype(int)
    others = 1 - np.eye(CLASSES, dtype=int)
    confusion = ((rows - hits) // (CLASSES - 1))[..., None] * others  # misses are spread evenly over all other classes
    confusion = confusion + (rows - confusion.sum(-1))[..., None] * np.eye(CLASSES, dtype=int)
    mu = np.array(density_grid())
    return {
        "loss": 2.3 * (1.05 - both.mean(-1)),
        "accuracy": both.mean(-1),
        "class_accuracy": both,
        "confusion": confusion,
        "eigenvalues": eigenvalues,
        **_lowest(l2),
        "block_eigenvalues": eigenvalues[:, None, :2] * np.array([0.5, 0.8])[:, None],
        "block_trace": eigenvalues[:, :1] * np.array([3.0, 5.0]),
        "eigenvectors": _vectors(rng, l2, k, size),
        "class_curvature": np.stack([curvature, curvature * 1.1], axis=2),
        "class_slope": rng.normal(0, 0.1, (count, k, 2, CLASSES)),
        "class_response": -np.clip(share[:, :, None] * rng.uniform(0.2, 1.6, (1, k, 2, CLASSES)), -0.1, 1),
        "eigenvalue_bound": np.abs(eigenvalues).min(1),
        "class_gradient_cosine": np.broadcast_to(np.eye(CLASSES), (count, 2, CLASSES, CLASSES)),
        "weights_norm": 40 * np.exp(-l2 / 0.03),
        "gradient_norm": np.stack([norms.mean(1), norms.mean(1) * 1.2], axis=1),
        "class_gradient_norm": np.stack([norms, norms * 1.2], axis=1),
        "gradient_share": np.stack([0.3 + 0.6 * alive.mean(1), 0.25 + 0.6 * alive.mean(1)], axis=1),
        "weights_share": 0.05 + 0.2 * (1 - alive.mean(1)),
        "stationarity": 0.02 + np.exp(-l2 / 0.01) + 0.01 * rng.random(count),
        "density": _density(mu, eigenvalues),
    }


def _lowest(l2: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return two lowest eigenvalues at each grid point, and a bound that excludes more negative ones at large λ."""
    values = np.minimum.accumulate([-0.02 * np.exp(-l2 / 0.01), 0 * l2]).T - 1e-3
    return {
        "lowest_eigenvalues": values,
        "lowest_residual_norm": np.full(values.shape, 1e-6),
        "lowest_bound": values[:, 1] - 0.01,
    }


def _order(rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the order in which classes are lost on the way up."""
    return np.random.default_rng(5).permutation(CLASSES)


def _eigenvalues(
    rng: np.random.Generator, l2: NDArray[np.float64], alive: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    count = l2.size
    top = (1 + 40 * l2[:, None] * np.exp(-l2[:, None] / 0.05)) * np.linspace(3, 1.2, CLASSES - 1)
    bulk = 0.35 * np.exp(-0.08 * np.arange(max(k - CLASSES + 1, 0))) * (0.02 + alive.mean(1))[:, None]
    bulk = bulk * rng.choice([1, 1, 1, -1], bulk.shape)
    values = np.concatenate([top, bulk], axis=1)[:, :k] * rng.normal(1, 0.02, (count, k))
    return np.take_along_axis(values, np.abs(values).argsort(axis=1)[:, ::-1], axis=1)


def _shares(rng: np.random.Generator, alive: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return shares (grid point, mode, class) that sum to 1 and are negative in part."""
    bumps = np.exp(-0.5 * ((np.arange(CLASSES) - np.arange(k)[:, None]) % CLASSES / 1.4) ** 2)
    raw = bumps * (0.2 + alive[:, None, :]) + rng.normal(0, 0.05, (len(alive), k, CLASSES))
    shares: NDArray[np.float64] = raw / raw.sum(-1, keepdims=True)
    return shares


def _vectors(rng: np.random.Generator, l2: NDArray[np.float64], k: int, size: int) -> NDArray[np.float32]:
    """Return bases that turn slowly, except for two jumps."""
    first, second, third = random_bases(3, k, size, seed=2)
    angle = np.where(l2 > 0.025, 0.9, 0.0) + np.where(l2 > 0.055, 0.5, 0.0) + 4 * l2
    mixed = np.cos(angle)[:, None, None] * first + np.sin(angle)[:, None, None] * second + 0.1 * third
    mixed = mixed + rng.normal(0, 0.01, mixed.shape)
    return np.linalg.qr(mixed.swapaxes(1, 2))[0].swapaxes(1, 2).astype(np.float32)


def _density(mu: NDArray[np.float64], eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Gaussians in asinh(μ/s) at zero and at the eigenvalues."""
    s, width = 1e-3, 0.1
    grid, jacobian = np.arcsinh(mu / s), 1 / np.hypot(mu, s)
    nodes = np.concatenate([np.zeros((len(eigenvalues), 1)), np.arcsinh(eigenvalues / s)], axis=1)
    weights = np.array([0.99, *np.full(eigenvalues.shape[1], 0.01 / eigenvalues.shape[1])])
    bells = np.exp(-0.5 * ((grid - nodes[..., None]) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    density: NDArray[np.float64] = (weights[:, None] * bells).sum(1) * jacobian
    return density
