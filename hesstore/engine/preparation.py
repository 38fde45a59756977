"""The steps that prepare an experiment: build the network, move the data, check both, and choose the sizes.

The steps stand in the order of :meth:`hesstore.engine.experiment.Experiment.prepare`. Each raises before anything is
written, and memory is checked before it is taken.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hesstore.config.networks import hidden_widths, is_custom
from hesstore.curvature import model_check
from hesstore.curvature.row_chunks import even_chunk_rows
from hesstore.engine import work_sizes
from hesstore.engine.precision import check_precision
from hesstore.errors import ConfigError, CorruptStoreError
from hesstore.problem import models, training_data
from hesstore.problem.seeds import derived_seed
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from hesstore.config import SweepConfig
    from hesstore.curvature.hessian import Kind, TangentPrograms
    from hesstore.engine.collection import Collection
    from hesstore.engine.work_sizes import Sizes
    from hesstore.problem.models import FlatModel
    from hesstore.store.writing import SweepStore

    Rows = tuple[Tensor, Tensor]


def check_device(config: SweepConfig, device: torch.device) -> None:
    """Check that a GPU computes in the config's precision.

    Raises
    ------
    DeviceError
        If the GPU rounds float32 numbers to fewer digits.
    """
    if device.type == "cuda" and config.dtype == "float32":
        check_precision(device)


def build_model(config: SweepConfig, data: training_data.ClassificationData, seed: int) -> FlatModel:
    """Build the config's network for the data, on the CPU, with the initial weights of a derived seed."""
    return models.build(config.model, config.hidden, data.input_shape, data.num_classes, seed, config.loss)


def build_network(
    config: SweepConfig, data: training_data.ClassificationData, device: torch.device, dtype: torch.dtype
) -> FlatModel:
    """Build the network with the first run's initial weights.

    The parameters of mlp and linear:L are counted, and the memory for them checked, before the network is built. A
    custom network is built several times, to check that equal seeds give equal networks.

    Raises
    ------
    ConfigError
        If the network has no room in memory, k is not below its number of parameters, or ``lowest`` or ``block_k`` is
        above it.
    ModelError
        If the network can't be built, or differs each time.
    """
    seed = derived_seed("init", config.seeds[0])
    if _is_custom(config):
        model = build_model(config, data, seed)
        model_check.check_factory(partial(build_model, config, data), model, config.model, seed)
    else:
        widths = (math.prod(data.input_shape), *hidden_widths(config.model, config.hidden), data.num_classes)
        bias = config.model == "mlp"
        parameters = sum((fan_in + bias) * fan_out for fan_in, fan_out in itertools.pairwise(widths))
        work_sizes.check_memory(device, parameters, config.pairs, dtype.itemsize)
        model = build_model(config, data, seed)
    if config.k >= model.layout.size:
        raise ConfigError(f"k: {config.k} must be below the number of parameters, {model.layout.size}")
    if config.lowest > model.layout.size:
        raise ConfigError(f"lowest: {config.lowest} must not exceed the number of parameters, {model.layout.size}")
    if config.blocks != "none" and config.block_k > model.layout.size:
        raise ConfigError(f"block_k: {config.block_k} must not exceed the number of parameters, {model.layout.size}")
    return model


def set_statistics(
    model: FlatModel,
    store: SweepStore | None,
    read: Callable[[FlatModel], Mapping[str, Any]] | None,
    collection: Collection | None,
) -> dict[str, tuple[int, ...]]:
    """Set the running statistics of batch norm to those of the store, or of the checkpoints that become a new one.

    Returns
    -------
    dict of str to tuple of int
        The shapes of those that each grid point has of its own, as each checkpoint of a collection has. The network
        gets those of one of them.

    Raises
    ------
    ModelError
        If they do not fit the network.
    """
    if collection is not None or (store is not None and "axis" in store.identity):
        own = models.statistics(model.module)
        if collection is not None:
            models.load_statistics(model.module, collection.read_statistics(model))
        elif own and store is not None and (found := _first_statistics(store)) is not None:
            model.set_statistics(found)
        return {name: tuple(buffer.shape) for name, buffer in own.items()}
    if store is not None:
        values: Mapping[str, Any] = models.stored_statistics(store.identity.get("buffers", ()))
    elif read is not None:
        values = read(model)
    else:
        return {}
    models.load_statistics(model.module, values)
    return {}


def _first_statistics(store: SweepStore) -> NDArray[Any] | None:
    """The running statistics (S,) of the first grid point that has them undamaged."""
    for run in store.runs:
        for index in np.flatnonzero(np.isin(store.status(run), (Status.FITTED, Status.COMPLETE))):
            with contextlib.suppress(CorruptStoreError):
                values = np.asarray(store.read("statistics", run, int(index)))
                if np.isfinite(values).all():
                    return values
    return None


