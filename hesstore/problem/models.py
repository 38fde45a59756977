"""Networks as functions of one flat parameter vector.

A custom model is ``module:factory``: a callable ``factory(input_shape, num_classes)`` that gives an
``nn.Module`` which maps (N, \\*input_shape) to logits (N, num_classes). Softmax belongs to the loss. It runs in
eval mode; its parameters are θ, and its buffers constants that are part of E, as the data are.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import UninitializedParameter

from hesstore.errors import ModelError
from hesstore.problem.user_code import call_factory
from hesstore.store.parameter_coordinates import parameter_coordinates

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
        """Labels of each of the P entries; see :func:`hesstore.store.parameter_coordinates.parameter_coordinates`."""
        return parameter_coordinates(zip(self.names, self.shapes, strict=True))


class FlatModel:
    """A module seen as a function of θ, one flat vector of its parameters.

    Parameters
    ----------
    module : nn.Module
        Maps inputs (N, …) to logits (N, C). Its buffers are constants.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layout = ParameterLayout.of(module)

    def logits(self, theta: Tensor, x: Tensor) -> Tensor:
        """Logits (N, C) at parameters ``theta`` (P,)."""
        return self.call(self.layout.unflatten(theta), x)

    def call(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits (N, C) at parameters by name."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no forward mode
            out: Tensor = torch.func.functional_call(self.module, parameters, (x,))
        return out

    def loss_sum(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Σₙ ℓₙ(θ), the summed cross-entropy, in nats. Sums of batches add up; E is the sum over N."""
        return nn.functional.cross_entropy(self.logits(theta, x), y, reduction="sum")

    def buffers(self) -> list[list[object]]:
        """Name, shape and digest of each buffer; see :func:`buffer_digests`."""
        return buffer_digests(self.module)

    def theta(self) -> Tensor:
        """A copy of the module's parameters as one flat vector (P,)."""
        return torch.cat([p.detach().reshape(-1) for p in self.module.parameters()])


def buffer_digests(module: nn.Module) -> list[list[object]]:
    """Name, shape and digest of each buffer: SHA-256 (16 hex digits) of its values, real ones in float32."""
    found: list[list[object]] = []
    for name, buffer in module.named_buffers():
        values = buffer.detach().to("cpu", torch.float32 if buffer.is_floating_point() else buffer.dtype)
        sha = hashlib.sha256(f"{values.dtype}".encode() + values.contiguous().numpy().tobytes())
        found.append([name, list(values.shape), sha.hexdigest()[:16]])
    return found


def build(name: str, hidden: Sequence[int], input_shape: tuple[int, ...], num_classes: int, seed: int) -> FlatModel:
    """The model called ``name``, in eval mode, its initial weights drawn from ``seed`` by its own rule.

    The global generator is left alone. :mod:`hesstore.curvature.model_check` checks what else a model must satisfy.

    Raises
    ------
    ModelError
        If the name is unknown, the factory raises, or the module has no parameters that could be θ.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _module(name, hidden, input_shape, num_classes)
    check_parameters(module, name)
    return FlatModel(module.train(mode=False))


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


def check_parameters(module: nn.Module, name: str) -> None:
    """Raise unless all parameters of ``module`` can be entries of θ.

    Raises
    ------
    ModelError
        If there are none, or some are not real-valued, not made yet, or frozen.
    """
    named = dict(module.named_parameters())
    for parameter, value in named.items():
        if isinstance(value, UninitializedParameter):
            raise ModelError(f"model: {name!r} has a lazy parameter {parameter!r}: give its layer all sizes")
        if not value.is_floating_point():
            raise ModelError(f"model: {name!r} has a parameter {parameter!r} of {value.dtype}: θ is real-valued")
        if not value.requires_grad:
            raise ModelError(
                f"model: {name!r} has a frozen parameter {parameter!r}, but θ is all parameters: make it a buffer "
                "(register_buffer), which stays as it is"
            )
    if not named:
        raise ModelError(f"model: {name!r} has no parameters")
