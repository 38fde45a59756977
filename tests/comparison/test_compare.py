from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hesstore.comparison.compare import Comparison, Difference, compare, compare_configs
from hesstore.errors import CorruptStoreError
from hesstore.store import Run, Status
from hesstore.store.digest import digest
from hesstore.store.schema import SCHEMA_VERSION, promised_large
from tests.support.analysis_datasets import dataset

L2 = (0.0, 0.01, 0.05)
RUNS = ((0, "up"), (3, "down"))


def store(l2: tuple[float, ...] = L2, runs: tuple[tuple[int, str], ...] = RUNS, k: int = 3, **more: Any) -> xr.Dataset:
    """A store whose values depend on seed, λ and mode, not on positions; some small variables are missing."""
    points = np.array([[10 * seed + value for value in l2] for seed, _ in runs])
    modes = np.stack([points * 0 + 10.0 * (k_ + 1) for k_ in range(k)], -1)
    vectors = np.broadcast_to(np.eye(3, 8, dtype=np.float32)[:k], (*points.shape, k, 8))
    values = {
        "loss": np.stack([points, points + 1], -1),
        "eigenvalues": modes,
        "eigenvectors": vectors,
        "weights": points[..., None] + np.arange(8.0),
        "gradient": points[..., None] - np.arange(8.0),
        "confusion": np.ones((*points.shape, 2, 2, 2)),
        "class_slope": np.zeros((*points.shape, k, 2, 2)),
        "class_curvature": np.zeros((*points.shape, k, 2, 2)),
        "class_gradient_cosine": np.zeros((*points.shape, 2, 2, 2)),
        "fit_seconds": np.random.default_rng().random(points.shape),
        "digest": np.zeros(points.shape),
        **more,
    }
    ds = dataset(l2, values, runs)
    ds = ds.assign_attrs(
        schema_version=SCHEMA_VERSION,
        identity=json.dumps({"k": k, "data_digest": "d", "parameters": [["fc1.weight", [2, 4]]]}),
        config=json.dumps({"k": k, "device": "cpu"}),
        environment=json.dumps({"time": str(np.random.default_rng().random()), "versions": {"torch": "2"}}),
    )
    return with_digests(ds)


def with_digests(ds: xr.Dataset) -> xr.Dataset:
    """A copy of ``ds`` with the digests of its arrays."""
    ds = ds.copy(deep=True)
    names = promised_large(json.loads(ds.attrs["identity"]), Status.COMPLETE)
    for run, index in np.ndindex(ds["digest"].shape):
        arrays = {name: ds[name].values[run, index] for name in names}
        point = Run(run, int(ds["seed"][run]), str(ds["direction"].values[run])), float(ds["l2"][index])
        ds["digest"].values[run, index] = digest(*point, arrays)
    return ds


def by_name(found: Comparison) -> dict[str, Difference]:
    return {each.variable: each for each in found.differences}


def changed(ds: xr.Dataset, name: str, where: tuple[int, ...], value: float) -> xr.Dataset:
    ds = ds.copy(deep=True)
    ds[name].values[where] = value
    return with_digests(ds)


def test_a_store_equals_itself() -> None:
    seen: list[tuple[int, int]] = []
    found = compare(store(), store(), lambda done, total: seen.append((done, total)))
    assert found.same_config
    assert found.same_results
    assert found.environment == {}
    assert (found.common, found.only_a, found.only_b, found.identical) == (6, 0, 0, 6)
    assert seen == [(done, 6) for done in range(1, 7)]
    assert not {"fit_seconds", "digest", "status"} & by_name(found).keys()


def test_the_largest_difference_and_its_grid_point() -> None:
    a, b = store(), store()
    b = changed(changed(b, "weights", (1, 1, 0), 30.5), "weights", (1, 2, 7), 38.05)
    b = changed(b, "confusion", (0, 1, 0, 0, 0), 9)
    found = compare(a, b)
    assert found.same_config
    assert not found.same_results
    assert found.identical == 4
    weights = by_name(found)["weights"]
    assert (weights.differing, weights.run, weights.value) == (2, 1, 0.05)
    assert weights.absolute == pytest.approx(1.0, rel=1e-4)
    assert weights.relative == pytest.approx(1 / 38.05, rel=1e-4)
    assert by_name(found)["confusion"] == Difference("confusion", 1, None, None, 0, 0.01)
    assert by_name(found)["loss"] == Difference("loss", 0, 0.0, 0.0, 0, 0.0)
    assert by_name(compare(b, a))["weights"].differing == 2


def test_grid_points_are_matched_by_seed_direction_and_l2() -> None:
    a, b = store(), store(l2=(0.01, 0.02, 0.05), runs=((3, "down"), (3, "up"), (0, "up")))
    status = np.full((3, 3), 2)
    status[2, 2] = 1
    b["status"].values[:] = status
    found = compare(a, b)
    assert (found.common, found.only_a, found.only_b) == (3, 3, 5)
    assert not any(each.differing for each in found.differences)
    assert not found.same_results


