"""The class geometry of a grid point: how eigenvectors, gradients and curvature relate to the single classes.

Along each eigenvector these are the slope and the curvature of the loss of each class, and the response of its accuracy
to a step. In addition there are norms of gradients and their shares within the span of the eigenvectors, the trace and
the density of H, and the scalar curvatures of the graphs of the objective and of E. The definitions are in
docs/class-geometry.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from hesstore import linalg
from hesstore.curvature import (
    ClassLosses,
    DenseLayers,
    Derivatives,
    LossLines,
    hessian_trace,
    line_bytes,
    scalar_curvature,
)
from hesstore.linalg.long_sums import inner_products
from hesstore.linalg.moments import moments_steps
from hesstore.linalg.product_steps import with_products, with_products_of_each
from hesstore.measure.class_response import Steps, find_steps
from hesstore.measure.layer_blocks import layer_blocks
from hesstore.store.parameter_coordinates import layer_of
from hesstore.store.schema import DENSITY_SCALE, LONGEST_STEP, SIGNS, density_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.config import SweepConfig
    from hesstore.linalg import EigenPairs, OperatorStack, SymmetricOperator
    from hesstore.linalg.product_steps import ProductSteps
    from hesstore.problem.models import FlatModel
    from hesstore.problem.seeds import Purpose
    from hesstore.problem.training_data import ClassificationData

Values = dict[str, "NDArray[np.float64] | float"]
"""Values of the store's variables at one grid point, by name."""


LINE_BYTES = 2**29
"""The memory for what is kept of each row along the eigenvectors; those that do not fit are computed later."""


class GridPointInputs(NamedTuple):
    """The results at a grid point from which its class geometry is computed.

    Attributes
    ----------
    theta : Tensor
        (P,) the weights.
    displacement : Tensor
        (P,) the weights minus the centre of the penalty, which is 0 by default.
    shift : float
        2cλ, by which the penalty shifts the eigenvalues.
    gradient : Tensor
        (P,) ∇E over the training set.
    pairs : EigenPairs
        The eigenpairs of H.
    hessian : callable
        Returns H at ``theta``. It is called only if the config asks for further products.
    generator : callable
        Returns the random numbers for a purpose.
    """

    theta: Tensor
    displacement: Tensor
    shift: float
    gradient: Tensor
    pairs: EigenPairs
    hessian: Callable[[], SymmetricOperator]
    generator: Callable[[Purpose], torch.Generator]


