"""Reads the weights in checkpoints: unwraps the state dict, whatever it lies in. Nothing but tensors is unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import re
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import ImportFilesError, first_line, size_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
"""The shapes of the parameters by name, in the order of the ``state_dict``."""

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, sharding and activation checkpointing write before the names of any part of a network."""
_PREFIXES = (*_WRAPPERS, "module.", "model.")  # the latter of data parallelism and training frameworks
_AVERAGED = "n_averaged"
"""The number of averaged networks in a state dict of ``torch.optim.swa_utils.AveragedModel``."""
STATISTICS = ("running_mean", "running_var")
"""The last parts of the names of running statistics of batch norm."""
COUNTER = "num_batches_tracked"
"""The last part of the name of batch norm's number of batches."""
_OPTIMISER = re.compile(r"optim|optimi[sz]er|sched|scaler", re.IGNORECASE)
_MOST_DEPTH = 8
_IGNORED = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace", "types.SimpleNamespace"),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"pathlib{part}.{name}" for part in ("", "._local") for name in ("PosixPath", "PurePosixPath", "WindowsPath")),
)
"""What checkpoints often contain next to the weights. It becomes :class:`_Ignored`, so that no code of it runs."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]*\w)")
_REASON = re.compile(r"(?:WeightsUnpickler error: )([^\n]*)")


class _Ignored:
    """Stands for a value that is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take any arguments."""

    def __setstate__(self, _: object) -> None:
        """Take any state."""


@dataclass(frozen=True)
class StateDict:
    """The tensors of a checkpoint.

    Attributes
    ----------
    arrays : dict of str to array
        The values by parameter, without prefixes; tied parameters once.
    notes : tuple of str
        What was done to obtain them.
    statistics : dict of str to array
        The running means and variances of batch norm.
    buffers : dict of str to array
        The other buffers, as far as it is known that they are some; real values in float32.
    """

    arrays: dict[str, NDArray[np.float32]]
    notes: tuple[str, ...]
    statistics: dict[str, NDArray[np.float32]]
    buffers: dict[str, NDArray[Any]]


def read_weights(
    path: Path,
    shapes: Shapes | None = None,
    statistics: Mapping[str, Any] | None = None,
    buffers: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The parameters by name; if ``shapes`` is given, names and shapes must agree with it, and it gives the order.

    Parameters
    ----------
    path : Path
        The file.
    shapes : mapping, optional
        The shapes of the parameters.
    statistics : mapping, optional
        The running statistics of batch norm that the file must have, by name.
    buffers : mapping, optional
        The other buffers of the network, by name. The file may lack them, because they are constant.

    Raises
    ------
    ImportFilesError
        As :func:`read_state_dict`, or if names or shapes differ from ``shapes``, or statistics or buffers from the
        given ones.
    """
    read = read_state_dict(path, shapes or (), buffers or ())
    _check_buffers(path, read.buffers, buffers or {})
    if statistics is not None:
        _check_statistics(path, read.statistics, statistics)
    return read.arrays if shapes is None else _in_order(path, read.arrays, shapes)


def read_network(
    path: Path, shapes: Shapes, statistics: Shapes, buffers: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[np.float32]], ...]:
    """The parameters and the running statistics of batch norm by name, in the order of the given shapes.

    Raises
    ------
    ImportFilesError
        As :func:`read_state_dict`, or if names or shapes differ from the given ones, or a buffer has other values.
    """
    read = read_state_dict(path, shapes, buffers)
    _check_buffers(path, read.buffers, buffers)
    for name, shape in statistics.items():
        if name not in read.statistics:
            raise ImportFilesError(_lacks_statistic(path, name))
        if read.statistics[name].shape != shape:
            raise ImportFilesError(f"{path}: {name}: expected the shape {shape}, found {read.statistics[name].shape}")
    if unknown := [name for name in read.statistics if name not in statistics]:
        raise ImportFilesError(
            f"{path}: has a running statistic {unknown[0]!r} of batch norm that the network does not have: give the "
            "network of the checkpoints"
        )
    return _in_order(path, read.arrays, shapes), {name: read.statistics[name] for name in statistics}


