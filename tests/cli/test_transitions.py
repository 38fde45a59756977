from __future__ import annotations

from pathlib import Path

import pytest

import hesstore
from hesstore import analysis
from tests.support.command_line import RunHesstore
from tests.support.sweeps import results


@pytest.mark.slow
def test_transitions_and_refinement(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    """With a threshold of nearly zero, every change that exceeds the trends is one."""
    arguments = [*toy_arguments, "--l2", "0:0.011:12", "--k", "1", "--lowest", "0"]
    assert run_hesstore("sweep", "s.zarr", *arguments).returncode == 0
    ds = hesstore.open(tmp_path / "s.zarr").load()
    low = ("--threshold", "1e-9")
    found = analysis.transitions(ds, threshold=1e-9)
    assert found.sizes["transition"]
    shown = run_hesstore("transitions", "s.zarr", *low)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"run 0 (seed 0, up): {found.sizes['transition']} transition")
    assert f"  {float(found['l2_from'][0]):g} to {float(found['l2_to'][0]):g}  " in lines[2] + "  "
    losses = analysis.lost_classes(ds).isel(run=0)
    rows = lines[-losses.sizes["label"] :]
    assert [row.split()[0] for row in rows] == [str(label) for label in losses["label"].values]
    assert [row.split()[-1] for row in rows] == [str(count) for count in losses["crossings"].values]
    assert run_hesstore("transitions", "s.zarr", "--quantity", "colour").returncode == 2

    before = results(tmp_path / "s.zarr")
    nothing = run_hesstore("refine", "s.zarr", "--threshold", "1e9")
    assert nothing.returncode == 0
    assert "no transition found: the grid stays as it is" in nothing.stderr
    refined = run_hesstore("refine", "s.zarr", "--points", "1", *low)
    assert refined.returncode == 0, refined.stderr
    grown = results(tmp_path / "s.zarr")
    assert (grown["status"] == 2).all()
    assert grown.sizes["l2"] > 12
    for first, last in zip(found["l2_from"].values, found["l2_to"].values, strict=True):
        assert ((grown["l2"] > first) & (grown["l2"] < last)).any()
    assert grown.sel(l2=before["l2"]).equals(before)

    wide = run_hesstore("refine", "s.zarr", "--at", "0.0015", "--quantity", "accuracy", "--to", "2e-4", "--run", "0")
    assert wide.returncode == 0, wide.stderr
    row = wide.stdout.splitlines()[-1].split()
    assert (row[0], row[3]) == ("0", "accuracy")
    assert 0 < float(row[2]) - float(row[1]) <= 2e-4
    assert row[-1] == f"s.zarr#0,{row[1]}"
    again = run_hesstore("refine", "s.zarr", "--at", "0.0015", "--quantity", "accuracy", "--to", "2e-4", "--run", "0")
    assert again.stdout == wide.stdout
    assert results(tmp_path / "s.zarr").sel(l2=before["l2"]).equals(before)
    for arguments, message in (
        (["--at", "7", "--to", "1e-3"], "λ = 7 is outside the grid"),
        (["--to", "1e-12"], "--to 1e-12 is too small: λ has ten decimals"),
        (["--to", "nan"], "--to nan is too small"),
        (["--transitions", "2"], "--transitions needs --to WIDTH"),
        (["--points", "2", "--to", "1e-3"], "--points can't be combined with --to"),
        (["--at", "0.001", "--to", "1e-3", "--run", "9"], "run 9 does not exist"),
    ):
        bad = run_hesstore("refine", "s.zarr", *arguments)
        assert bad.returncode == 2, bad.stderr
        assert message in bad.stderr
        assert bad.stderr.count("\n") <= 3
