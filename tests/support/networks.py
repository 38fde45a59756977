"""Small networks of many kinds, and the dense matrices of second derivatives of their loss in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations

Loss = Callable[[Any, Tensor], Tensor]


def names_of(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def outputs_of(module: nn.Module, x: Any, pick: Callable[[Any], Tensor]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The outputs as a function of the vector of trainable parameters, in float64 and eval mode, and this vector."""
    module = copy.deepcopy(module).double().eval()
    for part in module.modules():
        if isinstance(part, parametrizations._WeightNorm):  # PyTorch 2.14 differentiates its own operation wrongly
            part.forward = lambda g, v: v * (g / v.norm(dim=1, keepdim=True))  # type: ignore[method-assign]
    parameters = {name: dict(module.named_parameters())[name].detach() for name in names_of(module)}
    theta = torch.cat([value.flatten() for value in parameters.values()])

    def double(part: Tensor) -> Tensor:
        return part.double() if part.is_floating_point() else part

    def outputs(theta: Tensor) -> Tensor:
        parts = torch.split(theta, [value.numel() for value in parameters.values()])
        named = {name: part.view(value.shape) for (name, value), part in zip(parameters.items(), parts, strict=True)}
        with sdpa_kernel(SDPBackend.MATH):
            if isinstance(x, dict):
                by_name = {key: double(part) for key, part in x.items()}
                return pick(torch.func.functional_call(module, named, (), by_name))
            arguments = tuple(map(double, x)) if isinstance(x, tuple) else (double(x),)
            return pick(torch.func.functional_call(module, named, arguments))

    return outputs, theta


def dense_hessian(
    module: nn.Module, x: Any, y: Tensor, loss: Loss, pick: Callable[[Any], Tensor] = lambda out: out
) -> Tensor:
    """∇²E (P, P) by double backward."""
    outputs, theta = outputs_of(module, x, pick)
    target = y.double() if y.is_floating_point() else y
    # torch.func.jacrev of itself is wrong for transformer layers, and not symmetric, in PyTorch 2.14.
    matrix: Tensor = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda point: loss(outputs(point), target), theta
    )
    return matrix


def dense_ggn(
    module: nn.Module, x: Any, y: Tensor, loss: Loss, pick: Callable[[Any], Tensor] = lambda out: out
) -> Tensor:
    """Jᵀ (∂²E/∂z∂z) J, where z has the outputs of all rows, from dense J and ∂²E/∂z∂z."""
    outputs, theta = outputs_of(module, x, pick)
    target = y.double() if y.is_floating_point() else y
    z = outputs(theta).detach()
    j = torch.func.jacrev(lambda point: outputs(point).flatten())(theta)
    bend = torch.func.jacrev(torch.func.jacrev(lambda flat: loss(flat.view(z.shape), target)))(z.flatten())
    matrix: Tensor = j.T @ bend @ j
    return matrix


class SharedBlock(nn.Module):
    """A block that is used twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([self.first, self.first])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        out: Tensor = self.head(x)
        return out


class TiedTokens(nn.Module):
    """A language model of one token window, whose head has the weights of the embedding; classes are the last axis."""

    def __init__(self, padding: int | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(5, 3, padding_idx=padding)
        self.mix = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.mix(self.tokens(tokens))))
        return out


class TwoInputs(nn.Module):
    """Takes two inputs and a mask, and returns a dict with a second tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, left: Tensor, right: Tensor, mask: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.left(left) + self.right(right) * mask)
        return {"hidden": hidden, "logits": self.head(hidden)}


class TransformerNetwork(nn.Module):
    """An embedding, one transformer layer with a padding mask, and a head on the mean of the positions."""

    def __init__(self, vocabulary: int = 6, width: int = 4, layers: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        hidden = self.layers(self.tokens(tokens), src_key_padding_mask=padding)
        kept = ~padding[..., None]
        out: Tensor = self.head((hidden * kept).sum(1) / kept.sum(1))
        return out


def with_batch_norm() -> nn.Module:
    """A convolutional network whose batch norm has statistics that are not the initial ones."""
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, 1, 4, 4) * 2 + 1)
    return module


def with_parametrizations() -> nn.Module:
    """Weight norm on one layer, spectral norm on another, and an orthogonal weight."""
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 3)),
        nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(3, 3)),
        nn.Tanh(),
        nn.Linear(3, 3),
    )


def partly_frozen() -> nn.Module:
    """Three layers, of which the first, and the bias of the last, are frozen."""
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 3))
    for parameter in (*module[0].parameters(), module[5].bias):
        parameter.requires_grad = False
    return module
