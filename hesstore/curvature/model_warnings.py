"""Warnings about networks whose Hessian is less meaningful than it seems.

The reasons are operations with kinks, layers that have no effect in a sweep, and parameters that do not change the
loss. Each function returns the text of one warning, without the name of the model, or an empty text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLAMPS = ("clamp", "clamp_max", "clamp_min")
_KINKS = {
    "_prelu_kernel": "PReLU",
    "hardtanh": "hardtanh or ReLU6",
    "leaky_relu": "leaky ReLU",
    "relu": "ReLU",
    "rrelu_with_noise": "RReLU",
    **dict.fromkeys(("abs", "hardshrink", "hardsigmoid", "softshrink", "threshold")),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool3d"), "max pooling"),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices"), "max pooling"),
    **dict.fromkeys(("amax", "amin", "max", "maximum", "min", "minimum"), "max or min"),
    **dict.fromkeys(_CLAMPS, "clamp"),
    **dict.fromkeys(("ceil", "floor", "round", "sgn", "sign", "trunc"), "rounding or sign"),
    **(_CURVED := {"elu": "SELU, or ELU with an alpha other than 1", "hardswish": "hardswish"}),
}
"""Operations with kinks or steps by PyTorch's internal names, each with its usual name if that differs."""


class KinkFinder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's
    """A dispatch mode that records operations with kinks on values that depend on a parameter."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")  # the name of an in-place operation ends with one
        before = args[0].clone() if name in _CLAMPS else None
        result = func(*args, **(kwargs or {}))
        if name in _KINKS and any(isinstance(part, Tensor) and part.requires_grad for part in args):
            # A clamp that changes nothing only guards against division by zero, as in normalize().
            changes_nothing = before is not None and torch.equal(result, before)
            if not changes_nothing and not (name == "elu" and _has_one_slope(*args)):
                self.found.append(_KINKS[name] or name)
        return result


def _has_one_slope(_: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> bool:  # noqa: ARG001
    """Whether the slopes of an ELU on both sides of 0 agree; both include the factor ``scale``."""
    return alpha * input_scale == 1


def kink_warning(kinks: Sequence[str]) -> str:
    """The effect on the Hessian of the operations that a :class:`KinkFinder` found."""
    if not kinks:
        return ""
    names = list(dict.fromkeys(kinks))
    elsewhere = "" if set(names) <= set(_CURVED.values()) else " and zero almost everywhere else"
    return (
        f"uses {_abbreviate(names)}: the second derivative is undefined at the kinks and steps{elsewhere}, so "
        "the Hessian does not capture their effect: use GELU, softplus, tanh or sigmoid, and average pooling"
    )


def dropout_warning(module: nn.Module) -> str:
    """A warning that dropout has no effect, if the module has dropout layers."""
    names = [repr(name) for name, part in module.named_modules() if isinstance(part, _DropoutNd) and part.p > 0]
    if not names:
        return ""
    return (
        f"has dropout ({_abbreviate(names)}), which has no effect, not even in training: E(θ) must be a function of θ "
        "alone, so the network is always in eval mode, and λ regularises it"
    )


def batch_norm_warning(module: nn.Module) -> str:
    """A warning that batch norm does not normalise, if the module has such layers with initial statistics."""
    names = [
        repr(name)
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and not _has_statistics(part)
    ]
    if not names:
        return ""
    return (
        f"has batch norm ({_abbreviate(names)}), which does not normalise here: its statistics keep their initial "
        "values, mean 0 and variance 1 unless the factory sets others, because with the statistics of a batch E(θ) "
        "would not be a mean over rows: use LayerNorm or GroupNorm"
    )


def _has_statistics(layer: _BatchNorm) -> bool:
    """Whether the running statistics of a layer with batch norm are not the initial ones."""
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and not bool((mean == 0).all() and (variance == 1).all())


def probability_warning(logits: Tensor) -> str:
    """A warning that the network ends with a softmax, if the rows of ``logits`` (N, C) are probabilities."""
    if bool((logits < 0).any()) or not torch.allclose(logits.sum(1), torch.ones_like(logits[:, 0]), atol=1e-4):
        return ""
    return (
        "returns probabilities instead of logits: the loss applies a softmax itself, and after two of them it stays "
        "far from zero: remove the softmax from the network"
    )


def idle_parameter_warning(parameters: Sequence[str]) -> str:
    """A warning that the loss does not depend on these parameters, if there are any."""
    names = [repr(name) for name in parameters]
    if not names:
        return ""
    return (
        f"has parameters that do not change the loss ({_abbreviate(names)}): the output does not depend on them, or an "
        "operation such as rounding cuts off their gradient; the Hessian is zero there, and only λ acts on them"
    )


def _abbreviate(names: Sequence[str], most: int = 3) -> str:
    """The first ``most`` of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
