"""Networks as functions of one flat parameter vector.

A custom model is ``module:factory``: a callable ``factory(input_shape, num_classes)`` that returns an ``nn.Module``.
The module maps inputs (N, \\*input_shape) to logits (N, num_classes); softmax belongs to the loss. It runs in eval
mode. Its parameters are θ. Its buffers are constants that are part of E, as the data are.
"""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter

from hesstore.config.networks import hidden_widths, is_custom
from hesstore.custom_code import call_factory, exit_error
from hesstore.errors import ModelError, first_line
from hesstore.problem.losses import LABEL_LOSSES, CrossEntropy, LabelLoss, LabelSquaredError, Loss
from hesstore.problem.state_dicts import COUNTER, buffer_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray


class MLP(nn.Module):
    """Fully connected layers ``fc1``, ``fc2``, …, with a sigmoid after each layer except the last.

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
        """Return the logits (N, num_classes) of inputs (N, …)."""
        x = x.flatten(1)
        for index in range(1, self.depth):
            x = torch.sigmoid(self.get_submodule(f"fc{index}")(x))
        logits: Tensor = self.get_submodule(f"fc{self.depth}")(x)
        return logits


class DeepLinear(nn.Sequential):
    """Linear layers ``fc1``, ``fc2``, … without biases: a linear map, as a product of matrices.

    Parameters
    ----------
    in_features, hidden, num_classes
        As for :class:`MLP`.
    """

    def __init__(self, in_features: int, hidden: Sequence[int], num_classes: int) -> None:
        widths = itertools.pairwise((in_features, *hidden, num_classes))
        layers = (nn.Linear(*sizes, bias=False) for sizes in widths)
        super().__init__(OrderedDict((f"fc{index}", layer) for index, layer in enumerate(layers, start=1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (N, num_classes) of inputs (N, …)."""
        x = x.flatten(1)
        for layer in self:
            x = layer(x)
        return x


Inputs = Tensor | tuple[Tensor, ...]
"""The inputs of a network: one tensor (N, …), or several, which a network takes as several arguments."""

_CALLS = threading.RLock()
"""Held during a call of a module, which has the given parameters for that time, whichever thread calls it."""


@dataclass(frozen=True)
class ParameterLayout:
    """The position of each named parameter in the flat vector: in ``state_dict`` order, each parameter in C order.

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
    def of(cls, module: nn.Module, names: Collection[str] | None = None) -> ParameterLayout:
        """The layout of a module's parameters, or of those with the given names."""
        named = [(name, p) for name, p in module.named_parameters() if names is None or name in names]
        return cls(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of values in each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """The length P of the flat vector."""
        return sum(self.sizes)

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Return views of ``theta`` (P,) as named parameters."""
        parts = torch.split(theta, list(self.sizes))
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}


class FlatModel:
    """A module as a function of θ, the flat vector of its parameters.

    Parameters
    ----------
    module : nn.Module
        Maps inputs (N, …) to logits (N, C). Its buffers are constants.
    loss : Loss, optional
        The loss of its outputs; by default the cross-entropy.
    names : collection of str, optional
        The names of the parameters that are entries of θ, in any order; the others are constants. By default all are
        entries of θ.
    keywords : sequence of str, optional
        The names of the arguments that several inputs are; by default they are positional.
    output : callable, optional
        Returns the tensor of outputs from what the module returns; by default the module returns this tensor.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: Loss | None = None,
        names: Collection[str] | None = None,
        keywords: Sequence[str] = (),
        output: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self.module = module
        self.loss = CrossEntropy() if loss is None else loss
        self.layout = ParameterLayout.of(module, names)
        self._keywords, self._output = keywords, output
        self._places = _parameter_places(module)

    @property
    def label_loss(self) -> LabelLoss:
        """The loss, if it is one of class labels, as in sweeps."""
        if not isinstance(self.loss, CrossEntropy | LabelSquaredError):
            raise TypeError(f"{type(self.loss).__name__} is not a loss of class labels")
        return self.loss

    def restricted_to(self, names: Collection[str]) -> FlatModel:
        """Return the same network as a function of some of its parameters; the others are constants."""
        return FlatModel(self.module, loss=self.loss, names=names, keywords=self._keywords, output=self._output)

    def with_statistics(self, values: NDArray[np.float32]) -> FlatModel:
        """Return a copy of the network with other running statistics of batch norm (S,), one after the other."""
        module = copy.deepcopy(self.module)
        model = FlatModel(module, loss=self.loss, names=self.layout.names, keywords=self._keywords, output=self._output)
        model.set_statistics(values)
        return model

    def set_statistics(self, values: NDArray[np.float32]) -> None:
        """Set the running statistics of batch norm (S,)."""
        own = statistics(self.module)
        parts = torch.split(torch.from_numpy(np.array(values)), [each.numel() for each in own.values()])
        for buffer, part in zip(own.values(), parts, strict=True):
            buffer.copy_(part.view(buffer.shape))

    def logits(self, theta: Tensor, x: Inputs) -> Tensor:
        """Return the logits (N, C), or other outputs (N, …), at parameters ``theta`` (P,)."""
        return self.call(self.layout.unflatten(theta), x)

    def call(self, parameters: dict[str, Tensor], x: Inputs) -> Tensor:
        """Return the outputs at parameters that are given by name."""
        placed = {place: value for name, value in parameters.items() for place in self._places[name]}
        inputs = x if isinstance(x, tuple) else (x,)
        by_name = dict(zip(self._keywords, inputs, strict=True)) if self._keywords else {}
        # The fused kernels of attention and of transformer layers have no forward mode.
        with _CALLS, sdpa_kernel(SDPBackend.MATH), _without_fast_path():
            try:
                out = torch.func.functional_call(
                    self.module, placed, () if by_name else inputs, by_name, tie_weights=False
                )
            except SystemExit as cause:
                raise exit_error(type(self.module).__name__, ModelError, cause) from cause
        result: Tensor = out if self._output is None else self._output(out)
        return result

    def loss_sum(self, theta: Tensor, x: Inputs, y: Tensor) -> Tensor:
        """Return the summed loss Σₙ ℓₙ(θ), by default the cross-entropy in nat.

        The sums of several batches add up; E is the sum over all rows divided by the weight of their targets, for the
        cross-entropy by N.
        """
        return self.loss.sum(self.logits(theta, x), y)

    def buffers(self) -> list[list[object]]:
        """Name, shape and digest of each buffer; see :func:`buffer_digests`."""
        return buffer_digests(self.module)

    def theta(self) -> Tensor:
        """Return a copy of the module's parameters as one flat vector (P,)."""
        parameters = dict(self.module.named_parameters())
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.layout.names])


