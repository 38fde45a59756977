"""The program that the first owner of a GPU is asked to run, on a stand-in device."""

from __future__ import annotations

import pytest

from tests.benchmarks import gpu
from tests.benchmarks.benchmark_settings import Settings
from tests.support.stand_in_device import Machine


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_finds_everything_right(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "STACKS", (1, 2))
    monkeypatch.setattr(gpu, "STEPS", 2)
    settings = Settings(rows=300, hidden=(6, 5), k=3, repeats=1, device="cuda")
    facts, checked, timed = gpu.run(settings)
    assert {"group": "device", "name": "gpu", "value": "stand-in"} in facts.rows
    assert {row["result"] for row in checked.rows} == {"right"}
    assert len(checked.rows) == 9 + len(gpu.COMPARED)
    assert len(timed.rows) == 2
