"""Files that somebody made to do harm: names that control a terminal or a page, and small files that expand."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from hesstore.errors import DataError
from hesstore.importing import text_lines
from hesstore.problem.idx_files import read_idx
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store

EVIL = "fc<script>alert(1)</script>\x1b[2J\x9b1m\u202e$x^"
SHAPES = ((f"{EVIL}.weight", (3, 2)), (f"{EVIL}.bias", (3,)), ("head.weight", (2, 3)), ("head.bias", (2,)))
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
NESTED = "[" * 100_000


@pytest.mark.slow
def test_names_cannot_control_a_terminal_or_a_page(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    name = f"{EVIL}.zarr".replace("/", "")
    make_store(tmp_path / name, shapes=SHAPES)
    for arguments in (
        *(("info", name), ("info", name, "--provenance"), ("list",), ("status", name), ("status", f"no{name}")),
        *(("transitions", name), ("verify", name), ("diff", name, name), ("config", "--of", name)),
        *(("report", name, "-o", "page.html", "--no-overlap"), ("import", tmp_path / name, "s.zarr")),
        ("plot", "gradient", name, "-o", "figure.svg"),
    ):
        done = run_hesstore(*arguments)
        assert not CONTROL.search(done.stdout + done.stderr), arguments
        assert done.returncode in {0, 2, 5}, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "fc&lt;script&gt;alert(1)&lt;script&gt;" in page


@pytest.mark.slow
def test_names_that_are_not_text(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    """They have the bytes of another encoding, such as that of an old disk, or the locale is not the right one."""
    name, other = os.fsdecode("λ".encode() + b"\xff"), os.fsdecode(b"\xff")
    make_store(tmp_path / f"{name}.zarr")
    for arguments in (
        *(("info", f"{name}.zarr"), ("list",), ("status", f"{name}.zarr"), ("export", f"{name}.zarr", "-o", "csv")),
        *(("report", f"{name}.zarr", "-o", f"{other}.html"), ("plot", "summary", f"{name}.zarr", "-o", "x.png")),
        ("export", f"{name}.zarr", "--format", "hub", "-o", other),
    ):
        done = run_hesstore(*arguments)
        assert done.returncode == 0, done.stderr
        assert "\\xff" in done.stdout + done.stderr or arguments[0] in {"plot", "export"}
    for written in (tmp_path / f"{other}.html", tmp_path / other / "README.md"):
        assert "λ\ufffd" in written.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("zarr.json", ["info", "."]),
        ("zarr.json", ["verify", "."]),
        ("zarr.json", ["list", ".."]),
        ("manifest.jsonl", ["import", ".", "s.zarr"]),
        ("c.toml", ["config", "--config", "c.toml"]),
    ],
)
def test_deep_nesting_is_one_line(run_hesstore: RunHesstore, tmp_path: Path, file: str, command: list[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / file).write_text(f"k = {NESTED}" if file.endswith("toml") else f"{NESTED}\n{NESTED}\n")
    (folder / "Hessian-eigenvalues-0-0.00100.csv").write_text("1\n")
    done = run_hesstore(*(str(folder / part) if part in {".", "..", "c.toml"} else part for part in command))
    assert done.returncode in ({0} if command[0] in {"list", "import"} else {2, 5})
    assert len(done.stderr.splitlines()) <= 4


def test_small_files_that_expand_are_refused(
    run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "_MOST_LINES", 1000)
    buffer, folders = io.BytesIO(), [tmp_path / name for name in ("weights", "lines", "idx")]
    for folder in folders:
        folder.mkdir()
    torch.save({"a.weight": torch.zeros(50_000), "a.bias": torch.zeros(3)}, buffer)
    weights = folders[0] / "model_weights-0-0.00100.pth"
    with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in stored.namelist():
            packed.writestr(member, stored.read(member))
    (folders[1] / "Hessian-eigenvalues-0-0.00100.csv").write_bytes(gzip.compress(b"1\n" * 1001))
    idx = folders[2] / "train-images-idx3-ubyte"
    idx.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 60_000, 100, 101)))
    for folder, message in zip(folders, ("torch.save does not compress", "has more than 1000 lines"), strict=False):
        done = run_hesstore("import", folder, "s.zarr")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    with pytest.raises(DataError, match="above the limit of 600000000 bytes"):
        read_idx(idx)
    make_store(tmp_path / "s.zarr")
    assert run_hesstore("export", "s.zarr", "--format", "zip").returncode == 0
    with zipfile.ZipFile(tmp_path / "s.zarr.zip", "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("weights/c/0/9/0", bytes(1 << 22))
    done = run_hesstore("info", "s.zarr.zip")
    assert (done.returncode, "expands from 4.1 kB to 4.2 MB" in done.stderr) == (2, True), done.stderr
