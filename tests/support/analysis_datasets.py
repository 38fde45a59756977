"""Small Datasets with the layout of a store and known content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hesstore.config.l2_grid import AXIS
from hesstore.store.schema import BY_NAME, COORDINATE_ATTRS, SIGNS, SPLITS, Status

Runs = Sequence[tuple[int, str]]
"""Seed and direction of each run."""
ONE_RUN: Runs = ((0, "up"),)


def dataset(l2: ArrayLike, values: Mapping[str, ArrayLike], runs: Runs = ONE_RUN) -> xr.Dataset:
    """Return a store with these variables, which have all their dimensions; without a status everything is complete."""
    grid = np.asarray(l2, dtype=np.float64)
    status = np.full((len(runs), grid.size), Status.COMPLETE, np.int8)
    entries = {name: np.asarray(array) for name, array in {"status": status, **values}.items()}
    ds = xr.Dataset({name: _variable(name, array) for name, array in entries.items()})
    coords = {
        **{str(dim): (AXIS, grid) if dim == AXIS else _index(str(dim), size) for dim, size in ds.sizes.items()},
        "seed": ("run", [seed for seed, _ in runs]),
        "direction": ("run", np.array([direction for _, direction in runs], dtype=object)),
    }
    ds = ds.assign_coords({name: coord for name, coord in coords.items() if name != "param"})
    for name in ds.coords:
        ds[name].attrs.update(COORDINATE_ATTRS[str(name)])
    return ds


def _variable(name: str, array: NDArray[np.generic]) -> xr.Variable:
    known = BY_NAME[name]
    return xr.Variable(known.dims, array.astype(known.dtype), known.attributes)


def _index(dim: str, size: int) -> tuple[str, NDArray[np.generic]]:
    blocks = np.array([f"fc{number}" for number in range(1, size + 1)], dtype=object)
    known = {"split": np.array(SPLITS, dtype=object), "sign": np.array(SIGNS), "block": blocks}
    return dim, known.get(dim, np.arange(size))


def spectra(
    vectors: ArrayLike,
    eigenvalues: ArrayLike | None = None,
    status: Sequence[int] | None = None,
    l2: Sequence[float] | None = None,
) -> xr.Dataset:
    """Return a store of one run with eigenvectors (n, k, P) at n grid points."""
    rows = np.asarray(vectors, dtype=np.float32)
    count, k, size = rows.shape
    mu = np.where(np.isnan(rows[..., 0]), np.nan, np.arange(k, 0, -1.0)) if eigenvalues is None else eigenvalues
    values: dict[str, ArrayLike] = {"eigenvectors": rows[None], "eigenvalues": np.asarray(mu)[None]}
    if status is not None:
        values["status"] = np.array([status])
    ds = dataset(0.001 * np.arange(count) if l2 is None else l2, values)
    layers = np.array(["fc1"] * (size - size // 3) + ["fc2"] * (size // 3), dtype=object)
    return ds.assign_coords(layer=("param", layers))


def random_bases(count: int, k: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    """Return (count, k, size) with orthonormal rows."""
    normal = np.random.default_rng(seed).standard_normal((count, size, k))
    return np.linalg.qr(normal)[0].transpose(0, 2, 1).astype(np.float32)


def accuracies(l2: ArrayLike, curves: ArrayLike, runs: Runs = ONE_RUN, status: ArrayLike | None = None) -> xr.Dataset:
    """Return a store with test accuracies (n, classes) of each run; those of the split train are all 1."""
    test = np.asarray(curves, dtype=np.float64)
    values: dict[str, ArrayLike] = {"class_accuracy": np.stack([np.ones_like(test), test], axis=2)}
    if status is not None:
        values["status"] = status
    return dataset(l2, values, runs)


def curves(*classes: Sequence[float]) -> NDArray[np.float64]:
    """Return the curves along λ of some classes as (n, classes)."""
    return np.array(classes).T


def runs_with_onsets(l2: Sequence[float], onsets: Sequence[float], direction: str = "up") -> xr.Dataset:
    """Two classes, of which one is known up to the onset of each run, the other never."""
    up_to = [np.where(np.array(l2) <= onset, 0.9, 0.1) for onset in onsets]
    runs = [(seed, direction) for seed in range(len(onsets))]
    return accuracies(l2, [np.stack([curve, 0 * curve], 1) for curve in up_to], runs)


def counted(l2: Sequence[float], *matrices: ArrayLike, runs: int = 1) -> xr.Dataset:
    """Confusion counts of the split test, one matrix per grid point; on the split train nothing is confused."""
    test = np.array(matrices)
    train = np.broadcast_to(np.diag(test[0].sum(1)), test.shape)
    counts = np.stack([train, test], axis=1)[None].repeat(runs, 0)
    return dataset(l2[: len(test)], {"confusion": counts}, [(seed, "up") for seed in range(runs)])


class Classes:
    """Class losses with random gradients and Hessians, and the corresponding store.

    Class ``empty`` has no rows in the split test.
    """

    def __init__(self, count: int = 5, k: int = 4, size: int = 12, empty: int = 2) -> None:
        rng = np.random.default_rng(3)
        self.rows = np.array([[5, 20, 8, 7], [3, 9, 4, 2]])
        self.rows[1, empty] = 0
        self.shares = self.rows / self.rows.sum(1, keepdims=True)
        half = rng.standard_normal((count, 2, 4, size, size))
        self.hessians = half + half.swapaxes(-1, -2)  # (λ, split, class, P, P)
        self.gradients = rng.standard_normal((count, 2, 4, size))
        self.hessian = np.einsum("c,lcpq->lpq", self.shares[0], self.hessians[:, 0])
        mu, v = np.linalg.eigh(self.hessian)
        order = np.abs(mu).argsort(axis=1)[:, ::-1][:, :k]
        self.eigenvalues = np.take_along_axis(mu, order, 1)
        self.vectors = np.take_along_axis(v, order[:, None, :], 2).swapaxes(1, 2)
        self.response = rng.uniform(-1, 0, (count, k, 2, 4))
        self.ds = self._dataset(empty)

    def _dataset(self, empty: int) -> xr.Dataset:
        curvature = np.einsum("lkp,lscpq,lkq->lksc", self.vectors, self.hessians, self.vectors)
        slope = np.einsum("lkp,lscp->lksc", self.vectors, self.gradients)
        curvature[..., 1, empty] = slope[..., 1, empty] = self.response[..., empty] = np.nan
        count = len(self.vectors)
        confusion = np.random.default_rng(1).multinomial(self.rows, [0.25] * 4, size=(count, 2, 4))
        confusion = np.broadcast_to(confusion, (count, 2, 4, 4))
        values = {
            "eigenvectors": self.vectors,
            "eigenvalues": self.eigenvalues,
            "class_curvature": curvature,
            "class_slope": slope,
            "class_response": self.response,
            "confusion": confusion,
        }
        return dataset(0.01 * np.arange(count), {name: array[None] for name, array in values.items()})
