"""Networks as functions of one flat parameter vector.

A custom model is ``module:factory``: a callable ``factory(input_shape, num_classes)`` that gives an
``nn.Module`` which maps (N, \\*input_shape) to logits (N, num_classes). Softmax belongs to the loss.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hesstore.errors import ModelError
from hesstore.layout import parameter_coordinates
from hesstore.plugins import call_factory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class MLP(nn.Module):
    """Fully connected layers ``fc1``, ``fc2``, … with a sigmoid after all but the last.

    Parameters
    ----------
    in_features : int
        Values in one (flattened) input.
    hidden : sequence of int
        Widths of the hidden layers.
    num_classes : int
        Number of logits.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = (in_features, *hidden, num_classes)
        self.depth = len(widths) - 1
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
            self.add_module(f"fc{index}", nn.Linear(fan_in, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of inputs (N, …)."""
        x = x.flatten(1)
        for index in range(1, self.depth):
            x = torch.sigmoid(self.get_submodule(f"fc{index}")(x))
        logits: Tensor = self.get_submodule(f"fc{self.depth}")(x)
        return logits


@dataclass(frozen=True)
class ParameterLayout:
    """Where each named parameter lies in the flat vector: ``state_dict`` order, each in C order.

    Parameters
    ----------
    names : tuple of str
        Parameter names, such as ``fc1.weight``.
    shapes : tuple of tuple of int
        Their shapes.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module) -> ParameterLayout:
        """The layout of a module's parameters."""
        named = list(module.named_parameters())
        return cls(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values in each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of ``theta`` (P,) as named parameters."""
        parts = torch.split(theta, list(self.sizes))
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def coordinates(self) -> dict[str, NDArray[np.generic]]:
        """Labels of each of the P entries; see :func:`hesstore.layout.parameter_coordinates`."""
        return parameter_coordinates(zip(self.names, self.shapes, strict=True))


class FlatModel:
    """A module seen as a function of θ, one flat vector of its parameters.

    Parameters
    ----------
    module : nn.Module
        Maps inputs (N, …) to logits (N, C).
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layout = ParameterLayout.of(module)

    def logits(self, theta: Tensor, x: Tensor) -> Tensor:
        """Logits (N, C) at parameters ``theta`` (P,)."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no forward mode
            out: Tensor = torch.func.functional_call(self.module, self.layout.unflatten(theta), (x,))
        return out

    def loss_sum(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Σₙ ℓₙ(θ), the summed cross-entropy, in nats. Sums of batches add up; E is the sum over N."""
        return nn.functional.cross_entropy(self.logits(theta, x), y, reduction="sum")

    def theta(self) -> Tensor:
        """A copy of the module's parameters as one flat vector (P,)."""
        return torch.cat([p.detach().reshape(-1) for p in self.module.parameters()])


def build(name: str, hidden: Sequence[int], input_shape: tuple[int, ...], num_classes: int, seed: int) -> FlatModel:
    """The model called ``name``, its initial weights drawn from ``seed`` by its own rule.

    The global generator is left alone.

    Raises
    ------
    ModelError
        If the name is unknown, the module's output is not (N, num_classes), or E(θ) would depend on more
        than θ (dropout, batch norm, buffers).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _module(name, hidden, input_shape, num_classes)
        _check(module, name, input_shape, num_classes)
    return FlatModel(module.requires_grad_(requires_grad=True))


def _module(name: str, hidden: Sequence[int], input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    if name == "mlp":
        try:
            return MLP(math.prod(input_shape), hidden, num_classes)
        except RuntimeError as error:
            raise ModelError(f"model: mlp with hidden widths {list(hidden)} can't be made: {error}") from error
    if ":" not in name:
        raise ModelError(f"model: {name!r} is not mlp, nor module:factory")
    module = call_factory(name, ModelError, input_shape, num_classes)
    if not isinstance(module, nn.Module):
        raise ModelError(f"model: {name!r} gave {type(module).__name__}, not an nn.Module")
    return module


def _check(module: nn.Module, name: str, input_shape: tuple[int, ...], num_classes: int) -> None:
    parameters = list(module.parameters())
    if not parameters or any(not p.is_floating_point() for p in parameters):
        raise ModelError(f"model: {name!r} needs real-valued parameters")
    extra = module.state_dict().keys() - dict(module.named_parameters()).keys()
    if extra:
        raise ModelError(
            f"model: {name!r} keeps {min(extra)!r} beside its parameters (a buffer, as batch norm has, or a shared "
            "parameter): E(θ) must be a function of θ alone"
        )
    x = torch.randn(2, *input_shape, dtype=parameters[0].dtype)
    try:
        with torch.no_grad():
            out, again = module(x), module(x)
    except Exception as error:
        raise ModelError(f"model: {name!r} fails on inputs {(2, *input_shape)}: {error}") from error
    if not isinstance(out, Tensor) or out.shape != (2, num_classes):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(f"model: {name!r} maps 2 inputs to {shape}, not to logits (2, {num_classes})")
    if not torch.equal(out, again):
        raise ModelError(f"model: {name!r} gives other outputs for the same input, as dropout does: take it out")
