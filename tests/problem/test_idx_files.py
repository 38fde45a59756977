from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hesstore.errors import DataError
from hesstore.problem import training_data
from hesstore.problem.idx_files import read_idx
from tests.support.idx_files import idx_bytes, write_idx

FASHION = Path("/usr/share/datasets/fashion-mnist")
RNG = np.random.default_rng(0)
PARTS = {
    ("train", "images-idx3"): RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8),
    ("train", "labels-idx1"): (np.arange(20) % 10).astype(np.uint8),
    ("t10k", "images-idx3"): RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8),
    ("t10k", "labels-idx1"): np.arange(10, dtype=np.uint8),
}


def write_parts(folder: Path, form: str, *, compressed: bool = False) -> None:
    folder.mkdir(parents=True)
    for (split, part), array in PARTS.items():
        write_idx(folder / form.format(split, part), array, compressed=compressed)


def state(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("within", ["FashionMNIST/raw", "FashionMNIST", "."])
@pytest.mark.parametrize(
    ("form", "compressed"),
    [
        ("{}-{}-ubyte", False),
        ("{}-{}-ubyte.gz", True),
        ("{}-{}-ubyte", True),  # compressed, whatever the name
        ("{}-{}-ubyte.gz", False),
        ("dots", False),
        ("dots", True),
    ],
)
def test_the_users_files_are_read_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: str, form: str, *, compressed: bool
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("downloads"))
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", lambda *_, **__: pytest.fail("downloads"))
    folder = tmp_path / "data" / within
    write_parts(folder, "{}-{}-ubyte" if form == "dots" else form, compressed=compressed)
    if form == "dots":
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace("-idx", ".idx"))
    before = state(tmp_path)
    data = training_data.load("fashion-mnist", str(tmp_path / "data"))
    pixels = PARTS["train", "images-idx3"]
    assert np.allclose(data.train.x[:, 0].numpy(), (pixels / 255 - 0.2860) / 0.3530, atol=1e-6)
    assert data.test.y.tolist() == list(range(10))
    assert state(tmp_path) == before


def test_several_files_for_one_part_must_agree(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    write_parts(folder, "{}-{}-ubyte")
    labels = PARTS["train", "labels-idx1"]
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels, compressed=True)  # as torchvision leaves it
    assert len(training_data.load("mnist", str(tmp_path)).train.y) == 20
    write_idx(folder / "train-labels.idx1-ubyte", labels[::-1])
    with pytest.raises(DataError, match=r"train-labels\.idx1-ubyte: has other content than .*train-labels-idx1-ubyte"):
        training_data.load("mnist", str(tmp_path))


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    folder = tmp_path / "KMNIST" / "raw"
    write_parts(folder, "{}-{}-ubyte")
    for wrong, message in (
        (PARTS["t10k", "labels-idx1"], r"t10k-images-idx3-ubyte: expected images with 3 axes, found .*\(10,\)"),
        (PARTS["train", "images-idx3"], "t10k-images-idx3-ubyte and .*: 20 images do not match 10 labels"),
    ):
        write_idx(folder / "t10k-images-idx3-ubyte", wrong)
        with pytest.raises(DataError, match=message):
            training_data.load("kmnist", str(tmp_path))
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"raw: has no file t10k-images-idx3-ubyte, plain or \.gz: add it"):
        training_data.load("kmnist", str(tmp_path))


@given(
    array=st.sampled_from([1, 3]).flatmap(
        lambda axes: hnp.arrays(np.uint8, hnp.array_shapes(min_dims=axes, max_dims=axes, max_side=4))
    ),
    compressed=st.booleans(),
    position=st.integers(0, 200),
    change=st.sampled_from(["none", "cut", "append", "flip"]),
)
def test_what_is_read_is_what_the_header_states(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, *, compressed: bool, position: int, change: str
) -> None:
    """Any file is either read as the array that it states, or refused with one line that names it."""
    content = idx_bytes(array)
    position %= len(content)
    content = {
        "none": content,
        "cut": content[:position],
        "append": content + b"\0",
        "flip": content[:position] + bytes([content[position] ^ 0x11]) + content[position + 1 :],
    }[change]
    path = tmp_path_factory.getbasetemp() / "any-idx-file"
    path.write_bytes(gzip.compress(content) if compressed else content)
    try:
        found: np.ndarray | str = read_idx(path)
    except DataError as error:
        found = str(error)
    if isinstance(found, str):
        assert change != "none"
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
    else:
        assert idx_bytes(found) == content


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_compression(tmp_path: Path, damage: str) -> None:
    content = gzip.compress(idx_bytes(PARTS["train", "images-idx3"]))
    content = content[:-12] if damage == "cut" else content[:-2000] + b"\0" * 1000 + content[-1000:]
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.gz: truncated or damaged: cannot be decompressed"):
        read_idx(tmp_path / "x.gz")


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_all_images_of_debians_package() -> None:
    data = training_data.load("fashion-mnist", str(FASHION))
    assert data.train.y.bincount().tolist() == [6000] * 10
    assert data.test.y.bincount().tolist() == [1000] * 10
    assert float(data.train.x.mean()) == pytest.approx(0, abs=1e-3)
    assert float(data.train.x.std()) == pytest.approx(1, abs=1e-3)