def _check_buffers(path: Path, found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> None:
    """Raise :class:`ImportFilesError` if a buffer in a file has other values than expected; it may be missing."""
    for name, values in found.items():
        if not np.array_equal(values, expected[name]):
            raise ImportFilesError(
                f"{path}: its buffer {name!r} is not that of the network, whose buffers are constant: build the "
                "network with the same values, or give each other value a store of its own"
            )


def _in_order(path: Path, found: Mapping[str, NDArray[np.float32]], shapes: Shapes) -> dict[str, NDArray[np.float32]]:
    """The arrays in the order of ``shapes``, with which their names and shapes must agree."""
    unknown, missing = [key for key in found if key not in shapes], [key for key in shapes if key not in found]
    if unknown:
        raise ImportFilesError(f"{path}: unknown key {unknown[0]!r}: expected the keys {', '.join(shapes)}")
    if missing:
        raise ImportFilesError(f"{path}: missing key {missing[0]!r}: expected the keys {', '.join(shapes)}")
    for key, shape in shapes.items():
        if found[key].shape != shape:
            raise ImportFilesError(f"{path}: {key}: expected the shape {shape}, found {found[key].shape}")
    return {key: found[key] for key in shapes}


def read_state_dict(path: Path, names: Collection[str] = (), buffers: Collection[str] = ()) -> StateDict:
    """Read the only state dict in a checkpoint.

    It may lie in other dicts, as in ``{"model": {"state_dict": …}}``. Prefixes that all keys share because of
    ``torch.compile``, data parallelism or a training framework are removed repeatedly, until the keys are ``names``
    or no such prefix is left. The tensors called ``buffers`` are no parameters.

    Raises
    ------
    ImportFilesError
        If the file cannot be loaded, or does not contain exactly one state dict of real, finite, dense tensors.
    """
    where, tensors = _unwrap(_load(path), path)
    notes = [f"the state dict is under {where}"] if where else []
    named, prefix = _strip_prefixes(tensors, names)
    notes += [f"the prefix {prefix} was removed"] if prefix else []
    of_norm = {name: named.pop(name) for name in list(named) if name.rpartition(".")[2] in (*STATISTICS, COUNTER)}
    statistics = {
        name: _array(tensor, path, name) for name, tensor in of_norm.items() if name.rpartition(".")[2] != COUNTER
    }
    constants = {name: _values(named.pop(name), path, name) for name in list(named) if name in buffers}
    notes += [f"{', '.join(constants)}: constant, and no part of θ"] if constants else []
    notes += [f"{len(statistics)} running statistics of batch norm belong to the network"] if statistics else []
    for name, first in _tied(named, path, names):
        del named[name]
        notes.append(f"{name} is the same tensor as {first}, and counted once")
    wide = [name for name, tensor in named.items() if tensor.is_floating_point() and tensor.element_size() > 4]
    notes += [f"{len(wide)} parameters such as {wide[0]} were rounded to float32"] if wide else []
    arrays = {name: _array(tensor, path, name) for name, tensor in named.items()}
    return StateDict(arrays, tuple(notes), statistics, constants)


def buffer_entry(name: str, values: NDArray[Any], *, with_values: bool) -> list[object]:
    """The entry of a buffer in the identity of a store: name, shape, digest and, if it is asked for, the values.

    The digest is the SHA-256 (16 hex digits) of the type, in PyTorch's words, and the values.
    """
    sha = hashlib.sha256(f"torch.{values.dtype}".encode() + np.ascontiguousarray(values).tobytes())
    return [name, list(values.shape), sha.hexdigest()[:16], *([values.tolist()] if with_values else [])]


def _check_statistics(path: Path, found: Mapping[str, NDArray[np.float32]], expected: Mapping[str, Any]) -> None:
    """Raise :class:`ImportFilesError` if running statistics are not those of the store's network."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise ImportFilesError(_lacks_statistic(path, name))
        if name not in expected or not np.array_equal(found[name], np.asarray(expected[name], np.float32)):
            raise ImportFilesError(
                f"{path}: its running statistic {name!r} of batch norm is not that of the store's network: the "
                "checkpoints of a store must agree in them: give each other one a store of its own"
            )


def tensor_names(path: Path, names: Collection[str] = ()) -> list[str]:
    """The names of all tensors of the state dict in a checkpoint but those of batch norm; see :func:`read_state_dict`.

    Raises
    ------
    ImportFilesError
        If the file cannot be loaded, or does not contain exactly one state dict.
    """
    named, _ = _strip_prefixes(_unwrap(_load(path), path)[1], names)
    return [name for name in named if name.rpartition(".")[2] not in {*STATISTICS, COUNTER}]


def _lacks_statistic(path: Path, name: str) -> str:
    return f"{path}: lacks the running statistic {name!r} of batch norm: save all of model.state_dict()"


# -- unwrapping -------------------------------------------------------------------------------------------


def _unwrap(loaded: Any, path: Path) -> tuple[str, dict[str, Tensor]]:
    """Where the only state dict lies, and its tensors."""
    found = list(_state_dicts(loaded, set()))
    if len(found) > 1:
        raise ImportFilesError(
            f"{path}: has several state dicts: {', '.join(where for where, _ in found)}: save the right one alone"
        )
    if found:
        return found[0]
    if isinstance(loaded, dict):
        raise ImportFilesError(f"{path}: expected a state_dict, found {_contents(loaded)}: save model.state_dict()")
    raise ImportFilesError(f"{path}: expected a state_dict, found {type(loaded).__name__}: save model.state_dict()")


def _state_dicts(
    loaded: Any, seen: set[int], where: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All dicts of tensors, with their places; the state of an optimiser is none.

    A dict of dicts that is in several places is searched once: a small file could otherwise have any number of places.
    """
    import torch  # noqa: PLC0415 - the other kinds of file do not need it

    if not isinstance(loaded, dict) or not loaded or depth > _MOST_DEPTH:
        return
    if all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()):
        yield where, dict(loaded)
        return
    if id(loaded) in seen:
        return
    seen.add(id(loaded))
    for key, value in loaded.items():
        if isinstance(key, str) and not _OPTIMISER.search(key):
            yield from _state_dicts(value, seen, f"{where}[{key!r}]", depth + 1)


