"""What ``Train_Reg_Loss`` adds to ``Train_Loss``: in tables in the forms that the authors publish."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import hesstore
from hesstore.errors import ImportFilesError
from hesstore.importing import ImportSummary, import_files
from hesstore.integrity.verify import verify
from tests.support.export_stores import make_store

L2 = np.array([0.0, 0.0002, 0.01, 0.05])
NORMS = np.array([90.0, 31.0, 9.0, 2.0])


def write(path: Path, scale: float, column: str = "r0", norms: Any = NORMS) -> Path:
    """Write a table with 9 decimals; the column with norms is left out if its name is empty."""
    loss = np.array([0.01, 0.05, 0.5, 1.9])
    columns = {"L2_strength": L2, "Train_Loss": loss, "Train_Reg_Loss": loss + scale * L2 * NORMS**2}
    pd.DataFrame({**columns, **({column: norms} if column else {})}).round(9).to_csv(path)
    return path


def imported(path: Path, **options: Any) -> tuple[np.ndarray, str, ImportSummary]:
    """Return the penalties over λ‖θ‖² at λ > 0, the form of the penalty, and the summary."""
    store = path.parent / "s.zarr"
    summary = import_files(path, store, **options)
    ds = hesstore.open(store).load().sel(run=0)
    assert verify(store).ok
    return ds["penalty"].values[1:] / (L2 * NORMS**2)[1:], json.loads(ds.attrs["config"])["penalty"], summary


@pytest.mark.parametrize(
    ("scale", "column", "options", "factor", "penalty", "reason"),
    [
        (1, "r0", {}, 0.5, "half", "is 0.5 times Train_Reg_Loss − Train_Loss, which is λ‖θ‖², as r0 shows"),
        (1, "r0", {"settings": {"penalty": "full"}}, 1, "full", "is Train_Reg_Loss − Train_Loss, which is λ‖θ‖²"),
        (0.5, "r0", {}, 0.5, "half", "is Train_Reg_Loss − Train_Loss, which is 0.5·λ‖θ‖², as r0 shows"),
        (0.5, "r0", {"settings": {"penalty": "full"}}, 1, "full", "is 2 times Train_Reg_Loss − Train_Loss"),
        (1, "r4", {}, 1, "full", "which is λ‖θ − θ_ref‖², as r4 shows"),
        (0.5, "r0-r1", {}, 0.5, "half", "which is 0.5·λ‖θ − θ_ref‖², as r0-r1 shows"),
        (1, "", {}, 0.5, "half", "taken as λ‖θ‖², as in the published tables, because no norm shows it"),
        (0.5, "", {"reg_loss": "objective"}, 0.5, "half", "as --reg-loss objective says"),
        (1, "", {"reg_loss": "full"}, 0.5, "half", "as --reg-loss full says"),
    ],
)
def test_the_penalty_is_that_of_the_objective(
    tmp_path: Path, scale: float, column: str, options: dict[str, Any], factor: float, penalty: str, reason: str
) -> None:
    found, form, summary = imported(write(tmp_path / "lr_1.csv", scale, column), **options)
    assert found == pytest.approx(np.full(3, factor), rel=1e-5)
    assert form == penalty
    assert any(f"lr_1.csv: the penalty {reason}" in line or reason in line for line in summary.account.conversions)


def test_distances_to_a_reference_that_is_not_centred(tmp_path: Path) -> None:
    """Distances of another size show nothing about the penalty; norms of another size are an error."""
    path = write(tmp_path / "lr_1.csv", 1, "r4", 10 * NORMS)
    _, form, summary = imported(path)
    assert form == "half"
    assert any("because no norm shows it" in line for line in summary.account.conversions)
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert ds["distance"].values[0].tolist() == (10 * NORMS).tolist()
    assert ds["distance"].attrs["reference"] == "that of the column r4 of lr_1.csv"
    assert ds["distance"].dims == ("run", "l2")
    write(path, 1, "r0", 10 * NORMS)
    with pytest.raises(ImportFilesError, match=r"lr_1\.csv: Train_Reg_Loss − Train_Loss is 0\.01 times λ‖θ‖² with the"):
        import_files(path, tmp_path / "t.zarr")
    import_files(path, tmp_path / "t.zarr", reg_loss="full")


def test_distances_to_several_references(tmp_path: Path) -> None:
    paths = [write(tmp_path / "x_1.csv", 1, "r4"), write(tmp_path / "x_2.csv", 1, "r5")]
    with pytest.raises(ImportFilesError, match=r"x_2\.csv: has the distances r5, but .*x_1\.csv has r4: import each"):
        import_files(paths, tmp_path / "t.zarr")
    with pytest.raises(ImportFilesError, match="reg_loss: 'half' is not one of full, objective"):
        import_files(paths, tmp_path / "t.zarr", reg_loss="half")


def test_norms_of_another_training_are_reported(tmp_path: Path) -> None:
    """In one of the published tables, the norms were copied from another one."""
    _, _, summary = imported(write(tmp_path / "lr_1.csv", 1, "r0", NORMS * [1, 1, 1.1, 1]))
    (line,) = (line for line in summary.account.conversions if "another training" in line)
    assert line == (
        "lr_1.csv: r0: at 1 of 3 λ, Train_Reg_Loss − Train_Loss is not λ·r0², by up to 17% at λ = 0.01: the column may "
        "be that of another training"
    )


def test_weights_show_the_norm_if_the_table_does_not(tmp_path: Path) -> None:
    write(tmp_path / "Model-0.csv", 0.5, "")
    weights = torch.full((3, 3), NORMS[2] / 3)
    torch.save({"a": weights}, tmp_path / "model_weights-0-0.01000.pth")
    summary = import_files(tmp_path, tmp_path / "s.zarr")
    assert any("0.5·λ‖θ‖², as model_weights-0-0.01000.pth shows" in line for line in summary.account.conversions)


@pytest.mark.parametrize(("reg_loss", "penalty"), [("full", "half"), ("objective", "full")])
def test_the_manifest_says_which_it_is(tmp_path: Path, reg_loss: str, penalty: str) -> None:
    make_store(tmp_path / "s.zarr", penalty=penalty)
    hesstore.export(tmp_path / "s.zarr", tmp_path / "a", only=["accuracy"], reg_loss=reg_loss)
    import_files(tmp_path / "a", tmp_path / "t.zarr")
    first, again = (hesstore.open(tmp_path / name).load() for name in ("s.zarr", "t.zarr"))
    assert np.allclose(first["penalty"], again["penalty"], rtol=1e-12)
    assert math.isclose(first.attrs["penalty_scale"], again.attrs["penalty_scale"])
    with (tmp_path / "a" / "manifest.jsonl").open("a") as manifest:
        manifest.write("no entry\n")
    with pytest.raises(ImportFilesError, match=r"manifest\.jsonl: line 3 is not an entry of a manifest"):
        import_files(tmp_path / "a", tmp_path / "u.zarr")