def _parameter_places(module: nn.Module) -> dict[str, list[str]]:
    """For each parameter, the names of all its places: more than one if modules share it.

    A module that is used under several names counts once. PyTorch would set its parameters under each of them, and
    afterwards leave the values of the call in the module.
    """
    first: dict[int, str] = {}
    seen: set[tuple[int, str]] = set()
    places: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner, _, attribute = name.rpartition(".")
        place = id(module.get_submodule(owner)), attribute
        if place not in seen:
            seen.add(place)
            places.setdefault(first.setdefault(id(parameter), name), []).append(name)
    return places


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Switch off the fused inference kernels of transformer layers until the block ends."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """The running means and variances of batch and instance norm by name; a checkpoint has them next to its weights."""
    layers = [(name, part) for name, part in module.named_modules() if isinstance(part, _NormBase)]
    return {
        f"{name}.{kind}".removeprefix("."): part.get_buffer(kind)
        for name, part in layers
        for kind in ("running_mean", "running_var")
        if getattr(part, kind) is not None
    }


def load_statistics(module: nn.Module, values: Mapping[str, Any]) -> None:
    """Set the running means and variances of batch norm.

    Raises
    ------
    ModelError
        If the names or shapes are not those of the module.
    """
    own = statistics(module)
    given = {name: torch.as_tensor(value) for name, value in values.items()}
    shapes, expected = ({name: tuple(each.shape) for name, each in part.items()} for part in (given, own))
    if shapes != expected:
        name = min(dict(shapes.items() ^ expected.items()))
        raise ModelError(
            f"model: {type(module).__name__!r} has the running statistic {name!r} {expected.get(name, 'missing')}, but "
            f"the weights come with {shapes.get(name, 'none')}: save all of model.state_dict(), and give its network"
        )
    for name, value in given.items():
        own[name].copy_(value)


def stored_statistics(buffers: Iterable[Sequence[Any]]) -> dict[str, list[float]]:
    """The running statistics among the entries of :func:`buffer_digests`, as flat lists by name."""
    return {entry[0]: entry[3] for entry in buffers if len(entry) > 3}


def buffer_digests(module: nn.Module) -> list[list[object]]:
    """The name, shape and digest of each buffer; for the running statistics of batch norm also the values.

    Floating-point values are converted to float32 first. The number of batches that batch norm has seen is left out,
    because it has no effect. See :func:`hesstore.problem.state_dicts.buffer_entry`.
    """
    known = statistics(module)
    return [buffer_entry(name, values, with_values=name in known) for name, values in _buffer_values(module).items()]


def constant_buffers(module: nn.Module) -> dict[str, NDArray[Any]]:
    """The values of each buffer but the running statistics of batch norm, by name."""
    known = statistics(module)
    return {name: values for name, values in _buffer_values(module).items() if name not in known}


def _buffer_values(module: nn.Module) -> dict[str, NDArray[Any]]:
    named = {name: value for name, value in module.named_buffers() if name.rpartition(".")[2] != COUNTER}
    return {
        name: value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype).numpy()
        for name, value in named.items()
    }


def build(
    name: str,
    hidden: Sequence[int],
    input_shape: tuple[int, ...],
    num_classes: int,
    seed: int,
    loss: str = "cross_entropy",
) -> FlatModel:
    """Build the model called ``name``, in eval mode, with initial weights drawn from ``seed`` by the model's own rule.

    The state of PyTorch's global generators does not change. :mod:`hesstore.curvature.model_check` checks the other
    conditions that a model must satisfy.

    Parameters
    ----------
    name : str
        ``mlp``, ``linear:L``, or ``module:factory``.
    hidden : sequence of int
        Widths of the hidden layers; see :func:`hesstore.config.networks.hidden_widths`.
    input_shape : tuple of int
        Shape of one input.
    num_classes : int
        Number of logits.
    seed : int
        Seed of the initial weights.
    loss : str
        One of :data:`~hesstore.problem.losses.LABEL_LOSSES`.

    Raises
    ------
    ModelError
        If the name is unknown, the factory raises, or the parameters of the module can't be θ; see
        :func:`check_parameters`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the generators of GPUs
        module = _build_module(name, hidden, input_shape, num_classes)
    check_parameters(module, name)
    return FlatModel(module.train(mode=False), loss=LABEL_LOSSES[loss])


