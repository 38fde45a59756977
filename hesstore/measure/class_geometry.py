"""What is recorded of the eigenvectors of one λ and the classes, beside the spectrum itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from hesstore import linalg
from hesstore.curvature import ClassLosses, scalar_curvature
from hesstore.measure import class_response
from hesstore.store.schema import DENSITY_SCALE, density_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.config import SweepConfig
    from hesstore.linalg import EigenPairs, SymmetricOperator
    from hesstore.problem.datasets import ClassificationData
    from hesstore.problem.models import FlatModel
    from hesstore.problem.seeds import Purpose

Values = dict[str, "NDArray[np.float64] | float"]


class GeometryInputs(NamedTuple):
    """One λ: weights (P,), 2cλ, ∇E over the training set (P,), eigenpairs of H, what makes H, random numbers."""

    theta: Tensor
    shift: float
    gradient: Tensor
    pairs: EigenPairs
    hessian: Callable[[], SymmetricOperator]
    generator: Callable[[Purpose], torch.Generator]


@dataclass(frozen=True)
class Geometry:
    """The class geometry of a sweep's λ.

    Parameters
    ----------
    config : SweepConfig
        What is asked for.
    model : FlatModel
        The network.
    data : ClassificationData
        All rows.
    rows : (Tensor, Tensor)
        The training rows that H is taken over, which the config may restrict.
    chunk_rows : int
        Most rows that pass through the network at once.
    """

    config: SweepConfig
    model: FlatModel
    data: ClassificationData
    rows: tuple[Tensor, Tensor]
    chunk_rows: int

    def at(self, site: GeometryInputs) -> Values:
        """Return the variables of the class geometry at one grid point that the config asks for.

        Raises
        ------
        FloatingPointError
            If a product with H is NaN or infinite.
        """
        return {
            **self._directions(site),
            **self._gradients(site),
            **self._curvature(site),
            **self._density(site),
        }

    # -- along each eigenvector ---------------------------------------------------------------------------

    @cached_property
    def _along(self) -> tuple[ClassLosses, ClassLosses]:
        """Of the rows that H is taken over, and of the test rows."""
        first = ClassLosses(self.model, *self.rows, self.data.num_classes, self.chunk_rows)
        return first, replace(first, x=self.data.test.x, y=self.data.test.y)

    @cached_property
    def _whole(self) -> tuple[ClassLosses, ClassLosses]:
        """Of all training rows, and all test rows."""
        whole = self.rows[0] is self.data.train.x
        first, test = self._along
        return first if whole else replace(first, x=self.data.train.x, y=self.data.train.y), test

    def _directions(self, site: GeometryInputs) -> Values:
        theta, pairs = site.theta, site.pairs
        found = [losses.along(theta, pairs.eigenvectors) for losses in self._along]
        shares = self._along[0].shares
        there = shares > 0  # a class without rows has no mean, and no share
        slope = found[0].slope[:, there] @ shares[there]
        curvature = (found[0].curvature[:, there] @ shares[there]).cpu()
        values: Values = {
            "class_slope": _numpy(torch.stack([each.slope for each in found], 1)),
            "class_curvature": _numpy(torch.stack([each.curvature for each in found], 1)),
            "class_identity_error": _identity_error(curvature, pairs.eigenvalues),
        }
        return {**values, **self._responses(site, slope)}

    def _responses(self, site: GeometryInputs, slope: Tensor) -> Values:
        theta, pairs, rise = site.theta, site.pairs, self.config.response
        if not rise:
            return {}
        longest = max(1.0, _norm(theta))
        steps = class_response.steps(slope, pairs.eigenvalues.to(slope.device), rise, longest)
        found = self._responder.respond(theta, pairs.eigenvectors, steps.length)
        return {
            "class_response": _numpy(found.accuracy),
            "response_step": _numpy(steps.length),
            "predicted_rise": _numpy(steps.predicted),
            "measured_rise": _numpy(found.rise),
        }

    @cached_property
    def _responder(self) -> class_response.Responder:
        return class_response.Responder(self.model, self.rows, self.data.test, self.data.num_classes, self.chunk_rows)

    # -- gradients ----------------------------------------------------------------------------------------

    def _gradients(self, site: GeometryInputs) -> Values:
        """Norms, cosines and shares within the span of the eigenvectors; of all training rows, and all test rows."""
        theta, classes = site.theta, self.data.num_classes
        by_class = [losses.gradients(theta) for losses in self._whole]
        shares = self._whole[1].shares
        there = shares > 0
        of_test = shares[there].to(theta.dtype) @ by_class[1][there]
        objective = site.gradient + site.shift * theta
        vectors = torch.stack([site.gradient, of_test, theta, objective, *by_class[0], *by_class[1]])
        norms, within = _norms_and_shares(vectors, site.pairs)
        cosines = np.stack([_cosines(rows) for rows in by_class])
        return {
            "gradient_norm": norms[:2],
            "gradient_share": within[:2],
            "weights_norm": float(norms[2]),
            "weights_share": float(within[2]),
            "stationarity": float(norms[3] / norms[0]) if norms[0] else math.nan,
            "class_gradient_norm": norms[4:].reshape(2, classes),
            "class_gradient_share": within[4:].reshape(2, classes),
            "class_gradient_cosine": cosines,
        }

    # -- curvature of the whole ---------------------------------------------------------------------------

    def _curvature(self, site: GeometryInputs) -> Values:
        if not self.config.probes:
            return {}
        operator = site.hessian()
        found = linalg.moments(operator, site.pairs, self.config.probes, site.generator("trace"))
        objective = site.gradient + site.shift * site.theta
        scalar = scalar_curvature(found, objective, operator.matvec(objective), site.shift)
        return {
            "trace": found.trace,
            "trace_error": found.trace_error,
            "frobenius_norm": found.frobenius_norm,
            "frobenius_norm_error": found.frobenius_norm_error,
            "scalar_curvature": scalar.value,
            "scalar_curvature_error": scalar.error,
        }

    def _density(self, site: GeometryInputs) -> Values:
        config = self.config
        if not config.density:
            return {}
        quadrature = linalg.lanczos_quadrature(
            site.hessian(),
            probes=config.density_probes,
            steps=config.density_steps,
            generator=site.generator("density"),
        )
        grid = torch.tensor(density_grid(), dtype=torch.float64)
        density = linalg.smoothed(quadrature, grid, width=config.density_width, scale=DENSITY_SCALE)
        return {"density": density.numpy()}


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.to("cpu", torch.float64).numpy()


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def _identity_error(curvature: Tensor, eigenvalues: Tensor) -> float:
    """Largest |Σ_c π_c vᵀH_c v − μ| over |μ₁|; of the eigenvalues that are there."""
    there = eigenvalues.isfinite()
    off = (curvature[there] - eigenvalues[there]).abs().max()
    scale = eigenvalues[there].abs().max()
    return float(off / scale) if scale else float(off)


def _norms_and_shares(vectors: Tensor, pairs: EigenPairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) each: ‖u‖, and ‖V u‖²/‖u‖² with the eigenvectors that are there; 0/0 is NaN."""
    basis = pairs.eigenvectors[pairs.eigenvalues.isfinite().to(vectors.device)]
    norms = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    units = vectors / norms.to(vectors.dtype)[:, None]  # squares of small vectors would underflow
    shares = (units @ basis.T).to(torch.float64).square().sum(1)
    return _numpy(norms), _numpy(shares)


def _cosines(rows: Tensor) -> NDArray[np.float64]:
    """(n, n) cosines between vectors; NaN for one of length zero, and for one that is not there."""
    units = torch.nn.functional.normalize(rows, dim=1, eps=0.0)
    return _numpy(units @ units.T).clip(-1, 1)
