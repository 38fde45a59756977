"""The user's module as a function of θ: a copy in eval mode, so that the module itself never changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from hesstore.curvature.model_check import ModelCheck, issue_warnings
from hesstore.curvature.model_warnings import probability_warning
from hesstore.curvature.row_chunks import first_rows
from hesstore.errors import DataError, ModelError, first_line
from hesstore.problem.losses import CrossEntropy, Loss
from hesstore.problem.models import FlatModel, check_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.operators.rows import Rows


ROWS = 16
"""Maximum number of rows on which a network is checked."""


def copy_network(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Return a copy of ``module`` in eval mode and in one precision, whose parameters need no gradient.

    Parameters
    ----------
    module : nn.Module
        The user's network; a compiled or data-parallel module is unwrapped.
    dtype : torch.dtype, optional
        float32 or float64; by default float64 if a parameter has it, otherwise float32.

    Raises
    ------
    ModelError
        If the module can't be copied, or its parameters can't be entries of θ.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"model: {type(module).__name__} is not an nn.Module")
    module = _unwrapped(module)
    name = type(module).__name__
    check_parameters(module, name, may_be_frozen=True)
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    if len(devices) > 1:
        raise ModelError(f"model: {name!r} lies on {', '.join(sorted(map(str, devices)))}: move it to one device")
    try:
        duplicate = copy.deepcopy(module)
    except Exception as error:
        raise ModelError(
            f"model: {name!r} can't be copied by copy.deepcopy: {first_line(error)}: an attribute that is computed "
            "from parameters, as by the older nn.utils.weight_norm, must be a parametrization"
        ) from error
    if dtype is None:
        doubles = any(each.dtype == torch.float64 for each in module.parameters())
        dtype = torch.float64 if doubles else torch.float32
    if dtype not in {torch.float32, torch.float64}:
        raise ModelError(f"dtype: {dtype} is too coarse for second derivatives: use torch.float32 or torch.float64")
    duplicate.to(dtype).train(mode=False)
    for part in duplicate.modules():
        _adapt(part, name)
    return duplicate


def _adapt(part: nn.Module, name: str) -> None:
    """Replace what has no second derivative in PyTorch by what has one, with the same outputs."""
    if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
        if part.max_norm is not None:
            raise ModelError(
                f"model: {name!r} has an embedding with max_norm, which changes its weight in each call: leave it out"
            )
        part.sparse = part.scale_grad_by_freq = False  # they only change the gradient that training uses
    if isinstance(part, nn.Embedding) and part.padding_idx is not None:
        _hold_padding(part)
    if type(part) is parametrizations._WeightNorm:  # noqa: SLF001 - it has no public name
        part.forward = partial(_weight_norm, part.dim)  # type: ignore[method-assign]


def trainable(module: nn.Module) -> list[str]:
    """The names of the parameters that are not frozen."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module within one that ``torch.compile``, data parallelism or weight averaging made."""
    while True:
        if isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        elif isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)):
            module = module.module
        else:
            return module


def _hold_padding(embedding: nn.Embedding) -> None:
    """Make the vector of the padding index a constant.

    PyTorch gives it a gradient of zero in reverse mode alone. As a constant it has none in any mode.
    """
    index = int(embedding.padding_idx or 0)
    vector = embedding.weight[index].detach().clone()
    embedding.padding_idx = None

    def replace_padding(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> Tensor:
        return torch.where(torch.eq(arguments[0], index)[..., None], vector.to(result.device), result)

    embedding.register_forward_hook(replace_padding)


def _weight_norm(dim: int, magnitude: Tensor, direction: Tensor) -> Tensor:
    """The weight of a layer with weight norm; PyTorch's own has no forward mode, and a wrong second derivative."""
    axes = [axis for axis in range(direction.dim()) if axis != dim % direction.dim() or dim == -1]
    norms: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return magnitude * direction / norms


def select_output(out: Any) -> Any:
    """Return the tensor of outputs from what a module returns.

    It is the returned tensor; otherwise the entry or attribute ``logits``; otherwise the only tensor in a dict, tuple
    or list.

    Raises
    ------
    ModelError
        If there are several tensors, or none.
    """
    if isinstance(out, Tensor):
        return out
    named = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
    if isinstance(named, Tensor):
        return named
    values = list(out.values() if isinstance(out, Mapping) else out if isinstance(out, (tuple, list)) else ())
    found = [value for value in values if isinstance(value, Tensor)]
    if len(found) != 1:
        raise ModelError(
            f"the model returns {type(out).__name__} with {len(found)} tensors: pass output=, a function that returns "
            "the right one"
        )
    return found[0]


def make_model(
    module: nn.Module,
    rows: Rows,
    loss: Loss,
    output: Callable[[Any], Tensor] | None,
    dtype: torch.dtype | None,
) -> tuple[FlatModel, Rows]:
    """Return the checked network as a function of θ, and the rows on its device and in its precision.

    Raises
    ------
    ModelError
        If the loss is not a twice differentiable function of the parameters alone.
    DataError
        If the targets do not fit the outputs.
    """
    duplicate = copy_network(module, dtype)
    name = type(_unwrapped(module)).__name__
    model = FlatModel(
        duplicate,
        loss=loss,
        names=set(trainable(duplicate)),
        keywords=rows.keywords,
        output=output or select_output,
    )
    for parameter in duplicate.parameters():
        parameter.requires_grad = False
    theta = model.theta()
    rows = rows.to(theta.device, theta.dtype)
    y = loss.prepare(rows.y, theta.dtype)
    rows = type(rows)(rows.inputs, rows.keywords, y)
    with torch.random.fork_rng(devices=[]):
        _check(model, name, rows)
    return model, rows


def _check(model: FlatModel, name: str, rows: Rows) -> None:
    """Check the network on a few rows, and warn if it returns probabilities."""
    check = ModelCheck(model, name, rows.inputs, rows.y, is_classifier=False, most=ROWS)
    try:
        with torch.no_grad():
            one = model.logits(model.theta(), first_rows(rows.inputs, 1))
    except ModelError:
        raise
    except Exception:  # noqa: BLE001 - the check below says in one line what happens
        one = None
    if isinstance(one, Tensor) and one.dim() and (why := model.loss.check((len(rows.y), *one.shape[1:]), rows.y)):
        raise DataError(f"model: {name!r} {why}")
    if isinstance(one, Tensor) and not model.loss.weight(rows.y):
        raise DataError("y: all targets are ignored by the loss, so that its mean is not defined")
    outputs = check.check()
    is_logits = isinstance(model.loss, CrossEntropy) and outputs.dim() == 2
    if is_logits and (warning := probability_warning(outputs)):
        issue_warnings([f"model: {name!r} {warning}"])