def layered_network(name: str) -> type[MLP | DeepLinear]:
    """The class of the network called ``mlp`` or ``linear:L``."""
    return MLP if name == "mlp" else DeepLinear


def _build_module(name: str, hidden: Sequence[int], input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    if not is_custom(name):
        try:
            return layered_network(name)(math.prod(input_shape), hidden_widths(name, hidden), num_classes)
        except RuntimeError as error:
            raise ModelError(
                f"model: {name} with hidden widths {list(hidden)} can't be built: {first_line(error)}"
            ) from error
    if ":" not in name:
        raise ModelError(f"model: {name!r} is neither mlp nor linear:L nor module:factory")
    module = call_factory(name, ModelError, input_shape, num_classes)
    if not isinstance(module, nn.Module):
        raise ModelError(f"model: {name!r} returned {type(module).__name__}, not an nn.Module")
    return module


def check_parameters(module: nn.Module, name: str, *, may_be_frozen: bool = False) -> None:
    """Check that all parameters of ``module`` can be entries of θ.

    Parameters
    ----------
    module : nn.Module
        The module.
    name : str
        How messages name it.
    may_be_frozen : bool
        Whether parameters may be frozen (``requires_grad=False``), as long as one of them is not.

    Raises
    ------
    ModelError
        If the module has no parameters, or if one of them is not real-valued, not initialised, not dense, or frozen.
    """
    named = dict(module.named_parameters())
    for parameter, value in named.items():
        if isinstance(value, UninitializedParameter):
            raise ModelError(f"model: {name!r} has a lazy parameter {parameter!r}: give its layer all sizes")
        if not value.is_floating_point() and not (may_be_frozen and not value.requires_grad):
            raise ModelError(f"model: {name!r} has a parameter {parameter!r} of {value.dtype}: θ is real-valued")
        if value.layout != torch.strided or value.is_meta:
            what = "has no values, on the meta device" if value.is_meta else f"has the layout {value.layout}"
            raise ModelError(f"model: {name!r} has a parameter {parameter!r} that {what}: make it a dense tensor")
        if not value.requires_grad and not may_be_frozen:
            raise ModelError(
                f"model: {name!r} has a frozen parameter {parameter!r}, but θ contains all parameters: make it a "
                "buffer (register_buffer), which is constant"
            )
    if not named:
        raise ModelError(f"model: {name!r} has no parameters")
    if not any(value.requires_grad for value in named.values()):
        raise ModelError(f"model: {name!r} has only frozen parameters: set requires_grad_(True) for those of θ")
