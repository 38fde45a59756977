from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hesstore import open as open_store
from hesstore.config import SweepConfig
from hesstore.engine import environment
from hesstore.engine.sweep import run_sweep
from hesstore.errors import CorruptStoreError
from hesstore.store.environments import environments, record_environment
from hesstore.store.places.folder import FolderPlace
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store

MakeConfig = Callable[..., SweepConfig]


def known(path: Path) -> list[dict[str, Any]]:
    return environments(FolderPlace(path), open_store(path).attrs)


def test_each_environment_is_recorded_once(tmp_path: Path, run_hesstore: RunHesstore) -> None:
    path = tmp_path / "s.zarr"
    store = make_store(path)
    record_environment(store, {"time": "2026-01-01", "versions": {"torch": "2"}})
    assert not (path / "environments").exists()  # the one that it was made in
    for day, cpu in enumerate("BCB", 2):
        record_environment(store, {"time": f"2026-01-0{day}", "machine": {"cpu": cpu, "cores": 2}})
    assert [each.get("time") for each in known(path)] == [None, "2026-01-03", "2026-01-04"]

    verified = run_hesstore("verify", "s.zarr")
    assert "environments" not in verified.stdout + verified.stderr
    assert run_hesstore("export", "s.zarr", "--format", "zip", "-o", "s.zarr.zip").returncode == 0
    facts = json.loads(run_hesstore("info", "s.zarr.zip", "--json").stdout)
    assert facts["environments"] == known(path)
    told = [line.split() for line in run_hesstore("info", "s.zarr", "--provenance").stdout.splitlines()]
    for line in (
        ["fingerprint", facts["fingerprint"]],
        ["data_digest", "0" * 64],
        ["torch", "2"],
        ["versions.torch", "2", "→", "–"],
        ["machine.cpu", "–", "→", "B"],
    ):
        assert line in told

    (record, _) = sorted((path / "environments").iterdir())
    record.write_text(record.read_text().replace("cores", "kores"))
    with pytest.raises(CorruptStoreError, match=record.name):
        known(path)
    assert run_hesstore("info", "s.zarr", "--provenance").returncode == 5
    assert f"environments/{record.name}" in run_hesstore("verify", "s.zarr").stdout


@pytest.mark.slow
@pytest.mark.slow
def test_a_sweep_that_goes_on_elsewhere(
    toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growing keeps what is known."""
    path, small = tmp_path / "s.zarr", {"k": 2, "probes": 0, "response": 0, "epochs": 1}

    def on(cpu: str) -> None:
        monkeypatch.setattr(environment, "describe", lambda _: {"time": f"of {cpu}", "machine": {"cpu": cpu}})

    on("A")
    config = toy_config(l2="0,0.01", **small)
    run_sweep(config, path, stop=lambda: True)
    on("B")
    run_sweep(config, path)
    on("C")
    run_sweep(config, path)  # nothing is left to compute
    assert [each["machine"]["cpu"] for each in known(path)] == ["A", "B"]
    on("D")
    run_sweep(toy_config(l2="0,0.01,0.02", **small), path, grow=True)
    made, *others = known(path)
    assert [each["machine"]["cpu"] for each in (made, *others)] == ["D", "A", "B"]
    assert made["sizes"] == {"models": 1, "chunk_rows": 128}
