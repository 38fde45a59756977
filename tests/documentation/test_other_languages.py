"""Tests of the guide's lines in other languages, each where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import hesstore
from hesstore.exporting import export
from tests.documentation.page_examples import Block, blocks
from tests.support.export_stores import make_store
from tests.support.paths import ROOT

PACKAGES = ("zarrita@0.7.5", "hyparquet@1.31.5", "hyparquet-compressors@1.1.2")
PROGRAMS = {
    "r": ("recipe.R", ["Rscript"]),
    "octave": ("recipe.m", ["octave-cli", "--no-gui", "--no-window-system"]),
    "js": ("recipe.mjs", ["node"]),
}
IN_GUIDE = list(blocks(ROOT / "docs" / "guide.md"))
RECIPES = [block for block in IN_GUIDE if block.language in PROGRAMS]
TOOLS = ("ncdump", "h5dump", "ncks", "nccopy")
LINES = [line for block in IN_GUIDE if block.language == "sh" for line in block.text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith(tuple(f"{tool} " for tool in TOOLS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store and the exports that the recipes read."""
    folder = tmp_path_factory.mktemp("languages")
    make_store(folder / "run.zarr")
    store = hesstore.open(folder / "run.zarr")
    export(store, folder / "run.nc", format="netcdf")
    export(store, folder / "tables", format="parquet")
    export(store, folder / "csv-tables", style="tidy")
    return folder


def run(command: list[str], folder: Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.fixture(scope="module")
def node_modules(folder: Path) -> None:
    done = run(["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", *PACKAGES], folder, 120.0)
    if done.returncode:
        pytest.skip("npm cannot install the packages")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.place)
def test_recipes_print_the_largest_eigenvalue(recipe: Block, folder: Path, request: pytest.FixtureRequest) -> None:
    if recipe.language == "js":
        request.getfixturevalue("node_modules")
    name, program = PROGRAMS[recipe.language]
    (folder / name).write_text(recipe.text)
    done = run([*program, name], folder)
    if "there is no package called" in done.stderr or "package was not found" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    expected = float(hesstore.open(folder / "run.zarr")["eigenvalues"][0, 0, 0])
    assert float(done.stdout.split()[-1]) == pytest.approx(expected, rel=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_other_programs(line: str, folder: Path) -> None:
    done = run(line.split(), folder)
    assert (done.returncode, done.stderr) == (0, "")
    expected = float(hesstore.open(folder / "run.zarr")["eigenvalues"][0, 0, 0])
    if "dump" in line:
        assert f"{expected:.5g}" in done.stdout


def test_the_guide_has_recipes() -> None:
    assert {recipe.language for recipe in RECIPES} == PROGRAMS.keys()
    assert [line.split()[0] for line in COMMANDS] == list(TOOLS)