def probes_used(config: SweepConfig, *, exact_trace: bool) -> int:
    """The number of probes that are used: a quarter of the setting, but at least four of them, if the trace is exact.

    Then only the Frobenius norm is estimated, and the known eigenpairs contribute most of it.
    """
    return min(config.probes, max(4, config.probes // 4)) if exact_trace else config.probes


@dataclass(frozen=True)
class ClassGeometry:
    """Computes the class geometry of grid points.

    Parameters
    ----------
    config : SweepConfig
        The settings, which say what is computed.
    model : FlatModel
        The network.
    data : ClassificationData
        All rows of both splits.
    rows : (Tensor, Tensor)
        Inputs and labels of the training rows over which H is taken; the config may restrict them.
    chunk_rows : int
        Maximum number of rows per pass through the network.
    """

    config: SweepConfig
    model: FlatModel
    data: ClassificationData
    rows: tuple[Tensor, Tensor]
    chunk_rows: int

    def at(self, inputs: GridPointInputs) -> Values:
        """The values of the variables of the class geometry at one grid point that the config asks for.

        Raises
        ------
        FloatingPointError
            If a product with H is NaN or infinite.
        """
        (found,) = self.at_each([inputs])
        if isinstance(found, FloatingPointError):
            raise found
        return found

    def at_each(
        self, inputs: Sequence[GridPointInputs], hessians: Callable[[Tensor], OperatorStack] | None = None
    ) -> list[Values | FloatingPointError]:
        """The same at several grid points, which share passes through the network and products with H.

        Parameters
        ----------
        inputs : sequence of GridPointInputs
            The results at each grid point.
        hessians : callable, optional
            Returns H at each of the weights (G, P). Without it, products are not shared.

        Returns
        -------
        list
            The values at each grid point, or the error if a product with H was NaN or infinite.
        """
        found: list[Values | FloatingPointError] = []
        together = self._points_together(inputs)
        for first in range(0, len(inputs), together):
            group = inputs[first : first + together]
            curvatures: Sequence[Values | FloatingPointError | None] = [None] * len(group)
            if len(group) > 1 and hessians is not None and self.config.probes:
                steps = [self._curvature(each) for each in group]
                curvatures = with_products_of_each(steps, hessians(torch.stack([each.theta for each in group])))
            found += map(self._complete, group, self._directions(group), curvatures)
        return found

    def _complete(
        self, inputs: GridPointInputs, directions: Values, curvature: Values | FloatingPointError | None
    ) -> Values | FloatingPointError:
        """All values at one grid point, or the error; ``curvature`` has those of :meth:`_curvature`, if known."""
        own = inputs._replace(hessian=cache(inputs.hessian))  # its memory is freed before that of the next one is taken
        try:
            if curvature is None:
                curvature = with_products(self._curvature(own), lambda v: own.hessian().matvec(v))
            if isinstance(curvature, FloatingPointError):
                return curvature
            return {**directions, **self._gradients(own), **curvature, **self._density(own), **self._blocks(own)}
        except FloatingPointError as error:
            return error.with_traceback(None)  # which would keep H

    @property
    def _is_of_ggn(self) -> bool:
        """Whether the eigenpairs are those of G, and so are curvatures, trace and density."""
        return self.config.operator == "ggn"

    # -- along each eigenvector ---------------------------------------------------------------------------

    @cached_property
    def _hessian_losses(self) -> tuple[ClassLosses, ClassLosses]:
        """The losses by class of the rows over which H is taken, and of the test rows."""
        train = ClassLosses(
            self.model, *self.rows, self.data.num_classes, self.chunk_rows, gauss_newton=self._is_of_ggn
        )
        return train, replace(train, x=self.data.test.x, y=self.data.test.y)

    @property
    def training_losses(self) -> ClassLosses:
        """The losses by class of the rows over which H is taken; they hold the programs that grid points share."""
        return self._hessian_losses[0]

    @cached_property
    def _split_losses(self) -> tuple[ClassLosses, ClassLosses]:
        """The losses by class of all training rows, and of the test rows."""
        train, test = self._hessian_losses
        has_all_rows = self.rows[0] is self.data.train.x
        return train if has_all_rows else replace(train, x=self.data.train.x, y=self.data.train.y), test

    def _points_together(self, inputs: Sequence[GridPointInputs]) -> int:
        """The number of grid points that share passes and products; 1 if the rows of a single one fill a pass."""
        train, test = self._hessian_losses
        most = train.lines_together(max(len(train.y), len(test.y)))
        if len(inputs) == 1 or most == 1:
            return 1
        lines = max(1, len(inputs[0].pairs.eigenvectors))
        return max(1, min(most, LINE_BYTES // line_bytes(train, inputs[0].theta) // lines))

    def _directions(self, group: Sequence[GridPointInputs]) -> list[Values]:
        """Slopes, curvatures and responses by class along each eigenvector, of each of some grid points."""
        theta, vectors = (
            parts[0] if len(group) == 1 else torch.stack(parts)
            for parts in ([each.theta for each in group], [each.pairs.eigenvectors for each in group])
        )
        train, test = self._hessian_losses
        responses: dict[str, Tensor] = {}
        if self.config.response:
            of_lines, steps, rises = self._steps(group, theta, vectors)
            signed = steps.signed.view(*vectors.shape[:-1], len(SIGNS))
            test_derivatives, changes = test.along_with_accuracies(theta, vectors, signed)
            responses = {
                "class_response": changes.flatten(0, -3),
                "response_step": steps.length,
                "predicted_rise": steps.predicted,
                "measured_rise": rises,
            }
        else:
            of_lines, test_derivatives = (losses.along(theta, vectors) for losses in (train, test))
        both = zip(of_lines, test_derivatives, strict=True)
        slopes, curvatures = (torch.stack([part.flatten(0, -2) for part in parts], 1) for parts in both)
        found = {"class_slope": slopes, "class_curvature": curvatures, **responses}  # one line after the other
        arrays = {name: np.split(_numpy(values), len(group)) for name, values in found.items()}
        means = _mean_of_classes(curvatures[:, 0], train.shares).cpu().chunk(len(group))
        return [
            {name: values[place] for name, values in arrays.items()}
            | {"class_identity_error": _identity_error(mean, each.pairs.eigenvalues)}
            for place, (each, mean) in enumerate(zip(group, means, strict=True))
        ]

    def _steps(
        self, group: Sequence[GridPointInputs], theta: Tensor, vectors: Tensor
    ) -> tuple[Derivatives, Steps, Tensor]:
        """The derivatives by class along each eigenvector, the steps along ± it, and the measured rises (m, 2).

        The eigenvectors of several grid points are counted through. Those of a single one are computed for as many
        together as fit in :data:`LINE_BYTES`.
        """
        train, _ = self._hessian_losses
        eigenvalues = torch.cat([each.pairs.eigenvalues for each in group])
        longest = torch.tensor([LONGEST_STEP * _norm(each.theta) for each in group], dtype=torch.float64)
        parts = [(vectors, eigenvalues)]
        if len(group) == 1:
            count = max(1, LINE_BYTES // line_bytes(train, theta))
            parts = list(zip(torch.split(vectors, count), torch.split(eigenvalues, count), strict=True))
        found = []
        for some, values in parts:
            lines = LossLines(train, theta, some)
            slope, curvature = lines.derivatives
            steps, measured = find_steps(
                lines,
                _mean_of_classes(slope, train.shares),
                values,
                self.config.response,
                longest.repeat_interleave(len(values) // len(group)),
            )
            found.append((slope, curvature, *steps, measured))
        slope, curvature, length, predicted, measured = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Derivatives(slope, curvature), Steps(length, predicted), measured

    # -- gradients ----------------------------------------------------------------------------------------

    def _gradients(self, inputs: GridPointInputs) -> Values:
        """Norms and cosines of gradients, and their shares within the span of the eigenvectors.

        The gradients are those of all training rows and of the test rows, as a whole and by class.
        """
        theta, slope = inputs.theta, inputs.gradient
        lengths: list[Tensor] = []
        components: list[Tensor] = []
        cosines: list[Tensor] = []

        def collect(vectors: Tensor) -> Tensor:
            norm, units = _lengths_and_units(vectors)
            lengths.append(norm)
            components.append(inner_products(units, inputs.pairs.eigenvectors))
            return units

        for losses in self._split_losses:  # one after the other: a gradient for each class takes much memory
            gradients = losses.gradients(theta)
            if losses is self._split_losses[1]:  # the training gradient is an input
                test_gradient = _mean_of_classes(gradients.T, losses.shares.to(theta.dtype))
            units = collect(gradients)
            cosines.append(inner_products(units, units))
        objective = slope + inputs.shift * inputs.displacement
        collect(torch.stack([slope, test_gradient, theta, objective]))
        norms = _numpy(torch.cat(lengths))
        within = _numpy(_shares_of_span(torch.cat(components), inputs.pairs))
        classes = 2, self.data.num_classes
        gradient_norm, test_norm, _, objective_norm = norms[-4:]
        return {
            "gradient_norm": np.array([gradient_norm, test_norm]),
            "gradient_share": within[-4:-2],
            "weights_share": float(within[-2]),
            "stationarity": float(objective_norm / gradient_norm) if gradient_norm else math.nan,
            "class_gradient_norm": norms[:-4].reshape(classes),
            "class_gradient_share": within[:-4].reshape(classes),
            "class_gradient_cosine": _numpy(torch.stack(cosines)).clip(-1, 1),
        }

    # -- the whole spectrum -------------------------------------------------------------------------------

    @cached_property
    def _dense_layers(self) -> DenseLayers | None:
        """The layers of the network if the trace of H can be computed exactly."""
        return DenseLayers.of(self.model, self.rows[0][:8])

    def _exact_trace(self, theta: Tensor) -> float | None:
        layers = None if self._is_of_ggn else self._dense_layers
        return (
            None
            if layers is None
            else hessian_trace(layers, self.model, theta, *self.rows, max(1, self.chunk_rows // 4))
        )

    def _curvature(self, inputs: GridPointInputs) -> ProductSteps[Values]:
        """The trace and the Frobenius norm of H, and the scalar curvature, with their errors."""
        if not self.config.probes:
            return {}
        trace = self._exact_trace(inputs.theta)
        probes = probes_used(self.config, exact_trace=trace is not None)
        moments = yield from moments_steps(inputs.pairs, probes, inputs.generator("trace"), trace)
        estimates: Values = {
            "trace": moments.trace,
            "trace_error": moments.trace_error,
            "frobenius_norm": moments.frobenius_norm,
            "frobenius_norm_error": moments.frobenius_norm_error,
        }
        if self._is_of_ggn:  # the scalar curvature of a graph follows from its Hessian
            return estimates
        objective = inputs.gradient + inputs.shift * inputs.displacement
        scalar = scalar_curvature(moments, objective, (yield objective), inputs.shift)
        of_loss = scalar_curvature(moments, inputs.gradient, (yield inputs.gradient))
        return {
            **estimates,
            "scalar_curvature": scalar.value,
            "scalar_curvature_error": scalar.error,
            "loss_scalar_curvature": of_loss.value,
            "loss_scalar_curvature_error": of_loss.error,
        }

    def _density(self, inputs: GridPointInputs) -> Values:
        """The spectral density of H on the grid of the coordinate ``mu``, with its error."""
        config = self.config
        if not config.density:
            return {}
        density = linalg.spectral_density(
            inputs.hessian(),
            inputs.pairs,
            torch.tensor(density_grid(), dtype=torch.float64),
            linalg.Kernel(config.density_width, DENSITY_SCALE),
            probes=config.density_probes,
            steps=config.density_steps,
            generator=inputs.generator("density"),
        )
        return {"density": density.values.numpy(), "density_error": density.errors.numpy()}

    # -- diagonal blocks ----------------------------------------------------------------------------------

    @cached_property
    def rows_of_layers(self) -> list[Tensor]:
        """The indices of the parameters of each layer."""
        layout, first = self.model.layout, 0
        found: dict[str, list[Tensor]] = {}
        for name, size in zip(layout.names, layout.sizes, strict=True):
            found.setdefault(layer_of(name), []).append(torch.arange(first, first + size))
            first += size
        return [torch.cat(parts).to(self.rows[0].device) for parts in found.values()]

    def _blocks(self, inputs: GridPointInputs) -> Values:
        """The eigenvalues and traces of the diagonal blocks of H by layer."""
        if self.config.blocks == "none":
            return {}
        return {**layer_blocks(inputs.hessian(), self.rows_of_layers, self.config, inputs.generator("blocks"))}


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.to("cpu", torch.float64).numpy()


def _mean_of_classes(values: Tensor, shares: Tensor) -> Tensor:
    """The mean (…) of values (…, C) of the classes, by the share (C,) of each; a class without rows has none."""
    return torch.where(shares > 0, values, 0.0) @ shares


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def _lengths_and_units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The lengths (n,) of vectors (n, P) in float64, and the vectors scaled in place to length 1; NaN if they are 0."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return lengths, vectors.div_(lengths.to(vectors.dtype)[:, None])


def _identity_error(curvature: Tensor, eigenvalues: Tensor) -> float:
    """The largest |Σ_c π_c vᵀH_c v − μ| over |μ₁|, among the eigenvalues that were found."""
    found = eigenvalues.isfinite()
    deviation = (curvature[found] - eigenvalues[found]).abs().max()
    scale = eigenvalues[found].abs().max()
    return float(deviation / scale) if scale else float(deviation)


def _shares_of_span(components: Tensor, pairs: EigenPairs) -> Tensor:
    """(n,) the shares ‖V u‖² of n unit vectors u, from all V u (n, k); without pairs that were not found."""
    found = pairs.eigenvalues.isfinite().to(components.device)
    return torch.where(found, components.to(torch.float64), 0.0).square().sum(1)
