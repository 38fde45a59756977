from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hesstore.comparing import Comparison, Difference, compare, compare_configs
from hesstore.errors import CorruptStoreError
from tests.analysis.synthetic import dataset

L2 = (0.0, 0.01, 0.05)
RUNS = ((0, "up"), (3, "down"))


def store(l2: tuple[float, ...] = L2, runs: tuple[tuple[int, str], ...] = RUNS, k: int = 3, **more: Any) -> xr.Dataset:
    """What depends on seed, λ and mode, not on where they lie."""
    cells = np.array([[10 * seed + strength for strength in l2] for seed, _ in runs])
    modes = np.stack([cells * 0 + 10.0 * (k_ + 1) for k_ in range(k)], -1)
    vectors = np.broadcast_to(np.eye(3, 8, dtype=np.float32)[:k], (*cells.shape, k, 8))
    values = {
        "loss": np.stack([cells, cells + 1], -1),
        "eigenvalues": modes,
        "eigenvectors": vectors,
        "weights": cells[..., None] + np.arange(8.0),
        "confusion": np.ones((*cells.shape, 2, 2, 2)),
        "fit_seconds": np.random.default_rng().random(cells.shape),
        "digest": np.ones(cells.shape),
        **more,
    }
    ds = dataset(l2, values, runs)
    return ds.assign_attrs(
        schema_version=3,
        identity=json.dumps({"k": k, "data_digest": "d", "parameters": [["fc1.weight", [2, 4]]]}),
        config=json.dumps({"k": k, "device": "cpu"}),
        environment=json.dumps({"time": str(np.random.default_rng().random()), "versions": {"torch": "2"}}),
    )


def by_name(found: Comparison) -> dict[str, Difference]:
    return {each.variable: each for each in found.differences}


def changed(ds: xr.Dataset, name: str, where: tuple[int, ...], value: float) -> xr.Dataset:
    ds = ds.copy(deep=True)
    ds[name].values[where] = value
    return ds


def test_a_store_and_itself() -> None:
    seen: list[tuple[int, int]] = []
    found = compare(store(), store(), lambda done, total: seen.append((done, total)))
    assert found.same_config
    assert found.same_results
    assert found.environment == {}
    assert (found.common, found.only_a, found.only_b, found.identical) == (6, 0, 0, 6)
    assert seen == [(done, 6) for done in range(1, 7)]
    assert not {"fit_seconds", "digest", "status"} & by_name(found).keys()


def test_the_largest_difference_and_where() -> None:
    a, b = store(), store(digest=np.array([[1, 1, 1], [1, 2, 3]]))
    b = changed(changed(b, "weights", (1, 1, 0), 30.5), "weights", (1, 2, 7), 38.05)
    b = changed(b, "confusion", (0, 1, 0, 0, 0), 9)
    found = compare(a, b)
    assert found.same_config
    assert not found.same_results
    assert found.identical == 4
    weights = by_name(found)["weights"]
    assert (weights.differing, weights.run, weights.l2) == (2, 1, 0.05)
    assert weights.absolute == pytest.approx(1.0, rel=1e-4)
    assert weights.relative == pytest.approx(1 / 38.05, rel=1e-4)
    assert by_name(found)["confusion"] == Difference("confusion", 1, None, None, 0, 0.01)
    assert by_name(found)["loss"] == Difference("loss", 0, 0.0, 0.0, 0, 0.0)
    assert by_name(compare(b, a))["weights"].differing == 2


def test_runs_and_strengths_are_matched_by_what_they_are() -> None:
    a, b = store(), store(l2=(0.01, 0.02, 0.05), runs=((3, "down"), (3, "up"), (0, "up")))
    status = np.full((3, 3), 2)
    status[2, 2] = 1
    b["status"].values[:] = status
    found = compare(a, b)
    assert (found.common, found.only_a, found.only_b) == (3, 3, 5)
    assert not any(each.differing for each in found.differences)
    assert not found.same_results


def test_another_k_compares_what_both_have() -> None:
    found = compare(store(k=2), store())
    assert found.config == {"k": ("2", "3")}
    assert not any(each.differing for each in found.differences)


def test_what_one_lacks_or_has_in_another_shape() -> None:
    b = store(trace=np.ones((2, 3))).isel(param=slice(5))
    found = compare(store(), b)
    assert found.missing == {
        "eigenvectors": ("8 param", "5 param"), "weights": ("8 param", "5 param"), "trace": ("–", "")
    }  # fmt: skip
    assert not found.same_results
    assert "loss" in by_name(found)


def test_a_number_against_none() -> None:
    loss = by_name(compare(store(), changed(store(), "loss", (0, 2, 0), math.nan)))["loss"]
    assert (loss.differing, loss.l2) == (1, 0.05)
    assert math.isnan(loss.absolute or 0.0)


def test_large_arrays_with_the_same_digest_are_not_read() -> None:
    a, b = store(), changed(store(), "weights", (0, 0, 0), 99)
    assert by_name(compare(a, b))["weights"].differing == 0  # what the digest says is believed: verify checks it
    b.attrs["schema_version"] = 2
    assert by_name(compare(a, b))["weights"].differing == 1  # it covers other arrays


def test_config_environment_and_the_rest() -> None:
    a, b = store(), store()
    b.attrs |= {
        "identity": json.dumps({"k": 3, "data_digest": "e", "parameters": [["fc1.weight", [4, 2]]]}),
        "config": json.dumps({"k": 3, "device": "cuda", "data_dir": ""}),
        "environment": json.dumps({"torch": "2", "threads": {"torch": 2}}),
    }
    found = compare_configs(a, b)
    assert found.config == {"data_digest": ("d", "e"), "parameters": ("fc1.weight 2×4", "fc1.weight 4×2")}
    assert found.environment == {
        "config.device": ("cpu", "cuda"),
        "versions.torch": ("2", "–"),
        "threads.torch": ("–", "2"),
        "environment.torch": ("–", "2"),
    }
    for name, value in (("identity", "{"), ("config", None)):
        with pytest.raises(CorruptStoreError, match="hesstore verify says more"):
            compare_configs(a, b.assign_attrs({name: value}))
