"""Checks that a network has a usable Hessian, on a few rows of the data and before anything is written.

E(θ), a mean over rows, must be a function of θ alone. It must be twice differentiable in the two ways that a sweep
uses: forward over reverse mode for products with H, and forward over forward mode for classes along a direction.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hesstore.curvature import ClassLosses, FlatHessian
from hesstore.curvature.hessian import hessian_product
from hesstore.curvature.model_warnings import (
    KinkFinder,
    batch_norm_warning,
    dropout_warning,
    idle_parameter_warning,
    kink_warning,
    probability_warning,
)
from hesstore.curvature.row_chunks import first_rows
from hesstore.errors import ModelError, ModelWarning, first_line
from hesstore.linalg.long_sums import inner_products, lengths
from hesstore.problem.models import FlatModel, check_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hesstore.curvature.hessian import Kind, TangentPrograms
    from hesstore.problem.models import Inputs

ROWS = 32
"""Number of rows on which a network is checked, except for second derivatives if other rows are given for them."""

DIRECTIONS = 4
"""Number of directions along which second derivatives are compared."""

LARGE, FEW_DIRECTIONS = 2**20, 2
"""Number of parameters above which directions take long, and the number of directions for such a network."""

STEPS = (1e-3, 1e-4, 1e-5)
"""Steps along these directions, in units of a parameter, for comparing differences of the loss with its gradient.

The loss of ResNet-18 bends so much that only the smallest step is short enough for some directions.
"""

NOISE = 0.01
"""Standard deviation of the noise that is added to the initial weights.

Without it, a last layer that starts at zero would make many derivatives zero.
"""

_CHECKPOINTING = "which has no derivative in forward mode: switch off torch.utils.checkpoint"
_EMBEDDING_OPTIONS = {
    "max_norm": "which changes its weight in each call",
    "sparse": "whose gradient is a sparse tensor",
    "scale_grad_by_freq": "whose gradient is not the derivative",
}


def check_model(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Raise if a sweep can't use a network, and warn if its Hessian is less meaningful than it seems.

    Parameters
    ----------
    module : nn.Module
        The network; the check uses a copy of it in eval mode.
    x, y : Tensor
        Inputs (N, …) and labels (N,), such as a batch of the training set.

    Raises
    ------
    ModelError
        If E is not a function of the parameters alone, or can't be differentiated twice. The message says what to do.

    Warns
    -----
    ModelWarning
        If the network has kinks, batch norm, dropout, a softmax at its end, or parameters without effect.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
    >>> check_model(module, torch.randn(20, 4), torch.arange(20) % 3)
    """
    name = type(module).__name__
    duplicate = copy.deepcopy(module).train(mode=False)
    check_parameters(duplicate, name)
    issue_warnings(ModelCheck(FlatModel(duplicate), name, x, y).run())


def issue_warnings(messages: Sequence[str]) -> None:
    """Issue a :class:`~hesstore.errors.ModelWarning` for each message, at the caller of the calling function."""
    for message in messages:
        warnings.warn(message, ModelWarning, stacklevel=3)


def check_factory(make: Callable[[int], FlatModel], model: FlatModel, name: str, seed: int) -> None:
    """Raise unless ``make(seed)`` gives ``model`` again, and another seed gives the same buffers.

    Raises
    ------
    ModelError
        If initial weights or a buffer differ; the message names the buffer.
    """
    again, other = make(seed), make(seed + 1)
    if again.layout != model.layout or not torch.equal(again.theta(), model.theta()):
        raise ModelError(
            f"model: {name!r} has different initial weights each time it is made: draw them from PyTorch's global "
            "generator, which hesstore seeds before it calls the factory"
        )
    for buffer in model.buffers():
        if buffer not in again.buffers() or buffer not in other.buffers():
            raise ModelError(
                f"model: {name!r} has a different buffer {buffer[0]!r} each time it is made, and therefore a different "
                "E(θ): draw the buffer from a separate generator, torch.Generator().manual_seed(0)"
            )


