from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import RunHesstore


def test_the_config_of_a_store(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    """It creates the same store again, or a variation of it."""
    assert run_hesstore("sweep", "a.zarr", *toy_arguments, "--l2", "0.01").returncode == 0
    printed = run_hesstore("config", "--of", "a.zarr")
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()
    assert "l2 = [0.01]  # a.zarr" in lines
    assert 'optimizer = "adam"  # default' in lines
    (tmp_path / "c.toml").write_text(printed.stdout)
    again = run_hesstore("sweep", "a.zarr", "--config", "c.toml")
    assert again.returncode == 0, again.stderr
    assert "nothing was left to compute" in again.stderr
    varied = run_hesstore("config", "--of", "a.zarr", "--config", "c.toml", "--seeds", "4").stdout.splitlines()
    assert "seeds = [4]  # --seeds" in varied
    assert "l2 = [0.01]  # c.toml" in varied


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--of", "none.zarr"], 2, "no such store"),
        (["--of", "a.zarr", "--preset", "paper"], 2, "--of replaces --preset"),
        (["--of", "a.zarr", "--k", "x"], 2, "k: 'x' is not a whole number"),
    ],
)
def test_bad_input(run_hesstore: RunHesstore, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    if arguments[1] == "a.zarr":
        (tmp_path / "a.zarr").mkdir()
        attributes = '{"schema_version": 1, "config": "{}", "identity": "{}", "environment": "{}", "runs": "[]"}'
        (tmp_path / "a.zarr" / "zarr.json").write_text(
            f'{{"zarr_format": 3, "node_type": "group", "attributes": {attributes}}}'
        )
    done = run_hesstore("config", *arguments)
    assert done.returncode == status
    (line,) = done.stderr.strip().splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["sweeep", "x.zarr"], "Did you mean 'sweep'?"),
        (["sweep", "x.zarr", "--epoch", "3"], "'--epochs'"),
        (["sweep", "x.zarr", "--dataset", "minst"], "did you mean mnist?"),
        (["sweep", "x.zarr", "--dataset", "mnist-5k", "--device", "cdua"], "did you mean cuda?"),
        (["plot", "sumary", "x.zarr", "-o", "x.svg"], "did you mean summary?"),
        (["export", "x.zarr", "--format", "parket"], "did you mean parquet?"),
        (["export", "x.zarr", "--style", "clasic"], "did you mean classic?"),
        (["export", "x.zarr", "--only", "gradient"], "did you mean gradients?"),
        (["import", "files", "x.zarr", "--set", "modle=mlp"], "did you mean model?"),
        (["completion", "fisch"], "did you mean fish?"),
    ],
)
def test_did_you_mean(run_hesstore: RunHesstore, arguments: list[str], hint: str) -> None:
    done = run_hesstore(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert hint in line
