from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hesstore
from hesstore.custom_code import guarded, load_factory
from hesstore.errors import CallbackError, DataError, HesstoreError, ModelError
from hesstore.problem import models, training_data
from tests.support.command_line import RunHesstore
from tests.support.toy import TOY

Write = Callable[[str], str]
DATA = """
import numpy as np
def data():
    x, y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
    return x, y, x, y
"""
MODEL = """
import sys
from torch import nn
class Net(nn.Linear):
    def forward(self, x):
        sys.exit(5)
def net(shape, classes):
    return Net(shape[0], classes)
"""


LAZY = """class Lazy:
    ndim = 2
    def __array__(self, *a, **k):
        raise RuntimeError('file is closed')
def data():
    return (Lazy(),) * 4
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Write:
    """Write the user's module into the working folder, and return its name."""
    name = f"mine_{abs(hash(request.node.name))}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("import sys\nsys.exit(3)\n", r"importing '\w+' ended the program with sys.exit\(3\)", 2),
        ("raise BaseException('odd')\n", r"can't import '\w+' \(BaseException: odd", 1),
        ("def data():\n    raise GeneratorExit\n", r"raised GeneratorExit", 2),
        ("raise SystemExit\n", r"ended the program with sys.exit\(\)", 1),
        ("import os\nexit('no GPU')\n", r"ended the program with sys.exit\('no GPU'\)", 2),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', required=True)\np.parse_args()\n",
            r"sys.exit\(2\) after printing 'mine_\w+: error: the following arguments are required: --lr'",
            4,
        ),
        ("x = 1\ny = (\n", r"can't import '\w+' \(SyntaxError: ", 2),
        ("\n\nimport no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'", 3),
        ("def data():\n    return open('no.csv')\n", "raised FileNotFoundError: ", 2),
        ("import sys\ndef data():\n    sys.exit('bye')\n", r"ended the program with sys.exit\('bye'\)", 3),
        ("import json\ndef data():\n\n    return json.loads('{')\n", "raised JSONDecodeError: Expecting", 4),
        (
            LAZY,
            "raised RuntimeError: file is closed",
            4,
        ),
    ],
)
def test_one_error_names_module_and_line(module: Write, text: str, message: str, line: int) -> None:
    name = module(text)
    with pytest.raises(DataError, match=message) as caught:
        training_data.load(f"{name}:data")
    assert f"'{name}:data'" in str(caught.value)
    assert f"{name}.py" in str(caught.value)
    assert f" line {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_ends_the_program(module: Write) -> None:
    name = module(MODEL)
    model = models.build(f"{name}:net", (), (2,), 2, seed=0)
    data = training_data.load("tests.support.toy:digits")
    with pytest.raises(ModelError, match=rf"'Net' ended the program with sys.exit\(5\), .*{name}.py line 6"):
        model.logits(model.theta(), data.train.x[:, :2])


def test_the_users_code_sees_none_of_our_arguments(module: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hesstore", "sweep", "--lr", "7"])
    name = module(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', default=1)\n"
        "lr = p.parse_args().lr\ndef get():\n    return lr\n"
    )
    assert load_factory(f"{name}:get", HesstoreError)() == 1
    assert sys.argv == ["hesstore", "sweep", "--lr", "7"]


def watch(event: object) -> None:
    sys.exit("enough")


def count(done: int, total: int) -> None:
    raise ZeroDivisionError(f"{done} of {total}")


def missing(out: torch.Tensor) -> torch.Tensor:
    return {"logits": out}["scores"]


def no_tensor(out: torch.Tensor) -> float:
    return float(out.shape[0])


HERE = r", .*test_custom_code.py line \d+"


def test_callbacks(tmp_path: Path) -> None:
    """The store is that of an interrupted sweep, which continues."""
    path, config = tmp_path / "s.zarr", {**TOY, "l2": "0,0.01", "k": 0, "epochs": 1}

    def refused(message: str, **callbacks: Any) -> None:
        with pytest.raises(CallbackError, match=message):
            hesstore.run_sweep(config, path, **callbacks)

    refused(
        r"'observer=tests.test_custom_code.watch' ended the program with sys.exit\('enough'\)" + HERE, observer=watch
    )
    refused("stop: 7 is not a function", stop=7)
    with pytest.raises(CallbackError, match=f"'stop={__name__}.*' returned Tensor, which is neither true nor false"):
        guarded("stop", lambda: torch.zeros(2))()
    assert hesstore.run_sweep(config, path).complete == 2
    with pytest.raises(CallbackError, match=f"'progress={__name__}.count' raised ZeroDivisionError: .* of .*{HERE}"):
        hesstore.export(path, tmp_path / "out", progress=count)
    hesstore.export(path, tmp_path / "out")
    net, x, y = torch.nn.Linear(2, 2), torch.randn(6, 2), torch.arange(6) % 2
    with pytest.raises(HesstoreError, match=f"'output={__name__}.missing' raised KeyError: 'scores'{HERE}"):
        hesstore.Hessian(net, x, y, output=missing)
    with pytest.raises(HesstoreError, match="to float, not to 6 outputs"):
        hesstore.Hessian(net, x, y, output=no_tensor)  # type: ignore[arg-type]


def test_output_goes_to_stderr(module: Write, capsys: pytest.CaptureFixture[str]) -> None:
    name = module(f"print('imported')\n{DATA.replace('def data():', 'def data():' + chr(10) + '    print(7)')}")
    assert len(training_data.load(f"{name}:data").train.y) == 4
    assert capsys.readouterr() == ("", "imported\n7\n")


def test_the_command_line(module: Write, run_hesstore: RunHesstore, tmp_path: Path) -> None:
    name = module("import sys\nsys.exit(3)\n")
    done = run_hesstore("sweep", "s.zarr", "--dataset", f"{name}:data")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"importing '{name}' ended the program with sys.exit(3)" in line
    assert not (tmp_path / "s.zarr").exists()
