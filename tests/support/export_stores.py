"""Stores with random or given numbers, made without a sweep."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hesstore.config import SweepConfig
from hesstore.store import Run, Status, StoreSpec, SweepStore
from hesstore.store.digest import reference_digest
from hesstore.store.writing import PROMISES

_MADE = tempfile.TemporaryDirectory()
"""The first store that was made with each set of arguments, as long as this process lives."""

SHAPES = (("fc1.weight", (3, 2)), ("fc1.bias", (3,)), ("fc2.weight", (2, 3)), ("fc2.bias", (2,)))


def make_store(
    path: Path,
    *,
    l2: Sequence[float] = (0.0, 0.0002, 0.01),
    seeds: Sequence[int] = (3,),
    direction: str = "up",
    k: int = 3,
    lowest: int = 1,
    penalty: str = "half",
    shapes: Sequence[tuple[str, tuple[int, ...]]] = SHAPES,
    classes: int = 2,
    statuses: Mapping[tuple[int, int], Status] | None = None,
    values: Mapping[str, Any] | None = None,
    seed: int = 0,
    has_center: bool = False,
) -> SweepStore:
    """Make a store with random numbers.

    ``statuses`` has the status by (run, index) of grid points that are not complete; ``values`` are recorded at every
    grid point. With ``has_center``, the penalty has a centre. A store that was made before is copied.
    """
    arguments = (l2, seeds, direction, k, lowest, penalty, shapes, classes, statuses, values, seed, has_center)
    first = Path(_MADE.name) / hashlib.sha256(repr(arguments).encode()).hexdigest()
    if first.exists():
        shutil.copytree(first, path.with_name("copying")).rename(path)  # others see the whole store, as always
        return SweepStore.open(path)
    config = SweepConfig.from_mapping(
        {"l2": list(l2), "seeds": list(seeds), "direction": direction, "k": k, "lowest": lowest, "penalty": penalty}
    )
    parameters = [[name, list(shape)] for name, shape in shapes]
    references = {"center": np.ones(size_of(shapes), np.float32)} if has_center else {}
    digests = {name: reference_digest(weights) for name, weights in references.items()}
    spec = StoreSpec(
        grid=config.l2,
        runs=tuple(Run(index, *run) for index, run in enumerate(config.runs())),
        k=k,
        num_classes=classes,
        parameters=shapes,
        identity={**config.identity(), "data_digest": "0" * 64, "parameters": parameters, **digests},
        references=references,
        attrs={
            "config": json.dumps(config.to_mapping()),
            "penalty_scale": config.penalty_scale,
            "environment": json.dumps({"versions": {"torch": "2"}}),
        },
    )
    store = SweepStore.create(path, spec)
    rng = np.random.default_rng(seed)
    for run in store.runs:
        with store.claim(run):
            for index, l2_value in enumerate(spec.grid):
                status = (statuses or {}).get((run.id, index), Status.COMPLETE)
                if status != Status.PENDING:
                    store.record(run, index, status, {**consistent_values(spec, rng, l2_value), **(values or {})})
    if values is None:  # the text of a large array leaves numbers out
        shutil.copytree(path, first)
    return store


def consistent_values(spec: StoreSpec, rng: np.random.Generator, l2: float) -> dict[str, Any]:
    """Random results of one grid point that agree with each other where an export shows it."""
    sizes = spec.sizes
    found: dict[str, Any] = {}
    for variable in (each for each in spec.variables if each.name not in PROMISES):
        shape = tuple(sizes[dim] for dim in variable.dims[2:])
        if variable.dtype == "string":
            found[variable.name] = "text"
        elif variable.dtype in {"i1", "i4"}:
            found[variable.name] = rng.integers(0, 2 if variable.dtype == "i1" else 50, shape).astype(variable.dtype)
        else:
            found[variable.name] = rng.normal(size=shape).astype(variable.dtype)
    if spec.k <= found["eigenvectors"].shape[1]:
        found["eigenvectors"] = np.ascontiguousarray(np.linalg.qr(found["eigenvectors"].T)[0].T)
    peaks = np.abs(found["eigenvectors"]).argmax(1)
    signs = np.sign(found["eigenvectors"][np.arange(spec.k), peaks])
    found["eigenvectors"] *= signs[:, None] / np.linalg.norm(found["eigenvectors"], axis=1, keepdims=True)
    found["eigenvalues"] = found["eigenvalues"][np.argsort(-np.abs(found["eigenvalues"]), kind="stable")]
    found["confusion"] += 1
    hits, rows = np.diagonal(found["confusion"], axis1=1, axis2=2), found["confusion"].sum(2)
    found["class_accuracy"], found["accuracy"] = hits / rows, hits.sum(1) / rows.sum(1)
    found["loss"] = np.abs(found["loss"])
    found["weights_norm"] = float(np.linalg.norm(found["weights"].astype(np.float64)))
    found["penalty"] = 0.5 * l2 * found["weights_norm"] ** 2
    return found


def size_of(shapes: Sequence[tuple[str, tuple[int, ...]]]) -> int:
    """P, the number of parameters."""
    return sum(math.prod(shape) for _, shape in shapes)
