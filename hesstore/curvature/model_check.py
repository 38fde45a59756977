"""Whether a network has a Hessian here: tried on a few rows of the data, before anything is written.

E(θ), a mean over rows, must be a function of θ alone, and twice differentiable in the two ways in which a sweep does
it: forward over reverse mode for products with H, forward over forward mode for classes along a direction.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hesstore.curvature import ClassLosses, Hessian
from hesstore.curvature.model_warnings import KinkFinder, of_batch_norm, of_dropout, of_idle, of_kinks, of_probabilities
from hesstore.errors import ModelError, ModelWarning
from hesstore.problem.models import FlatModel, check_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS = 32
"""Rows on which a network is tried."""

DIRECTIONS = 4
"""Directions along which second derivatives are compared."""

STEPS = (1e-3, 1e-4)
"""Steps along them, in units of a parameter, over which the loss is compared with its gradient."""

NOISE = 0.01
"""Standard deviation of what is added to the initial weights: at zeros of a last layer much else is zero."""


def check_model(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Raise if no sweep can use a network, and warn of what makes its Hessian say less than it seems to.

    Parameters
    ----------
    module : nn.Module
        The network; a copy of it is tried, in eval mode.
    x, y : Tensor
        Inputs (N, …) and labels (N,), such as a batch of the training set.

    Raises
    ------
    ModelError
        If E is not a function of the parameters alone, or can't be differentiated twice; the message says what to do.

    Warns
    -----
    ModelWarning
        Of kinks, batch norm, dropout, and parameters that do not matter.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
    >>> check_model(module, torch.randn(20, 4), torch.arange(20) % 3)
    """
    name = type(module).__name__
    own = copy.deepcopy(module).train(mode=False)
    check_parameters(own, name)
    warn_of(Trial(FlatModel(own), name, x, y).remarks())


def warn_of(remarks: Sequence[str]) -> None:
    """Warn of each."""
    for remark in remarks:
        warnings.warn(remark, ModelWarning, stacklevel=3)


def check_making(make: Callable[[int], FlatModel], model: FlatModel, name: str, seed: int) -> None:
    """Raise unless what ``make`` makes of a seed is ``model`` again, and of another seed has the same buffers.

    Raises
    ------
    ModelError
        It names what differs.
    """
    again, other = make(seed), make(seed + 1)
    if again.layout != model.layout or not torch.equal(again.theta(), model.theta()):
        raise ModelError(
            f"model: {name!r} has other initial weights each time it is made: draw them by PyTorch's own generator, "
            "which hesstore has seeded when it calls the factory"
        )
    for buffer in model.buffers():
        if buffer not in again.buffers() or buffer not in other.buffers():
            raise ModelError(
                f"model: {name!r} has another buffer {buffer[0]!r} each time it is made, and so another E(θ): draw it "
                "from a generator of its own, torch.Generator().manual_seed(0)"
            )


