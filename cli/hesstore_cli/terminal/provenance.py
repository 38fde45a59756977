"""The origin of a store as text, for ``hesstore info --provenance``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the provenance among the facts of ``hesstore info --json``, in groups with all values in one column."""
    from hesstore.store.environments import facts_by_group

    first, *others = facts["environments"]
    groups: dict[str, dict[str, Any]] = {
        "store": {
            "fingerprint": facts["fingerprint"],
            "schema": facts["schema_version"],
            "data_digest": facts["data_digest"],
            **({"imported": f"{facts['imported']} files"} if facts["imported"] else {}),
            **({"converted": "; ".join(facts["conversions"])} if facts["conversions"] else {}),
            **({"made": first["time"]} if "time" in first else {}),
        },
        "config": {name: value for name, value in facts["config"].items() if value != ""},
        **facts_by_group(first),
    }
    for number, other in enumerate(others, 1):
        heading = f"continued in environment {number + 1}, {other.get('time', 'at an unknown time')}: differences"
        groups[heading] = dict(_differences(first, other))
    width = max(len(name) for group in groups.values() for name in group)
    yield str(facts["path"])
    for heading, group in groups.items():
        yield from ("", heading, *(f"  {name:<{width}}  {_value_text(value)}" for name, value in group.items()))


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each fact that differs, as ``group.name`` with both values."""
    before, after = _flat(first), _flat(other)
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield name, f"{_value_text(before.get(name))} → {_value_text(after.get(name))}"


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    from hesstore.store.environments import facts_by_group

    groups = facts_by_group(environment)
    return {f"{group}.{name}": value for group, facts in groups.items() for name, value in facts.items()}


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
