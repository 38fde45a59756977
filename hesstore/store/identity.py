"""The identity of a store, which decides its results, and its differences from the one that is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def identity_of(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the identity of a store, from its root attributes."""
    identity: dict[str, Any] = json.loads(str(attributes["identity"]))
    return identity


def differences(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], keys: Iterable[str]
) -> dict[str, tuple[str, str]]:
    """Return the values of those ``keys`` that differ, as text: (in the store, asked for)."""
    return {key: (str(stored.get(key)), str(wanted.get(key))) for key in keys if stored.get(key) != wanted.get(key)}


def describe(found: Mapping[str, tuple[str, str]]) -> str:
    """Describe differences in one line: ``k is 10 in the store, 30 in the config; …``."""
    return "; ".join(f"{key} is {old} in the store, {new} in the config" for key, (old, new) in found.items())
