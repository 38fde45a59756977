"""Writers of checkpoints for training loops, with the step in their names, as ``hesstore analyse`` reads it."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from operator import attrgetter, index
from typing import TYPE_CHECKING, Any

import torch

from hesstore.custom_code import running_user_code
from hesstore.durable_files import write_file
from hesstore.errors import ConfigError, ModelError
from hesstore.store.places.location import expand_home
from hesstore.store.schema import is_axis_name

if TYPE_CHECKING:
    import os
    from pathlib import Path

_LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


class CheckpointWriter:
    """Writes the weights of a network during training, as files that :func:`hesstore.analyse` takes by their names.

    Parameters
    ----------
    folder : path
        The folder of the checkpoints. It is created if it does not exist.
    every : int
        Only values that are multiples of it are written.
    axis : str
        What the values are: ``step``, ``epoch`` or a name of yours, with which the names of the files begin.
    seed : int, optional
        The seed of the training. Checkpoints of several seeds can share a folder, and become runs of one store.

    Raises
    ------
    ConfigError
        If ``every`` is below 1, ``axis`` can't be the name of a grid, ``seed`` is negative, or ``folder`` is a file.

    Examples
    --------
    >>> write = CheckpointWriter("checkpoints", every=100)  # doctest: +SKIP
    >>> for step, (x, y) in enumerate(loader, start=1):  # doctest: +SKIP
    ...     train(model, x, y)
    ...     write(model, step)

    Then ``hesstore analyse checkpoints -o training.zarr --axis step --from-name``.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, every: int = 1, axis: str = "step", seed: int | None = None
    ) -> None:
        self.every = _whole("every", every, least=1)
        if not is_axis_name(axis):
            raise ConfigError(f"axis: {axis!r} can't be the name of a grid: give a word such as step or epoch")
        self.axis, self.seed = axis, None if seed is None else _whole("seed", seed, least=0)
        self.folder = expand_home(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"folder: {folder} is a file: give the path of a folder")

    def __call__(self, model: torch.nn.Module, value: int) -> Path | None:
        """Write the state of ``model``, unless ``value`` is not a multiple of ``every``; return the file.

        The file appears complete or not at all, and replaces one of the same value. With several processes of
        ``torch.distributed``, only the first one writes.

        Raises
        ------
        ConfigError
            If ``value`` is not a whole number, or negative.
        ModelError
            If ``model`` has no weights, or its ``state_dict`` raises an exception.
        """
        value = _whole(self.axis, value, least=0, use=", which the name of a checkpoint ends with")
        if value % self.every or not _is_first_process():
            return None
        path = self.folder / f"{'' if self.seed is None else f'seed{self.seed}_'}{self.axis}_{value}.pth"
        buffer = io.BytesIO()
        torch.save(_state_of(model), buffer)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(path, buffer.getbuffer())
        return path


def _whole(name: str, value: int, *, least: int, use: str = "") -> int:
    """Return ``value`` as an int; raise :class:`ConfigError` unless it is a whole number of at least ``least``."""
    try:
        number = index(value)
    except TypeError:
        raise ConfigError(f"{name}: {value!r} is not a whole number{use}") from None
    if number < least:
        raise ConfigError(f"{name}: {number} is below the least value {least}")
    return number


def _state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    name = type(model).__name__
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"model: {name} is not an nn.Module: pass the network itself")
    with running_user_code(name, ModelError):
        state = model.state_dict()
    found = {key: value.detach().cpu() for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise ModelError(f"model: {name} has no weights: pass the network itself")
    return found


def _is_first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def lightning_callback(
    folder: str | os.PathLike[str],
    *,
    every: int = 1,
    axis: str = "step",
    seed: int | None = None,
    network: str = "",
) -> Any:
    """Return a callback for the Trainer of Lightning that writes checkpoints like :class:`CheckpointWriter`.

    Parameters
    ----------
    folder, every, seed
        As for :class:`CheckpointWriter`.
    axis : str
        ``step`` writes after optimiser steps, and the initial weights as step 0; ``epoch`` likewise after epochs.
    network : str
        The attribute of the LightningModule that holds the network, such as ``net``; by default the module itself.

    Raises
    ------
    ConfigError
        If Lightning is not installed, or an argument is out of range.

    Examples
    --------
    >>> callback = lightning_callback("checkpoints", every=100, network="net")  # doctest: +SKIP
    >>> Trainer(callbacks=[callback]).fit(module, loader)  # doctest: +SKIP
    """
    if axis not in {"step", "epoch"}:
        raise ConfigError(f"axis: {axis!r} is not one of step, epoch")
    writer = CheckpointWriter(folder, every=every, axis=axis, seed=seed)
    base: type = _callback_class()

    class WeightsCallback(base):  # type: ignore[misc]  # mypy knows no base class that is a variable
        """Writes the weights at the start, and after steps or epochs."""

        last = -1

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._write(pl_module, trainer.global_step if axis == "step" else trainer.current_epoch)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if axis == "step":
                self._write(pl_module, trainer.global_step)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if axis == "epoch":
                self._write(pl_module, trainer.current_epoch + 1)

        def _write(self, module: Any, value: int) -> None:
            if value != self.last:  # while gradients accumulate, several batches belong to one step
                self.last = value
                writer(_part_of(module, network), value)

    return WeightsCallback()


def _part_of(module: Any, network: str) -> Any:
    try:
        return attrgetter(network)(module) if network else module
    except AttributeError:
        raise ConfigError(
            f"network: {type(module).__name__} has no attribute {network!r}: give that of the network"
        ) from None


def _callback_class() -> type:
    """The base class of callbacks, of the package of Lightning that is in use, or else of one that is installed."""
    for name in sorted(_LIGHTNING, key=lambda name: name not in sys.modules):
        try:
            found: type = import_module(name).Callback
        except ImportError:
            continue
        return found
    raise ConfigError("lightning_callback: Lightning is not installed: pip install lightning")
