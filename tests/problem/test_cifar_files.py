"""CIFAR-10 from files in its two formats, which are made here with few images."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from hesstore.errors import DataError
from hesstore.problem import training_data

NAMES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
RNG = np.random.default_rng(0)
BATCHES = {name: (RNG.integers(0, 256, (10, 3072), np.uint8), RNG.permutation(10)) for name in NAMES}
PIXELS = np.concatenate([BATCHES[name][0] for name in NAMES[:5]]).reshape(-1, 3, 32, 32)
LABELS = np.concatenate([BATCHES[name][1] for name in NAMES[:5]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data" / "cifar-10-batches-bin"
    made.mkdir(parents=True)
    for name, (pixels, labels) in BATCHES.items():
        (made / name).write_bytes(np.column_stack([labels.astype(np.uint8), pixels]).tobytes())
    return made


def check(data: training_data.ClassificationData) -> None:
    assert data.train.y.tolist() == LABELS.tolist()
    assert data.test.y.tolist() == BATCHES["test_batch.bin"][1].tolist()
    assert data.train.x.shape == (50, 3, 32, 32)
    assert data.train.x.dtype == torch.float32
    green = (PIXELS[7, 1, 5, 6] / 255 - 0.4822) / 0.2435
    assert float(data.train.x[7, 1, 5, 6]) == pytest.approx(green, rel=1e-5)


def test_the_binary_version_as_a_folder_and_as_an_archive(folder: Path, tmp_path: Path) -> None:
    check(training_data.load("cifar10", str(folder.parent)))
    check(training_data.load("cifar10", str(folder)))
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    check(training_data.load("cifar10", str(tmp_path / "b")))


def test_the_python_version_must_be_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files can contain code, so torchvision compares them with checksums first."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"other")
    with pytest.raises(DataError, match=r"cifar-10-batches-py: has other files than the published ones .* give cifar"):
        training_data.load("cifar10", str(tmp_path))

    def read(self: CIFAR10, root: str, *, train: bool) -> None:
        assert Path(root, self.base_folder) == tmp_path / "cifar-10-batches-py"
        self.data = (
            PIXELS.transpose(0, 2, 3, 1) if train else BATCHES[NAMES[5]][0].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        )
        self.targets = (LABELS if train else BATCHES[NAMES[5]][1]).tolist()

    monkeypatch.setattr(CIFAR10, "__init__", read)
    check(training_data.load("cifar10", str(tmp_path)))


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:
    contents = {
        b"": "test_batch.bin has 0 bytes, not rows of 3,073: restore it",
        b"\x0a" + bytes(3072): "test_batch.bin has the label 10, not below 10",
    }
    for content, what in contents.items():
        (folder / "test_batch.bin").write_bytes(content)
        with pytest.raises(DataError, match=what):
            training_data.load("cifar10", str(folder.parent))
    (folder / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch.bin: cannot be read .* six files"):
        training_data.load("cifar10", str(folder.parent))
    with pytest.raises(DataError, match=r"CIFAR-10 is not in .*: put cifar-10-binary.tar.gz"):
        training_data.load("cifar10", str(tmp_path))
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"cannot be read .*download it again"):
        training_data.load("cifar10", str(tmp_path))