@dataclass(frozen=True)
class Trial:
    """A network and the rows on which it is tried, in its precision and on its device.

    Parameters
    ----------
    model : FlatModel
        In eval mode.
    name : str
        What messages call it.
    x, y : Tensor
        Inputs and labels; the first :data:`ROWS` are used.
    num_classes : int, optional
        How many logits it must give; by default as many as it gives.
    """

    model: FlatModel
    name: str
    x: Tensor
    y: Tensor
    num_classes: int | None = None

    def remarks(self) -> list[str]:
        """What is dubious about the network, a line each.

        Raises
        ------
        ModelError
            If it can't be used.
        """
        logits = self._check_function()
        names, kinks = self._check_slope()
        self._check_curvature()
        module = self.model.module
        remarks = [
            of_dropout(module),
            of_batch_norm(module),
            of_probabilities(logits),
            of_idle(names),
            of_kinks(kinks),
        ]
        return [f"model: {self.name!r} {remark}" for remark in remarks if remark]

    def _refusal(self, reason: str) -> ModelError:
        return ModelError(f"model: {self.name!r} {reason}")

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        return self.x[:ROWS], self.y[:ROWS]

    @cached_property
    def _theta(self) -> Tensor:
        theta = self.model.theta()
        noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return theta + NOISE * noise.to(theta)

    @cached_property
    def _directions(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(DIRECTIONS, len(self._theta), generator=generator, dtype=torch.float64).to(self._theta)

    @cached_property
    def _classes(self) -> int:
        logits: Tensor = self._logits(self._rows[0][:1])
        return logits.shape[1]

    # -- a function of θ alone --------------------------------------------------------------------------------

    def _logits(self, x: Tensor, theta: Tensor | None = None) -> Tensor:
        shape = tuple(x.shape)
        try:
            with torch.no_grad():
                out: Any = self.model.logits(self._theta if theta is None else theta, x)
        except Exception as error:
            reason = _line(error)
            if "dtype" in reason or "device" in reason:
                reason += ": what it keeps beside parameters must be buffers, to come to this precision and device"
            raise self._refusal(f"fails on inputs {shape} in {_plain(x.dtype)}: {reason}") from error
        given = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        if len(given) != 2 or given[0] != len(x) or self.num_classes not in {None, given[1]}:
            wanted = f"({len(x)}, {self.num_classes or 'classes'})"
            raise self._refusal(f"maps {len(x)} inputs {shape[1:]} to {given}, not to logits {wanted}")
        if out.dtype != x.dtype:
            raise self._refusal(f"gives logits in {_plain(out.dtype)} for inputs and parameters in {_plain(x.dtype)}")
        logits: Tensor = out
        return logits

    def _check_function(self) -> Tensor:
        x, _ = self._rows
        before = {name: buffer.clone() for name, buffer in self.model.module.named_buffers()}
        logits = self._logits(x)
        for name, buffer in self.model.module.named_buffers():
            if name not in before or not torch.equal(buffer, before[name]):
                raise self._refusal(
                    f"changes its buffer {name!r} when it is called: E(θ) must be a function of θ alone: leave the "
                    "buffer as it is in eval mode"
                )
        if not bool(torch.isfinite(logits).all()):
            raise self._refusal(f"gives logits that are NaN or infinite on {len(x)} rows of the data: scale the inputs")
        if _differ(self._logits(x), logits, 0 if x.device.type == "cpu" else 1e-4):
            raise self._refusal(
                "gives other outputs for the same input: E(θ) must be a function of θ alone: take out what is random "
                "(functional dropout needs training=self.training; nn.Dropout does nothing here)"
            )
        half = max(1, len(x) // 2)
        if _differ(self._logits(x[:half]), logits[:half], 1e-2):
            raise self._refusal(
                "gives a row other logits in other company: E(θ) must be a mean over rows: take out what mixes them, "
                "such as batch norm with track_running_stats=False"
            )
        return logits

    # -- derivatives ------------------------------------------------------------------------------------------

    def _check_slope(self) -> tuple[list[str], list[str]]:
        """The parameters that do not move the loss, and the kinked operations on the way."""
        x, y = self._rows
        parameters = {
            name: part.clone().requires_grad_() for name, part in self.model.layout.unflatten(self._theta).items()
        }
        finder = KinkFinder()
        try:
            with finder:
                loss = nn.functional.cross_entropy(self.model.call(parameters, x), y)
            slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        except Exception as error:
            raise self._refusal(
                "has no gradient: an operation between its parameters and its logits, such as argmax, cuts it off "
                f"({_line(error)})"
            ) from error
        filled = [
            torch.zeros_like(part) if slope is None else slope
            for part, slope in zip(parameters.values(), slopes, strict=True)
        ]
        idle = []
        for name, slope in zip(parameters, filled, strict=True):
            if not bool(slope.any()):
                idle.append(name)
            elif not bool(torch.isfinite(slope).all()):
                raise self._refusal(f"has a gradient that is NaN or infinite in {name!r} on {len(x)} rows of the data")
        if len(idle) == len(parameters):
            raise self._refusal(
                "has a gradient of zero in every parameter: an operation such as rounding or argmax cuts it off"
            )
        self._check_differences(torch.cat([known.reshape(-1) for known in filled]))
        return idle, finder.found

    def _check_differences(self, slope: Tensor) -> None:
        """Hold the gradient against differences of the loss; coarsely: numbers round, and there may be kinks."""
        _, y = self._rows
        expected = self._directions.to(torch.float64) @ slope.to(torch.float64)

        def loss(theta: Tensor) -> Tensor:
            return nn.functional.cross_entropy(self._logits(self._rows[0], theta).to(torch.float64), y)

        for step in STEPS:
            found = torch.stack([loss(self._theta + step * v) - loss(self._theta - step * v) for v in self._directions])
            if not _differ(found / (2 * step), expected, 0.25):
                return
        raise self._refusal(
            "has a gradient that is not the slope of its loss: an operation such as rounding or argmax, detach(), or a "
            "backward of your own that is not the derivative, lies between parameters and logits: take it out"
        )

    def _check_curvature(self) -> None:
        x, y = self._rows
        directions = self._directions
        losses = ClassLosses(self.model, x, y, self._classes, len(x))
        try:
            operator = Hessian(self.model, x, y, chunk_rows=len(x)).at(self._theta)
            products = torch.stack([operator.matvec(v) for v in directions])
            by_class = losses.along(self._theta, directions).curvature
        except Exception as error:
            raise self._refusal(
                f"has no second derivative that PyTorch can compute in forward mode: {_line(error)}: write the "
                "operation in others that have one"
            ) from error
        forms = directions.to(torch.float64) @ products.to(torch.float64).T
        if not bool(torch.isfinite(forms).all()):
            raise self._refusal(f"has a second derivative that is NaN or infinite on {len(x)} rows of the data")
        most = 3 * torch.finfo(x.dtype).eps ** 0.5
        if _differ(forms, forms.T, most):
            raise self._refusal(
                "has a Hessian that is not symmetric: an operation of your own has a backward or jvp that is not its "
                "derivative"
            )
        if _differ((by_class * losses.shares).nansum(1), forms.diagonal(), most):
            raise self._refusal(
                "has second derivatives that contradict each other, by forward over reverse and by forward over "
                "forward mode: PyTorch's rule for one of its operations is wrong, as those for nn.GRU, nn.LSTM and det "
                "are: write the operation in others"
            )


def check_stack(model: FlatModel, name: str, x: Tensor, y: Tensor) -> None:
    """Raise unless several copies of a network can be differentiated together.

    Raises
    ------
    ModelError
        It says what can't.
    """
    x, y, theta = x[:ROWS], y[:ROWS], model.theta()
    v, both = torch.ones_like(theta), theta.repeat(2, 1)
    hessian = Hessian(model, x, y, chunk_rows=2 * len(x))
    try:
        product = hessian.at_each(both).matvec(v.repeat(2, 1))[1]
        torch.vmap(model.logits, (0, None))(both, x)
    except Exception as error:
        raise ModelError(
            f"model: {name!r} can't be computed for several θ at once: {_line(error)}: pass --models 1"
        ) from error
    if _differ(product, hessian.at(theta).matvec(v), 3 * torch.finfo(x.dtype).eps ** 0.5):
        raise ModelError(f"model: {name!r} has another Hessian when several θ are computed at once: pass --models 1")


def _differ(a: Tensor, b: Tensor, most: float) -> bool:
    """Whether two tensors differ by more than ``most`` of their largest entry."""
    return not bool((a - b).abs().max() <= most * torch.maximum(a.abs().max(), b.abs().max()))


def _line(error: Exception) -> str:
    """The first line of what PyTorch says, which may be a page."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    return text if len(text) <= 300 else f"{text[:299]}…"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
