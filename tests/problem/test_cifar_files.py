"""CIFAR-10 from files in its two formats, which are made here with few images."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hesstore.errors import DataError
from hesstore.problem import training_data

NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
RNG = np.random.default_rng(0)
BATCHES = {name: (RNG.integers(0, 256, (10, 3072), np.uint8), RNG.permutation(10)) for name in NAMES}


def pickled(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    """A batch as in the Python version, whose keys are bytes."""
    return pickle.dumps({b"batch_label": b"x", b"labels": labels.tolist(), b"data": pixels}, protocol=2)


def rows(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    return np.column_stack([labels.astype(np.uint8), pixels]).tobytes()


def write(root: Path, folder: str, ending: str) -> Path:
    (root / folder).mkdir(parents=True)
    for name, batch in BATCHES.items():
        (root / folder / f"{name}{ending}").write_bytes(pickled(*batch) if not ending else rows(*batch))
    return root / folder


def check(data: training_data.ClassificationData) -> None:
    pixels = np.concatenate([BATCHES[name][0] for name in NAMES[:5]]).reshape(-1, 3, 32, 32)
    assert data.train.y.tolist() == np.concatenate([BATCHES[name][1] for name in NAMES[:5]]).tolist()
    assert data.test.y.tolist() == BATCHES["test_batch"][1].tolist()
    assert data.train.x.shape == (50, 3, 32, 32)
    assert data.train.x.dtype == torch.float32
    green = (pixels[7, 1, 5, 6] / 255 - 0.4822) / 0.2435
    assert float(data.train.x[7, 1, 5, 6]) == pytest.approx(green, rel=1e-5)


@pytest.mark.parametrize(("folder", "ending"), [("cifar-10-batches-py", ""), ("cifar-10-batches-bin", ".bin")])
def test_both_formats_as_folders_and_archives(folder: str, ending: str, tmp_path: Path) -> None:
    batches = write(tmp_path / "a", folder, ending)
    check(training_data.load("cifar10", str(tmp_path / "a")))
    check(training_data.load("cifar10", str(batches)))
    (tmp_path / "b").mkdir()
    kind = "python" if not ending else "binary"
    with tarfile.open(tmp_path / "b" / f"cifar-10-{kind}.tar.gz", "w:gz") as tar:
        tar.add(batches, folder)
    check(training_data.load("cifar10", str(tmp_path / "b")))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code ran",)


def test_damage_and_code_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, "cifar-10-batches-py", "")
    contents = {
        b"": "test_batch is not a batch of CIFAR-10",
        pickle.dumps({b"data": Evil()}): "which is not loaded because that could run code",
        pickled(BATCHES["test_batch"][0][:, :9], BATCHES["test_batch"][1]): "for 10 labels",
        pickled(BATCHES["test_batch"][0], BATCHES["test_batch"][1] + 5): "label 14 is not below 10",
    }
    for content, what in contents.items():
        (folder / "test_batch").write_bytes(content)
        with pytest.raises(DataError, match=what):
            training_data.load("cifar10", str(tmp_path))
    assert "code ran" not in capsys.readouterr().out
    (folder / "test_batch").unlink()
    with pytest.raises(DataError, match=r"test_batch: cannot be read .* six files"):
        training_data.load("cifar10", str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"CIFAR-10 is not in .*empty: put cifar-10-python.tar.gz"):
        training_data.load("cifar10", str(tmp_path / "empty"))
    (tmp_path / "empty" / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"cannot be read .*download it again"):
        training_data.load("cifar10", str(tmp_path / "empty"))