def test_stores_with_different_k_are_compared_up_to_the_smaller_one() -> None:
    found = compare(store(k=2), store())
    assert found.config == {"k": ("2", "3")}
    assert not any(each.differing for each in found.differences)


def test_variables_with_different_shapes_are_listed() -> None:
    found = compare(store(), with_digests(store().isel(param=slice(5))))
    assert found.shapes == dict.fromkeys(("eigenvectors", "gradient", "weights"), ("8 param", "5 param"))
    assert not found.same_results
    assert "loss" in by_name(found)


def test_variables_with_values_in_only_one_store_are_listed() -> None:
    points = np.ones((2, 3))
    a = store(trace=points, epochs=3 * points, residual_norm=np.ones((2, 3, 3)), converged=np.ones((2, 3, 3)))
    b = store(epochs=-points, residual_norm=np.full((2, 3, 3), math.nan), converged=-np.ones((2, 3, 3)))
    b["gradient"].values[:] = math.nan
    found = compare(a, with_digests(b))
    assert found.variables_only_a == ("residual_norm", "converged", "gradient", "epochs", "trace")
    assert found.variables_only_b == ()
    assert found.identical is None  # their large arrays are not the same
    assert not {*found.variables_only_a} & by_name(found).keys()
    assert found.same_results  # the variables that both have are equal
    assert compare(with_digests(b), a).variables_only_b == found.variables_only_a
    without = store().drop_vars("eigenvectors")  # packed without vectors, with the digests of all arrays
    assert compare(without, without).identical is None
    assert compare(without, store()).variables_only_b == ("eigenvectors",)


def test_values_that_an_import_lacks_are_left_out() -> None:
    a = store(epochs=3 * np.ones((2, 3)))
    b = changed(changed(a, "loss", (0, 2, 0), math.nan), "epochs", (1, 1), -1)
    b.attrs["identity"] = json.dumps({**json.loads(b.attrs["identity"]), "imported": "files"})
    found = compare(a, b)
    assert (found.same_config, found.imported, found.gaps) == (True, ("B",), ("loss", "epochs"))
    assert found.same_results
    assert by_name(compare(a, changed(b, "loss", (0, 2, 1), 7.0)))["loss"].differing == 1
    assert not compare(a, changed(b, "epochs", (1, 0), 4)).same_results
    back = compare(
        changed(a, "loss", (0, 1, 0), math.nan), b
    )  # a value that only the sweep lacks is not a gap of the import
    assert by_name(back)["loss"].differing == 1


def test_a_number_in_only_one_store_is_a_difference() -> None:
    loss = by_name(compare(store(), changed(store(), "loss", (0, 2, 0), math.nan)))["loss"]
    assert (loss.differing, loss.value) == (1, 0.05)
    assert math.isnan(loss.absolute or 0.0)


def test_values_are_checked_against_the_digests() -> None:
    a, b = store(), store()
    b["weights"].values[1, 2, 0] += 1
    for first, second, side in ((a, b, "B"), (b, a, "A"), (b, b, "A")):
        with pytest.raises(
            CorruptStoreError, match=rf"^{side}: one of weights, gradient, .* digest of run 1, λ = 0.05: "
        ):
            compare(first, second)
    b = store()
    b["gradient"].values[0, 1] = math.nan
    with pytest.raises(CorruptStoreError, match=r"^B: gradient/c/0/1/0: values are missing"):
        compare(a, b)


def test_config_and_environment() -> None:
    a, b = store(), store()
    b.attrs |= {
        "identity": json.dumps({"k": 3, "data_digest": "e", "parameters": [["fc1.weight", [4, 2]]]}),
        "config": json.dumps({"k": 3, "device": "cuda", "data_dir": ""}),
        "environment": json.dumps({"versions": {"torch": "1"}, "device": {"name": "cpu"}, "threads": {"torch": 2}}),
    }
    found = compare_configs(a, b)
    assert found.config == {"data_digest": ("d", "e"), "parameters": ("fc1.weight 2×4", "fc1.weight 4×2")}
    assert found.environment == {
        "config.device": ("cpu", "cuda"),
        "versions.torch": ("2", "1"),
    }
    assert (found.recorded_only_a, found.recorded_only_b) == ((), ("device.name", "threads.torch"))
    assert compare_configs(b, a).recorded_only_a == found.recorded_only_b
    for name, value in (("identity", "{"), ("config", None), ("environment", "[]")):
        with pytest.raises(CorruptStoreError, match="run hesstore verify for details"):
            compare_configs(a, b.assign_attrs({name: value}))
