from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from hesstore.engine import environment
from tests.support.paths import ROOT


def test_facts_are_plain_values_without_names_of_people_or_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    facts: dict[str, Any] = json.loads(json.dumps(environment.describe(torch.device("cpu"))))
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["threads"]["torch"] == torch.get_num_threads()
    assert facts["variables"]["MKL_CBWR"] == "COMPATIBLE"
    assert facts["machine"]["cores"] >= facts["machine"]["cores_usable"] >= 1
    assert facts["numerics"]["float32_matmul_precision"] == "highest"
    assert facts["numerics"]["flushes_denormals"] is False
    assert "gpu" not in facts["device"]
    text = json.dumps(facts)
    assert platform.node() not in text
    assert str(Path.home()) not in text


def test_numerical_settings_are_the_current_ones() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor can't flush")
    torch.set_float32_matmul_precision("high")
    try:
        found = environment.describe(torch.device("cpu"))["numerics"]
    finally:
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("highest")
    assert isinstance(found, dict)
    assert (found["flushes_denormals"], found["float32_matmul_precision"]) == (True, "high")


def test_the_commit_of_a_checkout() -> None:
    asked = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    facts = environment.describe(torch.device("cpu")).get("source")
    if asked.returncode or not (ROOT / ".git").exists():
        assert facts is None
    else:
        assert isinstance(facts, dict)
        assert facts["git_commit"] == asked.stdout.strip()


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("", ""),
        ("processor\t: 0\nmodel name\t: Intel(R) Xeon(R): 2.20GHz\n\nprocessor\t: 1", "Intel(R) Xeon(R): 2.20GHz"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nCPU architecture: 8\n", ""),
    ],
)
def test_processors(cpuinfo: str, model: str) -> None:
    assert environment.cpu_model(cpuinfo) == model
