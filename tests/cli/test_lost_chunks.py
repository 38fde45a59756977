"""Every kind of chunk, deleted, truncated and flipped in turn, under every command: nothing wrong is handed on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hesstore
from hesstore import analysis, plots
from hesstore.errors import CorruptStoreError
from hesstore_cli.main import run
from tests.support.command_line import RunHesstore
from tests.support.lost_chunks import COMMANDS, DAMAGES, OPTIONS, SOME, Damage, chunks, hold_all, is_silent


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("lost") / "s.zarr"
    assert run(["sweep", str(store), *OPTIONS, "-qq"]) == 0
    return store


@pytest.mark.parametrize("command", ["csv", "transitions"])
def test_commands_on_lost_chunks(run_hesstore: RunHesstore, swept: Path, tmp_path: Path, command: str) -> None:
    hold_all(run_hesstore, swept, tmp_path, command, SOME)


@pytest.mark.slow  # minutes in all
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_on_every_kind_of_lost_chunk(
    run_hesstore: RunHesstore, swept: Path, tmp_path: Path, command: str
) -> None:
    assert hold_all(run_hesstore, swept, tmp_path, command) > 50


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("names", [SOME[:4], pytest.param((), marks=[pytest.mark.slow])], ids=["some", "all"])
def test_opening_with_a_check(swept: Path, tmp_path: Path, damage: Damage, names: tuple[str, ...]) -> None:
    store = shutil.copytree(swept, tmp_path / "s.zarr")
    for file in chunks(store, names):
        whole, name = file.read_bytes(), file.relative_to(store).parts[0]
        damage(file)
        if not is_silent(name, damage, "open"):
            with pytest.raises(CorruptStoreError) as caught:
                hesstore.open(store, check=True, chunked=False)
            assert str(file.relative_to(store)) in str(caught.value)
        file.write_bytes(whole)


def test_gradients_of_another_grid_point_are_not_exported(
    run_hesstore: RunHesstore, swept: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(swept, tmp_path / "s.zarr")
    first, second = (store / f"gradient/c/0/{index}/0" for index in (0, 1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for style in ("classic", "tidy"):
        done = run_hesstore("export", "s.zarr", "--only", "gradients", "--style", style, "-o", style)
        assert (done.returncode, "gradient/c/0/0/0" in done.stderr) == (5, True)


def test_figures_and_analyses_check_what_they_read(swept: Path, tmp_path: Path) -> None:
    store = shutil.copytree(swept, tmp_path / "s.zarr")
    (store / "eigenvalues/c/0/0/0").unlink()
    for action in (
        lambda: plots.spectrum(store),
        lambda: plots.spectrum(hesstore.open(store)),
        lambda: analysis.transitions(hesstore.open(store)),
        hesstore.open(store).hess.transitions,
    ):
        with pytest.raises(CorruptStoreError, match="eigenvalues/c/0/0/0"):
            action()
