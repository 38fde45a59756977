"""The names of networks: ``mlp``, ``linear:L``, or ``module:factory`` for custom code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINEAR = "linear:"
_MOST_LAYERS = 1000


def linear_layers(model: str) -> int | None:
    """Return the number of layers L of ``linear:L``; None for other names.

    Raises
    ------
    ValueError
        If L is not a whole number from 1 to 1000.
    """
    if not model.startswith(_LINEAR):
        return None
    text = model.removeprefix(_LINEAR)
    layers = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_LAYERS)) else 0
    if not 1 <= layers <= _MOST_LAYERS:
        raise ValueError(
            f"{model!r} is not linear:L with a number of layers L from 1 to {_MOST_LAYERS}, as in linear:3"
        )
    return layers


def hidden_widths(model: str, hidden: Sequence[int]) -> tuple[int, ...]:
    """Return the width of each hidden layer of the network called ``model``.

    Those of ``linear:L`` are ``hidden`` if it has L − 1 widths; if all widths in ``hidden`` are equal, all hidden
    layers have this width.

    Raises
    ------
    ValueError
        If ``hidden`` has another number of different widths.
    """
    layers = linear_layers(model)
    if layers is None or len(hidden) == layers - 1:
        return tuple(hidden)
    if len(set(hidden)) > 1:
        wanted = f"give one width, or {layers - 1}" if layers > 2 else "give one width"
        raise ValueError(
            f"{','.join(map(str, hidden))} does not fit the {layers - 1} hidden layers of {model}: {wanted}"
        )
    return (hidden[0],) * (layers - 1)


def is_custom(model: str) -> bool:
    """Whether ``model`` names a network that comes from the user's code."""
    return model != "mlp" and not model.startswith(_LINEAR)


def named_code(dataset: str, model: str) -> dict[str, str]:
    """Return those of the settings ``dataset`` and ``model`` that name code to be run."""
    return {
        **({"dataset": dataset} if ":" in dataset else {}),
        **({"model": model} if ":" in model and is_custom(model) else {}),
    }
