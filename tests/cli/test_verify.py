from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hesstore.store import Status, SweepStore
from tests.conftest import Done

Hesstore = Callable[..., Done]


@pytest.fixture
def store(hesstore: Hesstore, toy_arguments: list[str], tmp_path: Path) -> Path:
    assert hesstore("sweep", "s.zarr", *toy_arguments).returncode == 0
    return tmp_path / "s.zarr"


def test_verify_repair_and_sweep(hesstore: Hesstore, toy_arguments: list[str], store: Path) -> None:
    """The main path; data on stdout, talk on stderr."""
    told = hesstore("verify", "s.zarr")
    assert (told.returncode, told.stdout) == (0, "")
    assert told.stderr.startswith("s.zarr: all is well in ")
    assert told.stderr.endswith(" files: 4 complete λ\n")

    deep = hesstore("verify", "s.zarr", "--deep", "--trust", "--sample", 1)
    assert deep.returncode == 0
    assert "1 λ calculated again, 4 eigenpairs of each" in deep.stderr
    untrusted = hesstore("verify", "s.zarr", "--deep")
    assert untrusted.returncode == 2
    assert "--trust" in untrusted.stderr

    (store / "weights/c/0/2/0").unlink()
    (store / "gradient/c/0/1/.0.12.partial").write_bytes(b"half")
    told = hesstore("verify", "s.zarr")
    assert told.returncode == 5
    assert told.stdout == "run 0  λ = 0.01  weights: the file weights/c/0/2/0 is missing\n"
    assert "left by a killed process: s.zarr/gradient/c/0/1/.0.12.partial; --repair removes it" in told.stderr
    assert told.stderr.endswith("hesstore: s.zarr: 1 bad λ, 1 damaged files: hesstore verify s.zarr --repair\n")

    facts = json.loads(hesstore("verify", "s.zarr", "--json").stdout)
    assert facts["ok"] is False
    assert facts["l2"] == {"complete": 4}
    (problem,) = facts["problems"]
    assert problem == {
        "run": 0,
        "l2": 0.01,
        "what": "weights: the file weights/c/0/2/0 is missing",
        "file": "weights/c/0/2/0",
    }

    repaired = hesstore("verify", "s.zarr", "--repair")
    assert repaired.returncode == 0
    assert repaired.stdout == told.stdout
    assert "1 λ are pending now: run the same hesstore sweep again" in repaired.stderr
    assert "3 complete λ" in repaired.stderr
    assert hesstore("sweep", "s.zarr", *toy_arguments).returncode == 0
    facts = json.loads(hesstore("verify", "s.zarr", "--json").stdout)
    assert facts["ok"] is True
    assert facts["l2"] == {"complete": 4}
    assert facts["problems"] == facts["leftovers"] == facts["remarks"] == []


def test_what_can_not_be_repaired(hesstore: Hesstore, store: Path) -> None:
    file = store / "zarr.json"
    file.write_bytes(file.read_bytes()[:-5])
    told = hesstore("verify", "s.zarr", "--repair")
    assert told.returncode == 5
    assert told.stdout.startswith("zarr.json: is missing or is not JSON\n")
    assert "can't be repaired: restore it from a copy" in told.stderr
    facts = json.loads(hesstore("verify", "s.zarr", "--repair", "--json").stdout)
    assert [problem["file"] for problem in facts["repair"]["remaining"]] == ["zarr.json", None]


def test_what_is_no_store_and_what_is_busy(hesstore: Hesstore, store: Path) -> None:
    assert hesstore("verify", "none.zarr").returncode == 2
    driven = SweepStore.open(store)
    with driven.claim(driven.runs[0]):
        busy = hesstore("verify", "s.zarr", "--repair")
        assert busy.returncode == 1
        assert "run 0 of this store is being computed by process" in busy.stderr
        assert hesstore("verify", "s.zarr").returncode == 0


def test_results_that_only_a_calculation_can_doubt_are_repaired(hesstore: Hesstore, store: Path) -> None:
    driven = SweepStore.open(store)
    run = driven.runs[0]
    loss = np.asarray(driven.read("loss", run, 0)) * 1.01
    driven.put_entries(run, 0, Status.COMPLETE, {"loss": loss}, None)
    assert hesstore("verify", "s.zarr").returncode == 0
    told = hesstore("verify", "s.zarr", "--deep", "--trust", "--json", "--repair")
    assert told.returncode == 0
    facts = json.loads(told.stdout)
    assert {problem["what"].split(":")[0] for problem in facts["problems"]} == {"loss"}
    assert facts["repair"]["pending"] == [{"run": 0, "index": 0}]
    assert facts["l2"] == {"complete": 3, "pending": 1}
