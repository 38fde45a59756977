from __future__ import annotations

import json
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest

from hesstore import open as open_store
from hesstore.store.schema import BY_NAME
from hesstore.store.writing import SweepStore
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """Two stores with the same numbers, and one with a lower k."""
    for name, k in (("a.zarr", 3), ("b.zarr", 3), ("k2.zarr", 2)):
        make_store(tmp_path / name, l2=(0.0, 0.01), k=k)
    return tmp_path


def test_the_same_store(run_hesstore: RunHesstore, stores: Path) -> None:
    done = run_hesstore("diff", "a.zarr", "b.zarr")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "grid points complete in both stores: 2, only in A: 0, only in B: 0",
        "2 of 2 have identical bytes in all large arrays (weights, eigenvectors, …)",
        "all values are the same",
    ]


def test_results_that_differ(run_hesstore: RunHesstore, stores: Path) -> None:
    rmtree(stores / "b.zarr")
    loss, other = map(float, open_store(stores / "a.zarr")["loss"][0, 1])
    make_store(stores / "b.zarr", l2=(0.0, 0.01), values={"loss": [9.0, other]})
    store = SweepStore.open(stores / "b.zarr")
    with store.claim(store.runs[0]):
        store.withdraw(store.runs[0], [0])
    done = run_hesstore("diff", "a.zarr", "b.zarr")
    assert done.returncode == 1
    assert "grid points complete in both stores: 1, only in A: 1, only in B: 0" in done.stdout
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("loss "))
    assert line == ["loss", "1", "of", "1", f"{9 - loss:.2g}", f"{(9 - loss) / 9:.2g}", "run", "0,", "λ", "=", "0.01"]
    assert (
        "the same in both stores: eigenvalues, residual_norm, eigenvalue_bound, converged, eigenvectors" in done.stdout
    )
    facts = json.loads(run_hesstore("diff", "a.zarr", "b.zarr", "--json").stdout)
    assert (facts["same_config"], facts["same_results"]) == (True, False)
    (found,) = (each for each in facts["differences"] if each["differing"])
    assert found["absolute"] == 9 - loss


def test_configs_that_differ(run_hesstore: RunHesstore, stores: Path) -> None:
    for options in ([], ["--config-only"]):
        done = run_hesstore("diff", "a.zarr", "k2.zarr", *options)
        assert done.returncode == 3
        assert [line.split() for line in done.stdout.splitlines()[:2]] == [["config", "A", "B"], ["k", "3", "2"]]
    assert "the configs differ" in done.stdout
    facts = json.loads(run_hesstore("diff", "a.zarr", "b.zarr", "--config-only", "--json").stdout)
    assert (facts["same_config"], facts["same_results"]) == (True, None)
    assert run_hesstore("diff", "a.zarr", "b.zarr", "--config-only").stdout == "the configs are the same\n"


@pytest.mark.slow  # seconds
def test_damaged_or_missing_bytes(run_hesstore: RunHesstore, stores: Path) -> None:
    """Equal digests do not prove that the values are still readable."""
    for key in ("weights/c/0/1/0", "eigenvectors/c/0/1/0/0", "class_slope/c/0/1/0/0/0", "loss/c/0/0/0"):
        chunk = stores / "b.zarr" / key
        sound = chunk.read_bytes()
        middle = len(sound) // 2
        chunk.write_bytes(sound[:middle] + b"\xa5\x5a\xa5\x5a" + sound[middle + 4 :])
        damaged = run_hesstore("diff", "a.zarr", "b.zarr")
        chunk.unlink()
        gone = run_hesstore("diff", "a.zarr", "b.zarr")
        chunk.write_bytes(sound)
        assert (damaged.returncode, damaged.stdout, gone.returncode, gone.stdout) == (5, "", 5, "")
        assert f"{key} is damaged" in damaged.stderr
        assert f"b.zarr: {key}: is missing or empty" in gone.stderr
    labels = stores / "b.zarr/l2/c/0"
    sound = labels.read_bytes()
    labels.write_bytes(sound[:-1])
    assert run_hesstore("diff", "a.zarr", "b.zarr").returncode == 5  # 1 would mean that they differ
    labels.write_bytes(sound)
    assert run_hesstore("diff", "a.zarr", "b.zarr").returncode == 0


def test_an_import(run_hesstore: RunHesstore, stores: Path) -> None:
    """Missing values are named and do not count as differences; neither does the import itself."""
    rmtree(stores / "b.zarr")
    shape = {name: open_store(stores / "a.zarr")[name].shape[2:] for name in ("gradient", "trace", "confusion")}
    none = {name: np.full(sizes, BY_NAME[name].fill) for name, sizes in shape.items()}
    make_store(stores / "b.zarr", l2=(0.0, 0.01), values=none)
    document = stores / "b.zarr/zarr.json"
    metadata = json.loads(document.read_text())
    attributes = metadata["attributes"]
    identity = {**json.loads(attributes["identity"]), "imported": "d1e"}
    attributes |= {"identity": json.dumps(identity), "environment": "{}"}
    document.write_text(json.dumps(metadata))
    done = run_hesstore("diff", "a.zarr", "b.zarr")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "B was imported from files",
        "recorded only in A: versions.torch",
        "results only in A: gradient, confusion, trace",
        "",
        "grid points complete in both stores: 2, only in A: 0, only in B: 0",
        "all values that can be compared are the same",
    ]
    facts = json.loads(run_hesstore("diff", "b.zarr", "a.zarr", "--json").stdout)
    assert facts["variables_only_b"] == ["gradient", "confusion", "trace"]
    assert (facts["imported"], facts["identical"], facts["same_config"]) == (["A"], None, True)
    assert run_hesstore("diff", "a.zarr", "b.zarr", "--config-only").stdout.endswith("\n\nthe configs are the same\n")


def test_stores_that_cannot_be_compared(
    run_hesstore: RunHesstore, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run_hesstore("diff", "a.zarr", "none.zarr")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "none.zarr: no such store" in missing.stderr
    chunk = next(file for file in (stores / "b.zarr/accuracy/c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    damaged = run_hesstore("diff", "a.zarr", "b.zarr")
    assert damaged.returncode == 5
    assert "hesstore verify" in damaged.stderr

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "a.zarr")

    monkeypatch.setattr("hesstore.comparison.compare.compare", fail)
    assert run_hesstore("diff", "a.zarr", "a.zarr").returncode == 2  # 1 would mean that they differ
