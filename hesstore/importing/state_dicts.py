"""Reads the weights in ``.pth`` and safetensors files. Nothing but tensors is unpickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import ImportFilesError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Shapes = dict[str, tuple[int, ...]]
"""The shapes of the parameters by name, in the order of the ``state_dict``."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_weights(path: Path, shapes: Shapes | None = None) -> dict[str, NDArray[np.float32]]:
    """The parameters by name; if ``shapes`` is given, names and shapes must agree with it, and it gives the order.

    The state dict may be wrapped, as in ``{"state_dict": …}``, and all of its keys may begin with ``module.``, a
    prefix that data-parallel training adds. Nothing but tensors is unpickled.
    """
    loaded = _load(path)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded:
        raise ImportFilesError(f"{path}: expected a state_dict, found {type(loaded).__name__}")
    if all(str(key).startswith("module.") for key in loaded):
        loaded = {str(key).removeprefix("module."): value for key, value in loaded.items()}
    found = {str(key): _array(value, path, str(key)) for key, value in loaded.items()}
    if shapes is None:
        return found
    unknown, missing = [key for key in found if key not in shapes], [key for key in shapes if key not in found]
    if unknown:
        raise ImportFilesError(f"{path}: unknown key {unknown[0]!r}: expected the keys {', '.join(shapes)}")
    if missing:
        raise ImportFilesError(f"{path}: missing key {missing[0]!r}: expected the keys {', '.join(shapes)}")
    for key, shape in shapes.items():
        if found[key].shape != shape:
            raise ImportFilesError(f"{path}: {key}: expected the shape {shape}, found {found[key].shape}")
    return {key: found[key] for key in shapes}


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    import torch  # noqa: PLC0415 - the other kinds of file do not need it

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - decoding a file of another kind can raise anything
        raise ImportFilesError(
            f"{path}: cannot be loaded with weights_only=True ({first_line(error)}): save its state_dict()"
        ) from None


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


def _array(value: Any, path: Path, key: str) -> NDArray[np.float32]:
    import torch  # noqa: PLC0415

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ImportFilesError(
            f"{path}: {key} is {what}, not a real-valued parameter: save only the parameters, without buffers"
        )
    array: NDArray[np.float32] = value.detach().to(torch.float32).numpy()
    if not np.isfinite(array).all():
        raise ImportFilesError(f"{path}: {key} has {int((~np.isfinite(array)).sum())} values that are NaN or infinite")
    return array


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