def move_data(
    config: SweepConfig, data: training_data.ClassificationData, device: torch.device, dtype: torch.dtype
) -> tuple[training_data.ClassificationData, Rows]:
    """Move the data to the device and precision of the computation; select the training rows of the Hessian.

    Returns
    -------
    data : ClassificationData
        The data on the device.
    rows : (Tensor, Tensor)
        The inputs and labels of the Hessian's rows: all training rows (the same tensors, not a copy), or as many as
        the config asks for, drawn by class.

    Raises
    ------
    DataError
        If there are fewer rows than the config asks for, or a finite value overflows in ``dtype``.
    """
    count = config.hessian_samples
    chosen = training_data.stratified_indices(data.train.y, count).to(device) if count else None
    moved = data.to(device, dtype)
    if data.train.x.dtype != dtype:
        training_data.check_data(moved, f"{config.dataset} in {config.dtype}")
    x, y = moved.train
    return moved, (x, y) if chosen is None else (x[chosen], y[chosen])


def check_network(
    config: SweepConfig,
    model: FlatModel,
    data: training_data.ClassificationData,
    rows: Rows,
    programs: TangentPrograms,
) -> model_check.ModelCheck | None:
    """Try a custom network on a few rows of each class, and its second derivatives on as many as a product takes.

    ``programs`` gets the traced program of these products, so that it need not be traced again for ``rows``, those of
    the Hessian.

    Returns
    -------
    ModelCheck, optional
        The check of a custom network. Its class curvatures are not checked yet.

    Warns
    -----
    ModelWarning
        If its Hessian is of limited use.

    Raises
    ------
    ModelError
        If E is not a twice differentiable function of the parameters alone.
    ConfigError
        If the config asks for polishing and the network has kinks.
    """
    if not _is_custom(config):
        return None
    x, y = data.train
    few, chunk = (
        training_data.stratified_indices(y, min(count, len(y))).to(y.device)
        for count in (model_check.ROWS, _checked_rows(config, model, rows))
    )
    check = model_check.ModelCheck(
        model,
        config.model,
        x[few],
        y[few],
        data.num_classes,
        chunk=(x[chunk], y[chunk]),
        programs=programs if kind_of(config) == "hessian" else {},
    )
    found = check.warnings(check.check_products())
    if config.polish and check.kinks:
        raise ConfigError(
            f"polish: {config.model!r} uses {check.kinks[0]}, which has kinks where the objective has no second "
            "derivative: leave it out, or use a smooth network"
        )
    model_check.issue_warnings(found)
    return check


def _checked_rows(config: SweepConfig, model: FlatModel, rows: Rows) -> int:
    """The number of rows in a chunk of the products on a CPU; on a GPU, where it is large, that of other checks."""
    x, y = rows
    if x.device.type != "cpu" or config.models > 1:
        return model_check.ROWS
    try:
        most = config.chunk_rows or work_sizes.cpu_rows(model, x, y)
    except Exception:  # noqa: BLE001 - the check says in one line what is wrong with the network
        return model_check.ROWS
    return even_chunk_rows(len(y), most)


def choose_sizes(
    config: SweepConfig, model: FlatModel, rows: Rows, grid_points: int = 0, *, one_by_one: bool = False
) -> Sizes:
    """Choose how many models and rows the device processes together, as far as the config leaves it open.

    ``grid_points`` is the number of grid points of a run, by default that of the values of λ. With ``one_by_one``, each
    has a network of its own.

    Raises
    ------
    ConfigError
        If the models have no room in memory together, or can't be computed together.
    """
    if one_by_one and config.models > 1:
        raise ConfigError(
            f"models: {config.models} checkpoints can't be analysed together, because each has running statistics of "
            "batch norm of its own: leave it out"
        )
    x, y = rows
    sizes = work_sizes.choose(
        model,
        x,
        y,
        models=config.models,
        chunk_rows=config.chunk_rows,
        memory_gib=config.memory_gib,
        kind=kind_of(config),
    )
    runs = len(config.runs())
    points = (grid_points or len(config.l2)) * runs
    if not config.models:  # no more than can be trained together
        together = 1 if one_by_one else points if config.path == "independent" else runs
        sizes = replace(sizes, models=min(sizes.models, together))
    together = min(sizes.models, points)
    work_sizes.check_memory(x.device, model.layout.size, config.pairs, x.dtype.itemsize, together)
    return sizes


def check_stack(config: SweepConfig, model: FlatModel, rows: Rows, sizes: Sizes) -> None:
    """Check that several copies of a custom network can be computed together, if they are to be.

    Raises
    ------
    ModelError
        If they can't be computed together, or their Hessians then differ.
    """
    if _is_custom(config) and sizes.models > 1:
        model_check.check_stack(model, config.model, *rows, kind=kind_of(config))


def kind_of(config: SweepConfig) -> Kind:
    """The matrix whose eigenpairs the config asks for."""
    return "ggn" if config.operator == "ggn" else "hessian"


def _is_custom(config: SweepConfig) -> bool:
    """Whether the network comes from the user's code, not from hesstore."""
    return is_custom(config.model)
