"""What makes a network's Hessian say less than it seems to: kinks, layers that do nothing here, idle parameters."""

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
    **(_CURVED := {"elu": "SELU, or ELU with an alpha other than 1", "hardswish": "hardswish"}),
}
"""Operations with kinks, by PyTorch's inner names, and what they are called if that is something else."""


class KinkFinder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's
    """Notes operations with kinks on values that depend on a parameter."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")  # an operation in place has one at its end
        before = args[0].clone() if name in _CLAMPS else None
        result = func(*args, **(kwargs or {}))
        if name in _KINKS and any(isinstance(part, Tensor) and part.requires_grad for part in args):
            unbounded = before is not None and torch.equal(result, before)  # a guard against 0, as in normalize()
            if not unbounded and not (name == "elu" and _has_one_slope(*args)):
                self.found.append(_KINKS[name] or name)
        return result


def _has_one_slope(_: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> bool:  # noqa: ARG001
    """Whether an ELU's slopes on both sides of 0 agree; both have the factor ``scale``."""
    return alpha * input_scale == 1


def of_kinks(kinks: Sequence[str]) -> str:
    """What the operations that a :class:`KinkFinder` found do to the Hessian; nothing if there are none."""
    if not kinks:
        return ""
    names = list(dict.fromkeys(kinks))
    elsewhere = "" if set(names) <= set(_CURVED.values()) else " and zero almost everywhere else"
    return (
        f"uses {_some(names)}: the second derivative is undefined at the kinks{elsewhere}: the Hessian misses what "
        "happens there: use GELU, softplus, tanh or sigmoid, and average pooling"
    )


def of_dropout(module: nn.Module) -> str:
    """That dropout does nothing, if there is any."""
    names = [repr(name) for name, part in module.named_modules() if isinstance(part, _DropoutNd) and part.p > 0]
    if not names:
        return ""
    return (
        f"has dropout ({_some(names)}), which does nothing here, in training neither: E(θ) must be a function of θ "
        "alone, so the network is always in eval mode: λ regularises it"
    )


def of_batch_norm(module: nn.Module) -> str:
    """That batch norm does not normalise, if there is any."""
    names = [repr(name) for name, part in module.named_modules() if isinstance(part, _BatchNorm)]
    if not names:
        return ""
    return (
        f"has batch norm ({_some(names)}), which normalises nothing here: its statistics stay as they were made, mean "
        "0 and variance 1 unless the factory sets others, for with those of a batch E(θ) would be no mean over rows: "
        "use LayerNorm or GroupNorm"
    )


def of_probabilities(logits: Tensor) -> str:
    """That a softmax is one too many, if rows (N, C) of logits look like the result of one."""
    if bool((logits < 0).any()) or not torch.allclose(logits.sum(1), torch.ones_like(logits[:, 0]), atol=1e-4):
        return ""
    return (
        "gives probabilities where logits are wanted: the loss takes the softmax, here once more, and then stays far "
        "from zero: leave the network's own out"
    )


def of_idle(parameters: Sequence[str]) -> str:
    """That the loss does not depend on these parameters, if there are any."""
    names = [repr(name) for name in parameters]
    if not names:
        return ""
    return (
        f"has parameters that do not move the loss ({_some(names)}): they do not enter the output, or an operation "
        "such as rounding cuts their gradient off; the Hessian is zero there, and λ alone acts on them"
    )


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
