"""The network of a grid point: its state dict, and a module with those weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.dataset.point_selection import PointSelection, read
from hesstore.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.store.schema import Point


def parameter_places(attributes: Mapping[Any, Any]) -> Iterator[tuple[str, tuple[int, ...], slice]]:
    """Name, shape and place in the flat vector of each parameter, in ``state_dict`` order."""
    start = 0
    for name, shape in json.loads(attributes["identity"])["parameters"]:
        size = int(np.prod(shape, dtype=np.int64))
        yield name, tuple(shape), slice(start, start + size)
        start += size


def named_weights(selection: PointSelection, point: Point) -> dict[str, NDArray[np.float32]]:
    """The weights of one λ, by parameter."""
    weights = read(selection.array("weights", point))
    return {name: weights[where].reshape(shape) for name, shape, where in parameter_places(selection.ds.attrs)}


def to_state_dict(ds: xr.Dataset, *, run: int = 0, l2: float) -> dict[str, torch.Tensor]:
    """The weights of one complete λ as a ``state_dict``, float32, on the CPU.

    Parameters
    ----------
    ds : Dataset
        A store, as :func:`hesstore.open` gives it.
    run : int
        Run ID.
    l2 : float
        λ, one of the grid.

    Raises
    ------
    ExportError
        If the run or λ is not there, is not complete, or has no weights.

    Notes
    -----
    It has the parameters, each once: ``load_state_dict(…, strict=False)`` is for a module with buffers, which keep the
    values that it was made with, or with parameters that are shared.
    """
    import torch  # noqa: PLC0415 - other exports need none

    selection = PointSelection.of(ds, [run], [l2])
    if not selection.points_with("weights"):
        raise ExportError(f"λ = {l2:g} of run {run} was imported without weights")
    return {
        name: torch.from_numpy(values.copy()) for name, values in named_weights(selection, selection.points[0]).items()
    }


def load_model(
    ds: xr.Dataset, *, run: int = 0, l2: float, module: torch.nn.Module | None = None, trust: bool = False
) -> torch.nn.Module:
    """The network of one complete λ, in eval mode.

    Parameters
    ----------
    ds, run, l2
        As in :func:`to_state_dict`.
    module : nn.Module, optional
        What takes the weights; by default the ``mlp`` of the store's config.
    trust : bool
        Whether the code that the config names, ``module:factory``, may be imported and run instead.

    Raises
    ------
    ExportError
        As in :func:`to_state_dict`; if ``module`` has other parameters, or other buffers than the network of the
        sweep; or if the config names code and neither ``module`` nor ``trust`` is given.
    """
    from hesstore.problem.models import MLP  # noqa: PLC0415 - needs torch

    state = to_state_dict(ds, run=run, l2=l2)
    if module is None:
        config = json.loads(ds.attrs["config"])
        if config["model"] != "mlp":
            module = _built(config, trust=trust)
        else:
            weights = [tensor for tensor in state.values() if tensor.ndim > 1]
            if list(state) != list(MLP(1, [1] * (len(weights) - 1), 1).state_dict()):
                raise ExportError(f"the parameters {', '.join(state)} are not those of an mlp: pass module=")
            *hidden, classes = (len(each) for each in weights)
            module = MLP(weights[0].shape[1], hidden, classes)
    _check_module(module, state, json.loads(ds.attrs["identity"]))
    module.load_state_dict(state, strict=False)  # it has its buffers, and sets shared parameters together
    return module.train(mode=False)


def _check_module(module: torch.nn.Module, state: Mapping[str, torch.Tensor], identity: Mapping[str, Any]) -> None:
    from hesstore.problem.models import buffer_digests  # noqa: PLC0415 - needs torch

    name = type(module).__name__
    there = {parameter: tuple(value.shape) for parameter, value in state.items()}
    here = {parameter: tuple(value.shape) for parameter, value in module.named_parameters()}
    if there != here:
        differing = min(dict(there.items() ^ here.items()))
        stored, own = (shapes.get(differing, "missing") for shapes in (there, here))
        raise ExportError(
            f"module: {name} has other parameters than the store ({differing} is {stored} there, {own} in the module)"
        )
    if "imported" in identity and "buffers" not in identity:
        return  # files tell nothing of buffers
    kept = {buffer: facts for buffer, *facts in identity.get("buffers", [])}
    found = {buffer: facts for buffer, *facts in buffer_digests(module)}
    if kept != found:
        differing = next(buffer for buffer in kept | found if kept.get(buffer) != found.get(buffer))
        raise ExportError(
            f"module: {name} has another buffer {differing!r} than the network of the sweep: make it as that was made"
        )


def _built(config: Mapping[str, Any], *, trust: bool) -> torch.nn.Module:
    from hesstore.problem import datasets, models  # noqa: PLC0415 - needs torch

    if not trust:
        raise ExportError(
            f"the store's config names code, {config['model']!r}, that makes the network: pass module=, or trust=True "
            "if you know where the store comes from"
        )
    data = datasets.load(config["dataset"], config["data_dir"])
    built = models.build(config["model"], config["hidden"], data.input_shape, data.num_classes, seed=0)
    return built.module
