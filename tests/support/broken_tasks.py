"""Tasks for Dask workers that break. They stand in a module, because pickled functions are found by name.

They take the arguments of :func:`~hesstore.engine.dask_executor.compute`, the last of which are kind, point and start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hesstore.engine.dask_executor import compute

if TYPE_CHECKING:
    from hesstore.engine.dask_executor import Kind
    from hesstore.engine.outcome import Outcome

tried: list[tuple[Kind, float]] = []
"""The kind and λ of each task that broke in this process."""


def out_of_memory_at_one_grid_point(*task: Any) -> Outcome:
    *_, kind, point, _ = task
    if kind == "analysis" and point.value == 0.001:
        tried.append((kind, point.value))
        raise MemoryError("not enough of it")
    return compute(*task)


def breaking_once(*task: Any) -> Outcome:
    *_, kind, point, _ = task
    if (kind, point.value) not in tried:
        tried.append((kind, point.value))
        raise OSError("once")
    return compute(*task)


def of_another_version(version: str, *others: Any) -> Outcome:
    return compute(f"{version}0", *others)


def returning_other_numbers(*task: Any) -> Outcome:
    outcome = compute(*task)
    assert outcome.arrays_digest is not None
    return replace(outcome, arrays_digest=outcome.arrays_digest ^ 1)


def returning_another_norm(*task: Any) -> Outcome:
    outcome = compute(*task)
    return replace(outcome, values={**outcome.values, "weights_norm": 7.0})
