"""Tasks for Dask workers that break. They stand in a module, because pickled functions are found by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hesstore.engine.dask_executor import compute

if TYPE_CHECKING:
    from hesstore.engine.collection import Collection
    from hesstore.engine.dask_executor import Kind
    from hesstore.engine.outcome import Outcome
    from hesstore.store.schema import Point

tried: list[tuple[Kind, float]] = []
"""The kind and λ of each task that broke in this process."""


def out_of_memory_at_one_grid_point(
    version: str,
    location: str,
    config: str,
    collection: Collection | None,
    kind: Kind,
    point: Point,
    start: Point | None,
) -> Outcome:
    if kind == "analysis" and point.value == 0.001:
        tried.append((kind, point.value))
        raise MemoryError("not enough of it")
    return compute(version, location, config, collection, kind, point, start)


def breaking_once(
    version: str,
    location: str,
    config: str,
    collection: Collection | None,
    kind: Kind,
    point: Point,
    start: Point | None,
) -> Outcome:
    if (kind, point.value) not in tried:
        tried.append((kind, point.value))
        raise OSError("once")
    return compute(version, location, config, collection, kind, point, start)


def of_another_version(
    version: str,
    location: str,
    config: str,
    collection: Collection | None,
    kind: Kind,
    point: Point,
    start: Point | None,
) -> Outcome:
    return compute(f"{version}0", location, config, collection, kind, point, start)


def returning_other_numbers(
    version: str,
    location: str,
    config: str,
    collection: Collection | None,
    kind: Kind,
    point: Point,
    start: Point | None,
) -> Outcome:
    outcome = compute(version, location, config, collection, kind, point, start)
    assert outcome.arrays_digest is not None
    return replace(outcome, arrays_digest=outcome.arrays_digest ^ 1)


def returning_another_norm(
    version: str,
    location: str,
    config: str,
    collection: Collection | None,
    kind: Kind,
    point: Point,
    start: Point | None,
) -> Outcome:
    outcome = compute(version, location, config, collection, kind, point, start)
    return replace(outcome, values={**outcome.values, "weights_norm": 7.0})
