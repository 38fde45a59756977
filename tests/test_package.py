from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hesstore
import hesstore_cli

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    names = []
    for package in (hesstore, hesstore_cli):
        names.append(package.__name__)
        names += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return names


def source(name: str) -> str:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text()


def test_public_names() -> None:
    assert sorted(hesstore.__all__) == dir(hesstore)
    for name in hesstore.__all__:
        assert getattr(hesstore, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hesstore.nothing


def test_the_import_loads_no_heavy_packages(environment: dict[str, str]) -> None:
    code = "import sys, hesstore; assert not {'torch', 'numpy', 'xarray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_sweep_loads_no_packages_of_the_analyses(environment: dict[str, str]) -> None:
    code = "import sys, hesstore.engine.sweep; assert not {'xarray', 'pandas', 'dask', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_every_module_says_what_it_is() -> None:
    for name in modules():
        assert importlib.import_module(name).__doc__, name


@pytest.mark.parametrize("name", [name for name in modules() if ">>>" in source(name)])
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_layers() -> None:
    """The import rules of pyproject.toml."""
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_nothing_unpickles() -> None:
    """A store or a weights file that somebody else made must not run code."""
    for name in modules():
        text = source(name)
        assert not re.search(
            r"\b(pickle|dill|cloudpickle|joblib|shelve|marshal)\b|allow_pickle=True|eval\(|exec\(", text
        ), name
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, name
