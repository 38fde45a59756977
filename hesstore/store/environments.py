"""In which environments a store was filled: that of its making is among its attributes, others lie beside its arrays.

``environments/DIGEST.json`` is written, whole, by a sweep that goes on in an environment that is not the attribute's:
on another machine, with other versions or threads. Sweeps in the same one leave nothing, so that an interrupted sweep
ends with the files of one that was not. The digest is that of the contents without the time, which is the last such
sweep's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hesstore.config import fingerprint
from hesstore.errors import CorruptStoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hesstore.store.places.base import Place
    from hesstore.store.writing import SweepStore

FOLDER = "environments"
TIME = "time"

_NOW = {
    "git_commit": ("source", "git_commit"),
    "platform": ("machine", "platform"),
    "device": ("device", "name"),
    "threads": ("threads", "torch"),
}
"""Group and name of what the first stores recorded, but for versions."""


def record_environment(store: SweepStore, environment: Mapping[str, Any]) -> None:
    """Record that a sweep goes on in ``environment``, which has its time, unless the store was made in the same one."""
    key = _key(environment)
    if key != _key(json.loads(str(store.group.attrs["environment"]))):
        store.place.put(key, json.dumps(environment, indent=2).encode())


def environments(place: Place, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The environments in which the store at ``place`` was filled: that of its making, then others by their last use.

    Raises
    ------
    CorruptStoreError
        If the record of one is damaged.
    """
    others = [_read(place, key) for key in place.names() if is_record(key)]
    return [json.loads(str(attributes["environment"])), *sorted(others, key=lambda found: str(found.get(TIME)))]


def grouped(environment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The facts of an environment by group, without the time; the first stores recorded a few, without groups.

    Examples
    --------
    >>> grouped({"torch": "2", "device": "cuda:0 (A100)", "threads": 2})
    {'versions': {'torch': '2'}, 'device': {'name': 'cuda:0', 'gpu': 'A100'}, 'threads': {'torch': 2}}
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, fact in environment.items():
        if isinstance(fact, dict):
            groups.setdefault(name, {}).update(fact)
        elif name != TIME:
            group, now = _NOW.get(name, ("versions", name))
            groups.setdefault(group, {})[now] = fact
    device, _, gpu = str(groups.get("device", {}).get("name", "")).partition(" (")
    if gpu:  # of a processor it was the architecture, which the platform says too
        groups["device"] |= {"name": device, **({"gpu": gpu.removesuffix(")")} if device.startswith("cuda") else {})}
    return groups


def is_record(key: str) -> bool:
    """Whether a file of a store is such a record, by its name."""
    return key.startswith(f"{FOLDER}/") and key.endswith(".json") and "/." not in key


def is_sound(key: str, data: bytes) -> bool:
    """Whether the record ``data`` is what its name says."""
    try:
        return _key(json.loads(data)) == key
    except (ValueError, AttributeError):
        return False


def _read(place: Place, key: str) -> dict[str, Any]:
    data = place.fetch(key)
    if not is_sound(key, data):
        raise CorruptStoreError(f"{place}: {key} is damaged: restore it from a copy, or remove it")
    found: dict[str, Any] = json.loads(data)
    return found


def _key(environment: Mapping[str, Any]) -> str:
    lasting = {name: value for name, value in environment.items() if name != TIME}
    return f"{FOLDER}/{fingerprint(lasting)[:16]}.json"
