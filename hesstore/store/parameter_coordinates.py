"""The labels of the entries of a flat parameter vector. This module imports no torch, since the store uses it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


PARAMETRIZATION = ".parametrizations."
"""What PyTorch puts between the name of a layer and the parameters that one of its weights is made of."""


def layer_of(parameter: str) -> str:
    """Return the layer of a parameter: the module that it belongs to, or itself if that is the network.

    A parametrization belongs to the layer of its weight.
    """
    layer = parameter.partition(PARAMETRIZATION)[0] if PARAMETRIZATION in parameter else parameter.rpartition(".")[0]
    return layer or parameter


def layer_names(parameters: Iterable[tuple[str, Sequence[int]]]) -> list[str]:
    """Return the layers of parameters, each once, in the order of the parameters."""
    return list(dict.fromkeys(layer_of(name) for name, _ in parameters))


def parameter_coordinates(parameters: Iterable[tuple[str, Sequence[int]]]) -> dict[str, NDArray[np.generic]]:
    """Return the labels of the P entries of parameters that follow each other in a vector, each in C order.

    Parameters
    ----------
    parameters : iterable of (str, sequence of int)
        The name, such as ``fc1.weight``, and the shape of each parameter.

    Returns
    -------
    dict
        ``layer`` and ``kind`` (object arrays of str: ``fc1``, ``weight``), ``out_index`` (first index) and
        ``in_index`` (index over the remaining axes, flattened; −1 for parameters with one axis), int32.
    """
    layers, kinds, sizes, outs, ins = [], [], [], [], []
    for name, shape in parameters:
        size = math.prod(shape)
        layers.append(layer_of(name))
        kinds.append(name.rpartition(".")[2])
        sizes.append(size)
        rows = shape[0] if shape else 1
        columns = size // rows if rows else 0
        outs.append(np.repeat(np.arange(rows, dtype=np.int32), columns))
        inner = np.arange(columns, dtype=np.int32) if len(shape) > 1 else np.full(columns, -1, np.int32)
        ins.append(np.tile(inner, rows))
    return {
        "layer": np.repeat(np.array(layers, dtype=object), sizes),
        "kind": np.repeat(np.array(kinds, dtype=object), sizes),
        "out_index": np.concatenate([*outs, np.empty(0, np.int32)]),
        "in_index": np.concatenate([*ins, np.empty(0, np.int32)]),
    }


def statistic_names(statistics: Iterable[tuple[str, Sequence[int]]]) -> NDArray[np.object_]:
    """Return the name of the buffer of each entry of running statistics that follow each other in a vector.

    Parameters
    ----------
    statistics : iterable of (str, sequence of int)
        The name, such as ``bn1.running_mean``, and the shape of each buffer.
    """
    names = [name for name, shape in statistics for _ in range(math.prod(shape))]
    return np.array(names, dtype=object)
