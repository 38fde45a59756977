"""The exact trace of H for the cross-entropy of fully connected networks with at most two hidden layers.

Let a layer compute a = W h + b from its input h. The loss of a row depends on W and b only through a, so that their
part of the trace of its Hessian is (‖h‖² + 1) tr A with A = ∂²ℓ/∂a∂a (without the 1 if the layer has no b). With J the
derivative of the logits with respect to a, S = diag p − p pᵀ, and K_m the derivative of the input a_m of the m-th
activation with respect to a,

    A = Jᵀ S J + Σ_m K_mᵀ diag(σ″(a_m) ∘ ∂ℓ/∂h_m) K_m

where m runs over the activation that follows and the later ones. The first term is the Gauss–Newton part; its trace is
Σ_c p_c ‖J_c − Σ p J‖². For the activation that follows, K is the identity, and for the next one it is W diag σ′(a), so
that the traces of both terms are sums of squares. Later ones would need a matrix for each row.

Source: Botev, Ritter & Barber, *Practical Gauss-Newton Optimisation for Deep Learning* (arXiv 1706.03662), whose
recursion for ∂²ℓ/∂a∂a this is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hesstore.problem.losses import CrossEntropy
from hesstore.problem.models import MLP

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.problem.models import FlatModel

_ACTIVATIONS = (nn.ELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh)
MAX_HIDDEN_LAYERS = 2


class _Activation(NamedTuple):
    """The values of an activation and its first two derivatives, (n, width) each."""

    value: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class DenseLayers:
    """A network of fully connected layers with elementwise activations between them.

    Attributes
    ----------
    layers : tuple of (str, bool)
        The name of each layer, and whether it has a bias.
    activations : tuple of callable
        The activations, one fewer.
    """

    layers: tuple[tuple[str, bool], ...]
    activations: tuple[Callable[[Tensor], Tensor], ...]

    @classmethod
    def of(cls, model: FlatModel, x: Tensor) -> DenseLayers | None:
        """The layers of ``model``; None if it has another loss, is another network, or has too many hidden layers.

        The logits of the rows ``x`` are compared with those of the network.
        """
        module = model.module
        if not isinstance(model.loss, CrossEntropy):
            return None
        if type(module) is MLP:
            named = [(name, layer) for name, layer in module.named_children() if isinstance(layer, nn.Linear)]
            activations: list[Callable[[Tensor], Tensor]] = [torch.sigmoid] * (len(named) - 1)
        elif type(module) is nn.Sequential:
            parts = [(name, part) for name, part in module.named_children() if type(part) is not nn.Flatten]
            named = [(name, part) for name, part in parts[::2] if type(part) is nn.Linear]
            activations = [part for _, part in parts[1::2] if type(part) in _ACTIVATIONS]
            if len(named) + len(activations) < len(parts) or len(named) != len(activations) + 1:
                return None
        else:
            return None
        found = cls(tuple((name, layer.bias is not None) for name, layer in named), tuple(activations))
        if len(activations) > MAX_HIDDEN_LAYERS or sum(len(each) for each in found.names) != len(model.layout.names):
            return None
        theta = model.theta().to(x)
        with torch.no_grad():
            expected = model.logits(theta, x)
            same = torch.allclose(found._logits(model, theta, x), expected, rtol=1e-3, atol=1e-4)
        return found if same else None

    @property
    def names(self) -> list[list[str]]:
        """The names of the parameters of each layer."""
        return [[f"{name}.weight", *([f"{name}.bias"] if bias else [])] for name, bias in self.layers]

    def _logits(self, model: FlatModel, theta: Tensor, x: Tensor) -> Tensor:
        parameters = model.layout.unflatten(theta)
        h = x.flatten(1)
        for place, names in enumerate(self.names):
            h = nn.functional.linear(h, *(parameters[name] for name in names))
            if place < len(self.activations):
                h = self.activations[place](h)
        return h

    def trace_sum(self, model: FlatModel, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The trace of the Hessian of the summed cross-entropy of the rows, float64."""
        parameters = model.layout.unflatten(theta)
        weights = [parameters[f"{name}.weight"] for name, _ in self.layers]
        h = x.flatten(1)
        factors, activations = [], []  # ‖h‖² + 1 for each layer
        for place, names in enumerate(self.names):
            factors.append(h.square().sum(1) + (len(names) - 1))
            a = nn.functional.linear(h, *(parameters[name] for name in names))
            if place < len(self.activations):
                activations.append(_derivatives(self.activations[place], a))
                h = activations[-1].value
        p = torch.softmax(a.t().contiguous(), 0).t()  # several times as fast as along the last axis
        total = _sum(factors[-1] * (p * (1 - p)).sum(1))
        mean = p @ weights[-1]
        slope = mean - weights[-1][y]
        logit_rows = weights[-1] - mean[:, None]  # √p (J_c − Σ p J)
        logit_rows *= p.sqrt()[:, :, None]
        later: tuple[Tensor, Tensor] | None = None  # σ″ ∂ℓ/∂h of the next activation, and the weight before it
        for place in range(len(activations) - 1, -1, -1):
            _, first, second = activations[place]
            logit_rows *= first[:, None]
            bend = second * slope
            trace = torch.linalg.vector_norm(logit_rows.flatten(1), dim=1).square() + bend.sum(1)
            if later is not None:
                trace += ((later[0] @ later[1].square()) * first.square()).sum(1)
            total += _sum(factors[place] * trace)
            if place:
                later = bend, weights[place]
                logit_rows = logit_rows @ weights[place]
                slope = (slope * first) @ weights[place]
        return total


def hessian_trace(
    layers: DenseLayers, model: FlatModel, theta: Tensor, x: Tensor, y: Tensor, chunk_rows: int = 512
) -> float:
    """The exact trace of H, the Hessian of the mean cross-entropy over the rows, at ``theta`` (P,).

    Parameters
    ----------
    layers : DenseLayers
        The layers of ``model``.
    model : FlatModel
        The network.
    theta : Tensor
        (P,) the weights.
    x, y : Tensor
        Inputs (N, …) and labels (N,).
    chunk_rows : int
        Maximum number of rows in a chunk. Each row takes as much memory as there are classes.
    """
    chunks = zip(torch.split(x, chunk_rows), torch.split(y, chunk_rows), strict=True)
    with torch.no_grad():
        sums = [layers.trace_sum(model, theta, *chunk) for chunk in chunks]
    return float(torch.stack(sums).sum()) / len(y)


def _derivatives(activation: Callable[[Tensor], Tensor], a: Tensor) -> _Activation:
    """The activation of ``a`` and its derivatives, by double backward."""
    with torch.enable_grad():
        point = a.detach().requires_grad_()
        value = activation(point)
        (first,) = torch.autograd.grad(value.sum(), point, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), point)
    return _Activation(value.detach(), first.detach(), second)


def _sum(values: Tensor) -> Tensor:
    return values.sum(dtype=torch.float64)
