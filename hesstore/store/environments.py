"""The environments in which a store was filled.

The environment in which the store was made is one of its attributes. A sweep that continues in another environment (on
another machine, with other versions or another number of threads) writes the file ``environments/DIGEST.json``. A sweep
that continues in the same environment writes nothing, so that an interrupted sweep ends with the same files as one that
was not interrupted. DIGEST is the digest of the file's contents without the time, which is that of the last such sweep.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hesstore.config import fingerprint
from hesstore.errors import CorruptStoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hesstore.store.places.place import Place
    from hesstore.store.writing import SweepStore

FOLDER = "environments"
TIME = "time"


def record_environment(store: SweepStore, environment: Mapping[str, Any]) -> None:
    """Record that a sweep continues in ``environment``, unless the store was made in the same one."""
    key = _key(environment)
    if key != _key(json.loads(str(store.group.attrs["environment"]))):
        store.place.put(key, json.dumps(environment, indent=2).encode())


def environments(place: Place, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the environments in which a store was filled: first the one in which it was made, then by last use.

    Where files can't be listed, as on a web server, only the first one is known.

    Raises
    ------
    CorruptStoreError
        If the file of an environment is damaged.
    """
    others = [_read(place, key) for key in (place.names() if place.can_list else ()) if is_record(key)]
    return [json.loads(str(attributes["environment"])), *sorted(others, key=lambda found: str(found.get(TIME)))]


def facts_by_group(environment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facts of an environment by group, without the time.

    Examples
    --------
    >>> facts_by_group({"time": "2026-01-01", "threads": {"torch": 2}})
    {'threads': {'torch': 2}}
    """
    return {group: dict(facts) for group, facts in environment.items() if group != TIME}


def is_record(key: str) -> bool:
    """Whether a file of a store records an environment, according to its name."""
    return key.startswith(f"{FOLDER}/") and key.endswith(".json") and "/." not in key


def is_sound(key: str, data: bytes) -> bool:
    """Whether ``data`` has the digest that the name of its file contains."""
    try:
        return _key(json.loads(data)) == key
    except (ValueError, AttributeError, RecursionError):
        return False


def _read(place: Place, key: str) -> dict[str, Any]:
    data = place.fetch(key)
    if not is_sound(key, data):
        raise CorruptStoreError(f"{place}: {key} is damaged: restore it from a copy or remove it")
    found: dict[str, Any] = json.loads(data)
    return found


def _key(environment: Mapping[str, Any]) -> str:
    lasting = {name: value for name, value in environment.items() if name != TIME}
    return f"{FOLDER}/{fingerprint(lasting)[:16]}.json"
