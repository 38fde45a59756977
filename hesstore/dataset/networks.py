"""The network of a grid point, as a state dict or as a module with the stored weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config.networks import is_custom
from hesstore.dataset.point_selection import PointSelection, read
from hesstore.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.store.schema import Point


def parameter_slices(attributes: Mapping[Any, Any]) -> Iterator[tuple[str, tuple[int, ...], slice]]:
    """The name, the shape and the slice of the flat vector of each parameter, in ``state_dict`` order.

    Parameters
    ----------
    attributes : mapping
        The root attributes of a store.
    """
    start = 0
    for name, shape in json.loads(attributes["identity"])["parameters"]:
        size = int(np.prod(shape, dtype=np.int64))
        yield name, tuple(shape), slice(start, start + size)
        start += size


def named_weights(selection: PointSelection, point: Point) -> dict[str, NDArray[np.float32]]:
    """The weights at one grid point, by parameter name."""
    weights = selection.weights(point)
    return {name: weights[part].reshape(shape) for name, shape, part in parameter_slices(selection.ds.attrs)}


def named_statistics(selection: PointSelection, point: Point) -> dict[str, NDArray[np.float32]]:
    """The running means and variances of batch norm at one grid point, by name.

    Those of a sweep are part of the identity of its store; each grid point of a collection has its own.
    """
    identity = json.loads(selection.ds.attrs["identity"])
    found = {name: np.array(values[0], np.float32) for name, _, _, *values in identity.get("buffers", []) if values}
    if "statistics" not in identity:
        return found
    values, start = read(selection.array("statistics", point)), 0
    for name, shape in identity["statistics"]:
        size = int(np.prod(shape, dtype=np.int64))
        found[name] = values[start : start + size].reshape(shape)
        start += size
    return found


def to_state_dict(ds: xr.Dataset, *, run: int = 0, l2: float) -> dict[str, torch.Tensor]:
    """Return the weights of a complete grid point as a ``state_dict``: float32 tensors on the CPU.

    Parameters
    ----------
    ds : Dataset
        A store, as :func:`hesstore.open` returns it.
    run : int
        Run ID.
    l2 : float
        A value of λ on the grid.

    Raises
    ------
    ExportError
        If the store does not have the run or λ, or if the grid point is not complete or has no weights.

    Notes
    -----
    The ``state_dict`` contains each parameter once, the running means and variances of batch norm, and no other
    buffers. Use ``load_state_dict(…, strict=False)`` for a module that has others, which keep the values that they have
    in the module, or shared parameters.
    """
    weights, statistics = _network_at(ds, run, l2)
    return {**weights, **statistics}


def _network_at(ds: xr.Dataset, run: int, l2: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights and the running statistics of batch norm of a complete grid point, by name."""
    import torch  # noqa: PLC0415 - opening a store needs no torch

    selection = PointSelection.of(ds, [run], [l2])
    if not selection.points_with("weights"):
        raise ExportError(f"λ = {l2:g} of run {run} was imported without weights")
    point = selection.points[0]
    weights, statistics = (
        {name: torch.from_numpy(each.copy()) for name, each in named(selection, point).items()}
        for named in (named_weights, named_statistics)
    )
    return weights, statistics


def load_model(
    ds: xr.Dataset, *, run: int = 0, l2: float, module: torch.nn.Module | None = None, trust: bool = False
) -> torch.nn.Module:
    """Return the network of a complete grid point, in eval mode.

    Parameters
    ----------
    ds, run, l2
        As in :func:`to_state_dict`.
    module : nn.Module, optional
        The module into which the weights are loaded. By default the ``mlp`` or ``linear:L`` of the store's config is
        built.
    trust : bool
        Whether custom code that the config names, ``module:factory``, may be imported and run to build the module.

    Raises
    ------
    ExportError
        For the reasons given in :func:`to_state_dict`; if ``module`` has other parameters or other buffers than the
        network of the sweep; or if the config names custom code, and neither ``module`` nor ``trust`` is given.
    """
    from hesstore.problem.models import layered_network  # noqa: PLC0415 - needs torch

    weights, statistics = _network_at(ds, run, l2)
    state = {**weights, **statistics}
    if module is None:
        config = json.loads(ds.attrs["config"])
        name = config["model"]
        if is_custom(name):
            module = _custom_module(config, trust=trust)
        else:
            network, matrices = layered_network(name), [tensor for tensor in state.values() if tensor.ndim > 1]
            if list(state) != list(network(1, [1] * (len(matrices) - 1), 1).state_dict()):
                raise ExportError(f"the parameters {', '.join(state)} are not those of the model {name}: pass module=")
            *hidden, classes = (len(each) for each in matrices)
            module = network(matrices[0].shape[1], hidden, classes)
    _check_module(module, weights, statistics, json.loads(ds.attrs["identity"]))
    # Other buffers are not in the state, and shared parameters are there once.
    module.load_state_dict(state, strict=False)
    return module.train(mode=False)


def _check_module(
    module: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    statistics: Mapping[str, torch.Tensor],
    identity: Mapping[str, Any],
) -> None:
    """Raise :class:`ExportError` unless a module has the parameters of a store, and its constant buffers."""
    from hesstore.problem.models import buffer_digests  # noqa: PLC0415 - needs torch

    name = type(module).__name__
    stored = {parameter: tuple(value.shape) for parameter, value in state.items()}
    given = {parameter: tuple(value.shape) for parameter, value in module.named_parameters()}
    if stored != given:
        differing = min(dict(stored.items() ^ given.items()))
        shape, other = (shapes.get(differing, "missing") for shapes in (stored, given))
        raise ExportError(
            f"module: {name} has other parameters than the store ({differing} is {shape} in the store, {other} in the "
            "module)"
        )
    expected, found = (
        {buffer: [facts[0]] if buffer in statistics else facts for buffer, *facts in buffers}
        for buffers in ([*identity.get("buffers", []), *identity.get("statistics", [])], buffer_digests(module))
    )
    if "imported" in identity and expected.keys() <= statistics.keys():
        found = {name: facts for name, facts in found.items() if name in expected}  # files contain no other buffers
    if expected != found:
        buffer = next(each for each in {**expected, **found} if expected.get(each) != found.get(each))
        raise ExportError(
            f"module: {name} has another buffer {buffer!r} than the network of the sweep: build it the same way"
        )


def _custom_module(config: Mapping[str, Any], *, trust: bool) -> torch.nn.Module:
    from hesstore.problem import models, training_data  # noqa: PLC0415 - they need torch

    if not trust:
        raise ExportError(
            f"the store's config names code, {config['model']!r}, that builds the network: pass module=, or trust=True "
            "if you trust the source of the store"
        )
    data = training_data.load(config["dataset"], config["data_dir"])
    model = models.build(config["model"], config["hidden"], data.input_shape, data.num_classes, seed=0)
    return model.module
