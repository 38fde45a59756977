"""A stored config as text: only settings that have an effect, in groups, and what they mean for the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.config import settings
from hesstore.config.networks import is_custom
from hesstore.config.setting_types import as_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAMED = 12
"""Parameter arrays of a network that are named at most."""


def config_lines(config: Mapping[str, Any], parameters: Sequence[tuple[str, Sequence[int]]]) -> Iterator[str]:
    """Yield a line for each group of settings.

    Parameters
    ----------
    config : mapping
        The config of a store.
    parameters : sequence
        The name and the shape of each parameter array.
    """
    groups: dict[str, list[str]] = {}
    ignored = ignored_settings(config)
    for setting in settings():
        value = config.get(setting.name, "")
        if setting.name not in ignored and value != "":
            groups.setdefault(setting.metadata["group"], []).append(f"{setting.name}={_value_text(value)}")
    width = max(map(len, groups), default=0)
    for group, texts in groups.items():
        yield f"  {group:<{width}}  {', '.join(texts)}"
        if group == "Network" and parameters:
            yield f"  {'':<{width}}  {network_text(parameters)}"


def ignored_settings(config: Mapping[str, Any]) -> set[str]:
    """Return the names of settings that have no effect in a config, because another setting switches them off."""
    by_group: dict[str, set[str]] = {}
    for setting in settings():
        by_group.setdefault(setting.metadata["group"], set()).add(setting.name)
    ignored: set[str] = set()
    if is_custom(str(config.get("model"))):
        ignored.add("hidden")
    if config.get("optimizer") != "sgd":
        ignored.add("momentum")
    if not config.get("polish"):
        ignored |= {"polish", "polish_tol"}
    if not config.get("density"):
        ignored |= by_group["Spectral density"]
    if config.get("blocks", "none") == "none":
        ignored |= by_group["Blocks"]
    if not config.get("k"):
        of_analyses = (by_group[name] for name in ("Spectrum", "Class geometry", "Spectral density", "Blocks"))
        ignored |= set().union(*of_analyses) - {"k"}
    ignored |= {name for name in ("chunk_rows", "models", "threads", "memory_gib") if not config.get(name)}
    return ignored


def network_text(parameters: Sequence[tuple[str, Sequence[int]]]) -> str:
    """Return the parameter arrays of a network with their shapes, in the order of the flat weight vector."""
    named = [f"{name}[{'×'.join(map(str, shape))}]" for name, shape in parameters[:_NAMED]]
    more = [f"and {len(parameters) - _NAMED} more"] if len(parameters) > _NAMED else []
    return ", ".join([*named, *more])


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, as_list(value))) if isinstance(value, list) else str(value)