def _contents(loaded: Mapping[Any, Any]) -> str:
    """What a dict contains, with what is not a tensor first."""
    import torch  # noqa: PLC0415

    if not loaded:
        return "an empty dict"
    ordered = sorted(loaded.items(), key=lambda item: isinstance(item[1], torch.Tensor))
    shown = ", ".join(f"{key!r} ({_type_name(value)})" for key, value in ordered[:3])
    return f"a dict with {shown}{', …' if len(ordered) > 3 else ''}"


def _type_name(value: Any) -> str:
    return "an object that is not read" if isinstance(value, _Ignored) else type(value).__name__


def _strip_prefixes(tensors: Mapping[str, Tensor], names: Collection[str]) -> tuple[dict[str, Tensor], str]:
    found, prefix, wanted = dict(tensors), "", set(names)
    if _AVERAGED not in wanted and all(name.startswith("module.") for name in found.keys() - {_AVERAGED}):
        found.pop(_AVERAGED, None)
    while not (wanted and wanted <= found.keys()):
        shared = next((each for each in _PREFIXES if all(name.startswith(each) for name in found)), None)
        if shared is None or shared in found:
            break
        found = {name.removeprefix(shared): tensor for name, tensor in found.items()}
        prefix += shared
    for wrapper in _WRAPPERS:
        if not (wanted and wanted <= found.keys()):
            found = {name.replace(f".{wrapper}", "."): tensor for name, tensor in found.items()}
    return found, prefix


def _tied(named: Mapping[str, Tensor], path: Path, names: Collection[str]) -> list[tuple[str, str]]:
    """The parameters that are the same tensor as another one, and that one, which ``names`` may decide."""
    first: dict[tuple[object, ...], str] = {}
    tied = []
    for name in sorted(named, key=lambda name: name not in names):
        tensor = named[name]
        _check_dense(tensor, path, name)
        if tensor.numel():
            place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
            if (other := first.setdefault(place, name)) != name:
                tied.append((name, other))
    return tied