@dataclass(frozen=True)
class ModelCheck:
    """The check of a network on rows of the data, which have its precision and are on its device.

    Parameters
    ----------
    model : FlatModel
        The network, in eval mode.
    name : str
        Its name in messages.
    x, y : Tensor
        Inputs and labels; the check uses the first rows.
    num_classes : int, optional
        The number of logits that it must return; by default any number.
    is_classifier : bool
        Whether the network must return logits (N, C), and be differentiable by class too. Otherwise its outputs must
        fit the targets ``y`` in its loss.
    most : int
        Maximum number of rows to use.
    chunk : (Tensor, Tensor), optional
        Other inputs and labels for the second derivatives of a classifier.
    programs : dict
        Gets the traced program of the products; see :class:`~hesstore.curvature.FlatHessian`. A sweep whose chunks have
        as many rows can use it.
    """

    model: FlatModel
    name: str
    x: Inputs
    y: Tensor
    num_classes: int | None = None
    is_classifier: bool = True
    most: int = ROWS
    chunk: tuple[Tensor, Tensor] | None = None
    programs: TangentPrograms = field(default_factory=dict)

    def run(self) -> list[str]:
        """Check the network and return the warnings about it, one line each.

        Raises
        ------
        ModelError
            If the network can't be used.
        """
        return self.warnings(self.check())

    def warnings(self, logits: Tensor) -> list[str]:
        """The warnings about the network, one line each; ``logits`` are its outputs."""
        idle, kinks = self._gradient_facts
        module = self.model.module
        messages = [
            dropout_warning(module),
            batch_norm_warning(module),
            probability_warning(logits),
            idle_parameter_warning(idle),
            kink_warning(kinks),
        ]
        return [f"model: {self.name!r} {message}" for message in messages if message]

    def check(self) -> Tensor:
        """Check the network, and return its outputs on the rows.

        Raises
        ------
        ModelError
            If the network can't be used.
        """
        if self.is_classifier:
            outputs = self.check_products()
            self.check_class_curvatures()
        else:
            outputs = self._check_gradient()
            self._check_double_backward()
        return outputs

    def check_products(self) -> Tensor:
        """Check a classifier except for :meth:`check_class_curvatures`, and return its outputs on the rows.

        Raises
        ------
        ModelError
            If the network can't be used.
        """
        outputs = self._check_gradient()
        _ = self._traced_forms
        return outputs

    def _check_gradient(self) -> Tensor:
        """Check everything but second derivatives, and return the outputs on the rows."""
        self._check_embeddings()
        outputs = self._check_function()
        _ = self._gradient_facts
        return outputs

    @property
    def kinks(self) -> list[str]:
        """The names of the operations with kinks that the network uses."""
        return self._gradient_facts[1]

    def _error(self, reason: str) -> ModelError:
        return ModelError(f"model: {self.name!r} {reason}")

    @cached_property
    def _rows(self) -> tuple[Inputs, Tensor]:
        return first_rows(self.x, self.most), self.y[: self.most]

    @cached_property
    def _theta(self) -> Tensor:
        theta = self.model.theta()
        noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        return theta + NOISE * noise.to(theta)

    @cached_property
    def _directions(self) -> Tensor:
        generator, size = torch.Generator().manual_seed(1), len(self._theta)
        count = DIRECTIONS if size <= LARGE else FEW_DIRECTIONS
        return torch.randn(count, size, generator=generator, dtype=torch.float32).to(self._theta)

    @cached_property
    def _classes(self) -> int:
        logits: Tensor = self._logits(first_rows(self._rows[0], 1))
        return logits.shape[1]

    @cached_property
    def _weight(self) -> float:
        return self.model.loss.weight(self._rows[1]) or 1.0

    def _check_embeddings(self) -> None:
        """Refuse the options of embeddings that change a weight, or its gradient into something else."""
        for part_name, part in self.model.module.named_modules():
            if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
                for option, reason in _EMBEDDING_OPTIONS.items():
                    if getattr(part, option):
                        raise self._error(
                            f"has the embedding {part_name!r} with {option}, {reason}: leave out {option}"
                        )

    # -- E is a function of θ alone --------------------------------------------------------------------------------

    def _logits(self, x: Inputs, theta: Tensor | None = None) -> Tensor:
        """The logits of ``x``, after a check of their type, shape and precision."""
        shape, dtype = _shape_and_type(x)
        try:
            with torch.no_grad():
                out: Any = self.model.logits(self._theta if theta is None else theta, x)
        except Exception as error:
            reason = first_line(error)
            parts = x if isinstance(x, tuple) else (x,)
            if "dtype" in reason and not any(part.is_floating_point() for part in parts):
                reason += ": integers stay integers: pass x.float() if they are values"
            elif "dtype" in reason or "device" in reason:
                reason += ": make its other tensors buffers, so that they get this precision and device too"
            raise self._error(f"fails on inputs {shape} in {dtype}: {reason}") from error
        rows = len(x[0] if isinstance(x, tuple) else x)
        given = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        if not isinstance(out, Tensor) or not self._fits(out, rows):
            wanted = f"logits ({rows}, {self.num_classes or 'classes'})" if self.is_classifier else f"{rows} outputs"
            raise self._error(f"maps {rows} inputs {shape[1:]} to {given}, not to {wanted}")
        if out.dtype != self._theta.dtype:
            raise self._error(
                f"returns logits in {_dtype_name(out.dtype)} for inputs and parameters in "
                f"{_dtype_name(self._theta.dtype)}"
            )
        return out

    def _fits(self, outputs: Tensor, rows: int) -> bool:
        """Whether the outputs have a row for each input; of a classifier, also whether they are logits."""
        if not self.is_classifier:
            return outputs.dim() > 0 and len(outputs) == rows
        return outputs.dim() == 2 and len(outputs) == rows and self.num_classes in {None, outputs.shape[1]}

    def _check_function(self) -> Tensor:
        """Check that the logits are a function of θ and of their own row alone, and return them."""
        x, y = self._rows
        before = {name: buffer.clone() for name, buffer in self.model.module.named_buffers()}
        logits = self._logits(x)
        for name, buffer in self.model.module.named_buffers():
            if name not in before or not torch.equal(buffer, before[name]):
                raise self._error(
                    f"changes its buffer {name!r} when it is called: E(θ) must be a function of θ alone: do not change "
                    "the buffer in eval mode"
                )
        if not bool(torch.isfinite(logits).all()):
            raise self._error(f"returns logits that are NaN or infinite on {len(y)} rows of the data: scale the inputs")
        if _differ(self._logits(x), logits, 0 if logits.device.type == "cpu" else 1e-4):
            raise self._error(
                "returns different outputs for the same input: E(θ) must be a function of θ alone: remove random "
                "operations (functional dropout needs training=self.training; nn.Dropout has no effect here)"
            )
        half = max(1, len(y) // 2)
        if _differ(self._logits(first_rows(x, half)), logits[:half], 1e-2):
            raise self._error(
                "returns logits of a row that depend on the other rows: E(θ) must be a mean over rows: remove "
                "operations that mix rows, such as batch norm with track_running_stats=False"
            )
        return logits

    # -- derivatives ------------------------------------------------------------------------------------------

    @cached_property
    def _gradient_facts(self) -> tuple[list[str], list[str]]:
        """Check the gradient; return the parameters that do not change the loss, and the operations with kinks."""
        x, y = self._rows
        parameters = {
            name: part.clone().requires_grad_() for name, part in self.model.layout.unflatten(self._theta).items()
        }
        finder = KinkFinder()
        try:
            with finder:
                loss = self.model.loss.sum(self.model.call(parameters, x), y) / self._weight
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        except Exception as error:
            if "torch.utils.checkpoint" in str(error):
                raise self._error(f"uses activation checkpointing, {_CHECKPOINTING}") from error
            raise self._error(
                "has no gradient: an operation between its parameters and its logits, such as argmax, cuts it off: "
                f"remove it ({first_line(error)})"
            ) from error
        filled = [
            torch.zeros_like(part) if gradient is None else gradient
            for part, gradient in zip(parameters.values(), gradients, strict=True)
        ]
        idle = []
        for name, gradient in zip(parameters, filled, strict=True):
            if not bool(gradient.any()):
                idle.append(name)
            elif not bool(torch.isfinite(gradient).all()):
                raise self._error(
                    f"has a gradient that is NaN or infinite in {name!r} on {len(y)} rows of the data: use an "
                    "operation that is differentiable there"
                )
        if len(idle) == len(parameters):
            raise self._error(
                "has a gradient of zero in every parameter: remove what cuts it off, such as rounding or argmax"
            )
        self._check_differences(torch.cat([gradient.reshape(-1) for gradient in filled]))
        return idle, finder.found

    def _check_differences(self, gradient: Tensor) -> None:
        """Compare the gradient with differences of the loss; coarsely, because of rounding and possible kinks."""
        x, y = self._rows
        targets = y.to(torch.float64) if y.is_floating_point() else y
        expected = inner_products(self._directions, gradient).to(torch.float64)

        def loss(theta: Tensor) -> Tensor:
            return self.model.loss.sum(self._logits(x, theta).to(torch.float64), targets) / self._weight

        for step in STEPS:
            found = torch.stack([loss(self._theta + step * v) - loss(self._theta - step * v) for v in self._directions])
            # The mean square of the slopes along random directions is that of the gradient.
            scale = torch.maximum(expected.abs().max(), lengths(gradient))
            if bool(((found / (2 * step) - expected).abs() <= 0.25 * scale).all()):
                return
        raise self._error(
            "has a gradient that is not the slope of its loss: between parameters and logits there is an operation "
            "such as rounding or argmax, a detach(), or a custom backward that is not the derivative: remove it"
        )

    @property
    def _tolerance(self) -> float:
        """The largest relative difference of second derivatives that are equal except for rounding."""
        return float(3 * torch.finfo(self._theta.dtype).eps ** 0.5)

    def _curvature_forms(self, multiply: Callable[[Tensor], Tensor]) -> Tensor:
        """uᵀHv for all pairs of directions, by products with H in forward over reverse mode."""
        _, y = self._rows
        directions = self._directions
        try:
            products = multiply(directions)
        except Exception as error:
            raise self._forward_mode_error(error) from error
        forms = inner_products(directions, products).to(torch.float64)
        if not bool(torch.isfinite(forms).all()):
            raise self._error(
                f"has a second derivative that is NaN or infinite on {len(y)} rows of the data: use an operation that "
                "is twice differentiable there"
            )
        if _differ(forms, forms.T, self._tolerance):
            raise self._error(f"has a Hessian that is not symmetric: {self._asymmetry()}")
        return forms

    def _asymmetry(self) -> str:
        """The most probable cause of a Hessian that is not symmetric, and what to do."""
        parts = self.model.module.named_modules()
        for name, part in parts:
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                return (
                    f"the embedding {name!r} has padding_idx={part.padding_idx}, whose vector has no gradient in "
                    "reverse mode, but one in forward mode: leave out padding_idx, or multiply the output by a mask"
                )
        return (
            "a custom operation has a backward or jvp that is not its derivative, or a hook changes a gradient: "
            "correct it"
        )

    @property
    def _chunk(self) -> tuple[Any, Tensor]:
        """The rows for the second derivatives of a classifier, whose inputs are one tensor."""
        return self._rows if self.chunk is None else self.chunk

    def _traced_products(self, directions: Tensor) -> Tensor:
        """H v for each direction, by the program that a sweep uses."""
        x, y = self._chunk
        operator = FlatHessian(self.model, x, y, chunk_rows=len(y), programs=self.programs).at(self._theta)
        return torch.stack([operator.matvec(v) for v in directions])

    def _defined_products(self, directions: Tensor) -> Tensor:
        """H v for each direction, by its definition, without a trace."""
        return torch.stack([hessian_product(self.model, self._theta, *self._rows, v) for v in directions])

    def _forward_mode_error(self, error: Exception) -> ModelError:
        reason = first_line(error)
        if "saved tensor hooks" in reason:
            return self._error(f"uses activation checkpointing, {_CHECKPOINTING}")
        return self._error(
            f"has no second derivative that PyTorch can compute in forward mode: {reason}: replace the operation by "
            "operations that have one"
        )

    def _check_double_backward(self) -> None:
        """Compare the products with those of double backward."""
        x, y = self._rows
        forms = self._curvature_forms(self._defined_products)
        theta = self._theta.clone().requires_grad_()
        try:
            loss = self.model.loss_sum(theta, x, y) / self._weight
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            slopes = self._directions @ gradient
            products = [
                torch.autograd.grad(slope, theta, retain_graph=True, materialize_grads=True)[0] for slope in slopes
            ]
        except Exception as error:
            raise self._error(
                f"has no second derivative that PyTorch can compute by double backward: {first_line(error)}: replace "
                "the operation by operations that have one"
            ) from error
        expected = inner_products(self._directions, torch.stack(products)).to(torch.float64)
        if _differ(forms, expected, self._tolerance):
            raise self._error(
                "has second derivatives that contradict each other in forward over reverse mode and by double "
                "backward: PyTorch's rule for one of its operations is wrong, or a part of it is detached: replace the "
                "operation by others"
            )

    @cached_property
    def _traced_forms(self) -> Tensor:
        """uᵀHv for all pairs of directions, by the program that a sweep uses."""
        return self._curvature_forms(self._traced_products)

    def check_class_curvatures(self, losses: ClassLosses | None = None) -> None:
        """Compare the second derivatives of a classifier by the two ways that a sweep uses.

        Parameters
        ----------
        losses : ClassLosses, optional
            The losses by class of any rows of the network: its programs are used, and get those that are missing.

        Raises
        ------
        ModelError
            If the derivatives differ, or can't be computed.
        """
        x, y = self._chunk
        forms = self._traced_forms
        losses = replace(losses or ClassLosses(self.model, x, y, self._classes, len(y)), x=x, y=y)
        try:
            by_class = losses.along(self._theta, self._directions).curvature
        except Exception as error:
            raise self._forward_mode_error(error) from error
        if _differ((by_class * losses.shares).nansum(1), forms.diagonal(), self._tolerance):
            raise self._error(
                "has second derivatives that contradict each other in forward over reverse and forward over forward "
                "mode: PyTorch's rule for one of its operations is wrong, as it is for nn.GRU, nn.LSTM and det: "
                "replace the operation by others"
            )


def check_stack(model: FlatModel, name: str, x: Tensor, y: Tensor, *, kind: Kind = "hessian") -> None:
    """Raise unless a network can be differentiated at several θ together, for products with H or G.

    Raises
    ------
    ModelError
        If it can't be computed, or if its Hessian products differ from those at one θ.
    """
    x, y, theta = x[:ROWS], y[:ROWS], model.theta()
    v, both = torch.ones_like(theta), theta.repeat(2, 1)
    hessian = FlatHessian(model, x, y, chunk_rows=2 * len(x), kind=kind)
    try:
        product = hessian.at_each(both).matvec(v.repeat(2, 1))[1]
        torch.vmap(model.logits, (0, None))(both, x)
    except Exception as error:
        raise ModelError(
            f"model: {name!r} can't be computed at several θ together: {first_line(error)}: pass --models 1"
        ) from error
    if _differ(product, hessian.at(theta).matvec(v), 3 * torch.finfo(x.dtype).eps ** 0.5):
        raise ModelError(f"model: {name!r} has a different Hessian at several θ together than at one: pass --models 1")


def _differ(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by more than ``tolerance`` times their largest entry."""
    return not bool((a - b).abs().max() <= tolerance * torch.maximum(a.abs().max(), b.abs().max()))


def _shape_and_type(x: Inputs) -> tuple[tuple[object, ...], str]:
    """The shape and the type of the inputs, for messages."""
    if not isinstance(x, tuple):
        return tuple(x.shape), _dtype_name(x.dtype)
    shapes = tuple(tuple(part.shape) for part in x)
    return (len(x[0]), *(shape[1:] for shape in shapes)), ", ".join(_dtype_name(part.dtype) for part in x)


def _dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype without ``torch.``."""
    return str(dtype).removeprefix("torch.")
