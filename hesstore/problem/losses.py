"""Losses as sums over rows, divided by a number that depends on the targets alone.

PyTorch's losses with ``reduction="mean"`` are such quotients: cross-entropy divides by the number of targets that are
not ignored, or by the sum of their class weights; binary cross-entropy and the squared error divide by the number of
output values. The sums of several batches of rows add up, so that E(θ) is defined for a data set of any size, in
batches of any size:

    E(θ) = (1/W) Σₙ ℓ(f(θ, xₙ), yₙ)        W = Σₙ w(yₙ)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from hesstore.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("cross_entropy", "bce", "mse")
"""The losses that have a name."""


class Loss(Protocol):
    """A loss function of outputs and targets."""

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Return targets in the type that :meth:`sum` takes; ``dtype`` is that of the network."""
        ...

    def check(self, shape: tuple[int, ...], y: Tensor) -> str:
        """Return why outputs of the given shape do not fit the targets of the same rows; empty if they do."""
        ...

    def sum(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the sum Σₙ ℓ over all rows."""
        ...

    def weight(self, y: Tensor) -> float:
        """Return W, the number by which PyTorch's loss divides this sum."""
        ...


class LabelLoss(Loss, Protocol):
    """A loss of outputs (N, C) and class labels (N,), which is a mean over rows."""

    def rows(self, output: Tensor, y: Tensor) -> Tensor:
        """Return (N,) the loss ℓ of each row."""
        ...

    def mean_of(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the rows."""
        ...


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class CrossEntropy:
    """PyTorch's cross-entropy of logits (N, C, …).

    Targets are class indices (N, …) or probabilities (N, C, …). For class indices (N, d, …), the classes may also be
    the last axis (N, d, …, C) of the logits, as in language models.

    Attributes
    ----------
    label_smoothing : float
        The weight of the uniform distribution in the targets, from 0 to 1.
    ignore_index : int
        Targets with this value count neither in the sum nor in W.
    class_weights : Tensor, optional
        (C,) A factor for each class.
    mean : bool
        Whether the sum is divided by W, or by 1.
    """

    label_smoothing: float = 0.0
    ignore_index: int = -100
    class_weights: Tensor | None = None
    mean: bool = True

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Return class indices as int64, and probabilities in ``dtype``."""
        if y.is_complex() or y.dtype == torch.bool:
            raise DataError(f"y: {y.dtype} is neither class indices nor probabilities: pass integers")
        return y.to(dtype) if y.is_floating_point() else y.long()

    def check(self, shape: tuple[int, ...], y: Tensor) -> str:
        """Return why logits and targets do not fit together; empty if they do."""
        if len(shape) < 2:
            return f"returns {shape} for {len(y)} rows, but cross-entropy takes logits (N, classes, …)"
        if y.is_floating_point():
            if tuple(y.shape) == shape:
                return ""
            return (
                f"returns {shape}, which is not the shape of the targets {tuple(y.shape)}; floating-point "
                "targets of the cross-entropy are probabilities: pass integers for class indices"
            )
        first, last = _class_axes(shape, y)
        if first and last and len(shape) > 2:
            return (
                f"returns {shape}, whose classes may be axis 1 or the last axis: pad the positions to another number, "
                "with ignore_index as their target"
            )
        if not first and not last:
            return f"returns {shape}, which does not fit targets {tuple(y.shape)} as logits (N, C, …)"
        classes = shape[1] if first else shape[-1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            return f"returns logits of {classes} classes, but the loss has {len(self.class_weights)} class weights"
        kept = y[y != self.ignore_index]
        if len(kept) and not 0 <= int(kept.min()) <= int(kept.max()) < classes:
            worst = int(kept.min()) if int(kept.min()) < 0 else int(kept.max())
            return f"returns logits of {classes} classes, but y has the target {worst}"
        return ""

    def sum(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the summed cross-entropy, in nat."""
        if output.dim() > 2 and not y.is_floating_point() and not _class_axes(tuple(output.shape), y)[0]:
            output = output.movedim(-1, 1)
        return nn.functional.cross_entropy(
            output,
            y,
            weight=None if self.class_weights is None else self.class_weights.to(output),
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def rows(self, output: Tensor, y: Tensor) -> Tensor:
        """Return (N,) −log softmax(output) of the labels ``y`` (N,); the options apply only to :meth:`sum`."""
        return nn.functional.cross_entropy(output, y, reduction="none")

    def mean_of(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean of :meth:`rows`."""
        return nn.functional.cross_entropy(output, y)

    def weight(self, y: Tensor) -> float:
        """Return the number of targets that are not ignored, or the sum of their class weights."""
        if not self.mean:
            return 1.0
        if y.is_floating_point():
            return float(y.numel() // y.shape[1])
        kept = y[y != self.ignore_index]
        if self.class_weights is None:
            return float(kept.numel())
        return float(self.class_weights.to(y.device, torch.float64)[kept].sum())


def _class_axes(shape: tuple[int, ...], y: Tensor) -> tuple[bool, bool]:
    """Whether the classes can be axis 1 of logits with this shape, and the last axis."""
    return shape[:1] + shape[2:] == tuple(y.shape), shape[:-1] == tuple(y.shape)


@dataclass(frozen=True)
class Elementwise:
    """A loss of each output value and its target, of the same shape.

    Attributes
    ----------
    function : callable
        (outputs, targets) ↦ the sum.
    mean : bool
        Whether the sum is divided by the number of values, or by 1.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    mean: bool = True

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Return targets in ``dtype``."""
        if y.is_complex():
            raise DataError("y: complex targets: pass real and imaginary parts as two values")
        return y.to(dtype)

    def check(self, shape: tuple[int, ...], y: Tensor) -> str:
        """Return why outputs and targets do not fit together; empty if they do."""
        if shape == tuple(y.shape):
            return ""
        return (
            f"returns {shape}, but the targets y are {tuple(y.shape)}: give both the same shape, for "
            "example by y[:, None]"
        )

    def sum(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the summed loss."""
        return self.function(output, y)

    def weight(self, y: Tensor) -> float:
        """Return the number of target values."""
        return float(y.numel()) if self.mean else 1.0


@dataclass(frozen=True)
class LabelSquaredError:
    """PyTorch's MSELoss of outputs (N, C) and the one-hot rows of class labels (N,).

    With e_y the one-hot row of the label y, the loss of a row is ℓ = (1/C) ‖z − e_y‖², and W is the number of rows.
    """

    def prepare(self, y: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ARG002 - as for other losses
        """Return the labels as int64."""
        return y.long()

    def check(self, shape: tuple[int, ...], y: Tensor) -> str:
        """Return why outputs and labels do not fit together; empty if they do."""
        if len(shape) == 2 and y.dim() == 1 and int(y.max()) < shape[1]:
            return ""
        return f"returns {shape}, which does not fit labels {tuple(y.shape)} up to {int(y.max())}"

    def sum(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the sum of :meth:`rows`."""
        return self.rows(output, y).sum()

    def rows(self, output: Tensor, y: Tensor) -> Tensor:
        """Return (N,) the loss of each row, which is 0 if its label is negative."""
        return (output - one_hot(output, y)).square().mean(-1) * (y >= 0)

    def mean_of(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean of :meth:`rows`."""
        return self.rows(output, y).mean()

    def weight(self, y: Tensor) -> float:
        """Return the number of rows."""
        return float(len(y))


def one_hot(output: Tensor, y: Tensor) -> Tensor:
    """The one-hot rows (…, n, C) of the labels ``y`` (n,), of the shape and type of ``output``."""
    index = y.clamp_min(0).expand(output.shape[:-1])[..., None]
    return torch.zeros_like(output).scatter(-1, index, 1.0)


LABEL_LOSSES: dict[str, LabelLoss] = {"cross_entropy": CrossEntropy(), "mse": LabelSquaredError()}
"""The losses of sweeps, by the value of the setting ``loss``."""


def _squared_error(output: Tensor, y: Tensor) -> Tensor:
    return (output - y).square().sum()  # the forward mode of PyTorch's own mse_loss ends the process


def _binary_cross_entropy(pos_weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    def function(output: Tensor, y: Tensor) -> Tensor:
        weight = None if pos_weight is None else pos_weight.to(output)
        return nn.functional.binary_cross_entropy_with_logits(output, y, pos_weight=weight, reduction="sum")

    return function


def as_loss(loss: str | nn.Module) -> Loss:
    """Return the loss that a name or a module of PyTorch stands for.

    Parameters
    ----------
    loss : str or nn.Module
        ``cross_entropy``, ``bce`` (binary cross-entropy of logits), ``mse``, or an ``nn.CrossEntropyLoss``,
        ``nn.BCEWithLogitsLoss`` or ``nn.MSELoss`` with ``reduction`` ``mean`` or ``sum``.

    Raises
    ------
    ModelError
        If the loss is another one.
    """
    if isinstance(loss, str):
        if loss not in NAMES:
            raise ModelError(f"loss: {loss!r} is not one of {', '.join(NAMES)}, nor a loss module of PyTorch")
        loss = {"cross_entropy": nn.CrossEntropyLoss, "bce": nn.BCEWithLogitsLoss, "mse": nn.MSELoss}[loss]()
    given: Any = loss
    if type(given) not in {nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MSELoss}:
        name = type(given).__name__ if isinstance(given, nn.Module) else repr(given)
        raise ModelError(
            f"loss: {name} is not supported: pass {', '.join(NAMES)}, nn.CrossEntropyLoss, nn.BCEWithLogitsLoss or "
            "nn.MSELoss"
        )
    if given.reduction not in {"mean", "sum"}:
        raise ModelError(f"loss: reduction={given.reduction!r} gives no single number: use 'mean' or 'sum'")
    mean = given.reduction == "mean"
    if isinstance(given, nn.CrossEntropyLoss):
        return CrossEntropy(given.label_smoothing, given.ignore_index, given.weight, mean)
    if isinstance(given, nn.MSELoss):
        return Elementwise(_squared_error, mean)
    if given.weight is not None:
        raise ModelError("loss: BCEWithLogitsLoss with weight= is not supported, because it may weight batch positions")
    return Elementwise(_binary_cross_entropy(given.pos_weight), mean)