# -- tensors ----------------------------------------------------------------------------------------------


def _check_dense(value: Tensor, path: Path, key: str) -> None:
    """Raise :class:`ImportFilesError` if the tensor does not hold all of its values."""
    import torch  # noqa: PLC0415

    if value.is_meta:
        raise ImportFilesError(f"{path}: {key} is on the meta device, without values: save a network with values")
    if value.layout != torch.strided or value.is_nested:
        raise ImportFilesError(f"{path}: {key} has the layout {value.layout}, not a dense one: save its to_dense()")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ImportFilesError(f"{path}: {key} repeats values of a smaller tensor: save its contiguous()")


def _values(value: Tensor, path: Path, key: str) -> NDArray[Any]:
    """The values of a tensor of any type, those of real numbers in float32."""
    import torch  # noqa: PLC0415

    _check_dense(value, path, key)
    values: NDArray[Any] = value.detach().to(torch.float32 if value.is_floating_point() else value.dtype).numpy()
    return values


def _array(value: Tensor, path: Path, key: str) -> NDArray[np.float32]:
    if not value.is_floating_point():
        raise ImportFilesError(
            f"{path}: {key} is {value.dtype}, not a real-valued parameter: if it is a buffer, give its network "
            "(--model), or pass its name to hesstore import --buffers"
        )
    array = _values(value, path, key)
    if not np.isfinite(array).all():
        raise ImportFilesError(f"{path}: {key} has {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    return array


# -- loading ----------------------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    if path.suffix.lower() == ".safetensors":
        return _load_safetensors(path)
    import torch  # noqa: PLC0415

    _check_expansion(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_Ignored, name) for name in _IGNORED]):
            warnings.simplefilter("ignore")  # about formats that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - decoding a file of another kind can raise anything
        if found := _GLOBAL.search(str(error)):
            raise ImportFilesError(
                f"{path}: contains {found[1]}, which is not loaded because that could run code: "
                "save model.state_dict() alone"
            ) from None
        reason = found[1] if (found := _REASON.search(str(error))) else f"{type(error).__name__}: {first_line(error)}"
        raise ImportFilesError(
            f"{path}: cannot be loaded with weights_only=True, is it a file of torch.save? ({reason}): "
            "save model.state_dict()"
        ) from None


def _check_expansion(path: Path) -> None:
    """Raise :class:`ImportFilesError` if the file is an archive that expands; ``torch.save`` does not compress."""
    with (
        contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError),
        zipfile.ZipFile(path) as archive,
    ):
        expanded = sum(member.file_size for member in archive.infolist())
        if expanded > path.stat().st_size:
            raise ImportFilesError(
                f"{path}: expands from {size_text(path.stat().st_size)} to {size_text(expanded)}, but torch.save does "
                "not compress: save model.state_dict() again"
            )


def _load_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError  # noqa: PLC0415 - an optional dependency
        from safetensors.torch import load_file  # noqa: PLC0415
    except ImportError:
        raise ImportFilesError(f'{path}: reading this file needs safetensors: pip install "hesstore[files]"') from None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ImportFilesError(f"{path}: not a valid safetensors file ({first_line(error)})") from None


# -- shapes -----------------------------------------------------------------------------------------------


def shapes_of(named: Mapping[str, NDArray[np.float32]]) -> Shapes:
    """The shapes of the arrays."""
    return {name: array.shape for name, array in named.items()}


def shapes_from_sizes(sizes: Mapping[str, int]) -> Shapes:
    """Shapes inferred from sizes: a weight whose bias has n values has n rows."""
    shapes: Shapes = {}
    for name, size in sizes.items():
        bias = sizes.get(f"{name.removesuffix('weight')}bias", 0) if name.endswith("weight") else 0
        shapes[name] = (bias, size // bias) if bias and size % bias == 0 else (size,)
    return shapes
