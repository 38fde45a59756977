from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hesstore.store import Status, SweepStore
from hesstore.store.writing import Entries
from tests.support.command_line import RunHesstore


@pytest.fixture
def store(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> Path:
    assert run_hesstore("sweep", "s.zarr", *toy_arguments).returncode == 0
    return tmp_path / "s.zarr"


def test_verify_repair_and_sweep(run_hesstore: RunHesstore, toy_arguments: list[str], store: Path) -> None:
    """The main path: data goes to stdout, messages go to stderr."""
    shown = run_hesstore("verify", "s.zarr")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.startswith("s.zarr: no damage in ")
    assert shown.stderr.endswith(" files; grid points: 4 complete\n")

    deep = run_hesstore("verify", "s.zarr", "--deep", "--trust", "--sample", 1)
    assert deep.returncode == 0
    assert "; 1 recomputed, 5 eigenpairs each; by a new search, the spectrum is complete to 0.3 %" in deep.stderr
    untrusted = run_hesstore("verify", "s.zarr", "--deep")
    assert untrusted.returncode == 2
    assert "--trust" in untrusted.stderr

    (store / "weights/c/0/2/0").unlink()
    (store / "gradient/c/0/1/.0.12.partial").write_bytes(b"half")
    shown = run_hesstore("verify", "s.zarr")
    assert shown.returncode == 5
    assert shown.stdout == "run 0  λ = 0.01  weights: the file weights/c/0/2/0 is missing\n"
    assert "left by a killed process: s.zarr/gradient/c/0/1/.0.12.partial; --repair removes it" in shown.stderr
    assert shown.stderr.endswith(
        "hesstore: s.zarr: 1 bad grid point, 1 damaged file: hesstore verify s.zarr --repair\n"
    )

    facts = json.loads(run_hesstore("verify", "s.zarr", "--json").stdout)
    assert facts["ok"] is False
    assert facts["l2"] == {"complete": 4}
    (problem,) = facts["problems"]
    assert problem == {
        "run": 0,
        "l2": 0.01,
        "what": "weights: the file weights/c/0/2/0 is missing",
        "file": "weights/c/0/2/0",
    }

    repaired = run_hesstore("verify", "s.zarr", "--repair")
    assert repaired.returncode == 0
    assert repaired.stdout == shown.stdout
    assert "1 grid point marked pending: run the same hesstore sweep or analyse again" in repaired.stderr
    assert "grid points: 1 pending, 3 complete" in repaired.stderr
    assert run_hesstore("sweep", "s.zarr", *toy_arguments).returncode == 0
    facts = json.loads(run_hesstore("verify", "s.zarr", "--json").stdout)
    assert facts["ok"] is True
    assert facts["l2"] == {"complete": 4}
    assert facts["problems"] == facts["leftovers"] == facts["remarks"] == []


def test_damage_that_cannot_be_repaired(run_hesstore: RunHesstore, store: Path) -> None:
    file = store / "zarr.json"
    file.write_bytes(file.read_bytes()[:-5])
    shown = run_hesstore("verify", "s.zarr", "--repair")
    assert shown.returncode == 5
    assert shown.stdout.startswith("zarr.json: is missing or is not JSON\n")
    assert "cannot be repaired: restore the store from a copy" in shown.stderr
    facts = json.loads(run_hesstore("verify", "s.zarr", "--repair", "--json").stdout)
    assert [problem["file"] for problem in facts["repair"]["remaining"]] == ["zarr.json", None]


def test_missing_and_busy_stores(run_hesstore: RunHesstore, store: Path) -> None:
    assert run_hesstore("verify", "none.zarr").returncode == 2
    driven = SweepStore.open(store)
    with driven.claim(driven.runs[0]):
        busy = run_hesstore("verify", "s.zarr", "--repair")
        assert busy.returncode == 1
        assert "run 0 of this store is being computed by process" in busy.stderr
        assert run_hesstore("verify", "s.zarr").returncode == 0


@pytest.mark.slow
def test_results_that_only_deep_finds_wrong_are_repaired(run_hesstore: RunHesstore, store: Path) -> None:
    driven = SweepStore.open(store)
    run = driven.runs[0]
    loss = np.asarray(driven.read("loss", run, 0)) * 1.01
    driven.put_together(run, [Entries(0, Status.COMPLETE, {"loss": loss}, None)])
    assert run_hesstore("verify", "s.zarr").returncode == 0
    shown = run_hesstore("verify", "s.zarr", "--deep", "--trust", "--json", "--repair")
    assert shown.returncode == 0
    facts = json.loads(shown.stdout)
    assert {problem["what"].split(":")[0] for problem in facts["problems"]} == {"loss"}
    assert facts["repair"]["pending"] == [{"run": 0, "index": 0}]
    assert facts["deep"]["spectra"]["total"] == 4
    assert facts["l2"] == {"complete": 3, "pending": 1}
