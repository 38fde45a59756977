from __future__ import annotations

import json
from pathlib import Path

import pytest

from hesstore.errors import ImportFilesError
from hesstore.importing.sources import find_sources


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text("1\n")
    return [folder / name for name in names]


def test_files_by_their_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("Model-0_split_accuracy.csv", "Model-0.csv", "Model-12.csv.gz"),
        *("Hessian-eigenvalues-0-0.00020.csv", "Hessian-eigenvectors-0-0.00020.csv.zst", "gradients-3-1e-05.csv"),
        *("model_weights-0-0.00020.pth", "model_weights-1-0.00020.safetensors", "notes.txt", ".hidden.csv"),
    )
    found = find_sources([tmp_path])
    assert {run: path.name for run, path in found.tables.items()} == {
        0: "Model-0_split_accuracy.csv",
        12: "Model-12.csv.gz",
    }
    assert list(found.files["gradients"]) == [(3, "1e-05")]
    assert sorted(found.files["weights"]) == [(0, "0.00020"), (1, "0.00020")]
    assert [path.name for path in found.ignored] == ["notes.txt"]
    assert {run: path.name for run, path in found.replaced.items()} == {0: "Model-0.csv"}
    assert found.runs == [0, 1, 3, 12]
    before = found.digest()
    (tmp_path / "gradients-3-1e-05.csv").write_text("1\n2\n")
    assert find_sources([tmp_path]).digest() != before
    assert find_sources([tmp_path / "Model-12.csv.gz"]).runs == [12]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "nothing to import"),
        (["a.txt"], "nothing to import"),
        (["best.pth"], "best.pth: the name does not have the form model_weights-ID-L2.pth: compute"),
        (["gradients-0-0.1.csv", "gradients-0-0.1.csv.gz"], "has the same run and λ as"),
        (["Model-0.csv", "Model-0.csv.gz"], "has the same run and λ as"),
        (["Model-5000.csv"], "run ID 5000 is above the limit of 999"),
    ],
)
def test_paths_without_files_to_import(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ImportFilesError, match=message):
        find_sources([tmp_path])


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ImportFilesError, match="no such file or folder"):
        find_sources([tmp_path / "nowhere"])


def test_tables_are_recognised_by_their_columns(tmp_path: Path) -> None:
    """The published tables have other names, with numbers that begin at 1."""
    names = ("lr=0.0015_2.csv", "lr=0.0015_4_split_accuracies.csv", "lr=0.0015_4.csv", "lr=0.0015_7.csv.gz")
    for name in names:
        (tmp_path / name).write_text(",L2_strength,r0\n0,0.0,1\n")
    (tmp_path / "other_7.csv").write_text("a,b\n1,2\n")
    found = find_sources([tmp_path])
    assert {run: path.name for run, path in found.tables.items()} == {0: names[0], 1: names[1], 2: names[3]}
    assert found.numbers == {0: 2, 1: 4, 2: 7}
    assert {run: path.name for run, path in found.replaced.items()} == {1: names[2]}
    assert [path.name for path in found.ignored] == ["other_7.csv"]
    (tmp_path / "lr=0.015_1.csv").write_text("L2_strength\n0\n")
    with pytest.raises(ImportFilesError, match="belongs to another series than"):
        find_sources([tmp_path])
    for name in ("lr=0.0015_07.csv", "lr=0.0015_4_split_accuracy.csv"):
        (tmp_path / name).write_text("L2_strength\n0\n")
        with pytest.raises(ImportFilesError, match="has the same run and λ as"):
            find_sources([tmp_path / each for each in (*names, name)])
        (tmp_path / name).unlink()


def test_tables_join_the_other_files_of_their_run(tmp_path: Path) -> None:
    tables = touch(tmp_path, "lr=0.0015_1.csv", "lr=0.0015_2.csv")
    for table in tables:
        table.write_text("L2_strength\n0\n")
    (spectrum,) = touch(tmp_path, "Hessian-eigenvalues-0-0.00020.csv")
    assert find_sources([tables[0], spectrum]).runs == [0]
    assert find_sources([tables[1], spectrum]).runs == [0]
    assert find_sources([*tables, spectrum]).tables == {0: tables[0], 1: tables[1]}
    spectrum.rename(tmp_path / "Hessian-eigenvalues-1-0.00020.csv")
    assert find_sources([tables[0], tmp_path / "Hessian-eigenvalues-1-0.00020.csv"]).runs == [1]
    with pytest.raises(ImportFilesError, match=r"the run could be 1, .*, or 0, .*: rename the file to Model-1\.csv or"):
        find_sources([tmp_path])


def test_files_of_a_path_between_minima(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{kind}-0-0.00020-[3_to_4].csv" for kind in ("Hessian-eigenvalues", "gradients")))
    touch(tmp_path, "model_weights-0-0.00020-[3_to_4].pth")
    assert list(find_sources([tmp_path]).files["weights"]) == [(0, "0.00020")]
    touch(tmp_path, "gradients-0-0.00040.csv")
    with pytest.raises(ImportFilesError, match="belongs to another series than"):
        find_sources([tmp_path])


@pytest.mark.parametrize("identity", [7, {"axis": 3}, {"parameters": [["w", [-1]]]}, {"parameters": {"w": [3]}}])
def test_a_damaged_manifest_is_named(tmp_path: Path, identity: object) -> None:
    (tmp_path / "Hessian-eigenvalues-0-0.00100.csv").write_text("1\n")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"fingerprint": "f", "identity": identity}) + "\n")
    with pytest.raises(ImportFilesError, match=r"manifest.jsonl: line 1 is damaged: its identity"):
        find_sources([tmp_path])
