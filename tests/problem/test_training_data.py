from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from hesstore.errors import DataError, DataWarning
from hesstore.problem import training_data
from hesstore.problem.training_data import stratified_indices
from tests.support import toy
from tests.support.idx_files import write_idx


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Three data sets in torchvision's layout, with 20 training and 10 test images each."""
    rng = np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        for prefix, rows in (("train", 20), ("t10k", 10)):
            write_idx(raw / f"{prefix}-images-idx3-ubyte", rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8))
            write_idx(raw / f"{prefix}-labels-idx1-ubyte", (np.arange(rows) % 10).astype(np.uint8))
    return tmp_path


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download fails immediately, as it does without a network."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize(("name", "mean", "std"), [(n, s.mean, s.std) for n, s in training_data.IMAGES.items()])
def test_torchvision_layout(idx_folder: Path, name: str, mean: float, std: float) -> None:
    data = training_data.load(name, str(idx_folder))
    assert data.input_shape == (1, 28, 28)
    assert data.num_classes == 10
    assert (len(data.train.y), len(data.test.y)) == (20, 10)
    raw = (idx_folder / training_data.IMAGES[name].class_name / "raw" / "train-images-idx3-ubyte").read_bytes()[16:]
    pixels = np.frombuffer(raw, np.uint8).reshape(20, 1, 28, 28)
    assert np.allclose(data.train.x.numpy(), (pixels / 255 - mean) / std, atol=1e-6)


def test_a_user_without_a_home_needs_a_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: "~/.cache/hesstore")
    with pytest.raises(DataError, match="there is no home folder: pass --data-dir DIR"):
        training_data.load("mnist")


def test_missing_files_name_two_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"connect to a network.*--data-dir DIR"):
        training_data.load("mnist")
    assert not (tmp_path / "nowhere" / "hesstore").exists()
    with pytest.raises(DataError, match=r"MNIST is not in .*four IDX files.*leave out --data-dir"):
        training_data.load("mnist", str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_downloads_go_to_the_cache_folder(idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def download(root: str, **_: object) -> None:
        shutil.copytree(idx_folder / "KMNIST", Path(root) / "KMNIST")

    monkeypatch.setattr("torchvision.datasets.KMNIST", download)
    expected = training_data.load("kmnist", str(idx_folder)).digest
    assert training_data.load("kmnist").digest == expected
    monkeypatch.setattr("torchvision.datasets.KMNIST", None)  # the second time, nothing is downloaded
    assert training_data.load("kmnist").digest == expected


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
@pytest.mark.parametrize("keep", [0, 3, 15, 500])
def test_truncated_files(idx_folder: Path, name: str, keep: int) -> None:
    file = idx_folder / "MNIST" / "raw" / name
    content = file.read_bytes()
    if keep >= len(content):
        pytest.skip("the file is shorter")
    file.write_bytes(content[:keep])
    with pytest.raises(DataError, match="truncated"):
        training_data.load("mnist", str(idx_folder))


def test_images_and_labels_must_match(idx_folder: Path) -> None:
    write_idx(idx_folder / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(19, np.uint8))
    with pytest.raises(DataError, match="20 images do not match 19 labels"):
        training_data.load("mnist", str(idx_folder))


def test_labels_outside_the_classes(idx_folder: Path) -> None:
    write_idx(idx_folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", np.full(10, 11, np.uint8))
    with pytest.raises(DataError, match="test label 11 is outside the classes 0 … 9"):
        training_data.load("mnist", str(idx_folder))


@pytest.mark.slow
def test_mnist_5k_is_stratified_and_fixed() -> None:
    data = training_data.load("mnist-5k")
    assert data.train.y.bincount().tolist() == [400] * 10
    assert data.test.y.bincount().tolist() == [100] * 10
    assert data.input_shape == (1, 28, 28)
    assert data.digest == training_data.load("mnist-5k").digest
    train = {row.numpy().tobytes() for row in data.train.x}
    shared = sum(row.numpy().tobytes() in train for row in data.test.x)
    assert shared == 0


def test_factory() -> None:
    data = training_data.load("tests.support.toy:digits")
    assert data.num_classes == 10
    assert data.input_shape == (64,)
    assert data.train.y.dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnistt", "not one of mnist"),
        ("tests.support.toy:with_nan", "1 values of the training inputs are NaN"),
        ("tests.support.toy:bad_label", "test label 12 is outside the classes 0 … 9"),
        (
            "tests.support.toy:text_labels",
            r"training labels are such as '0', not whole numbers: .*np\.unique.*LabelEncoder",
        ),
        ("tests.support.toy:raising", "raised FileNotFoundError: my.csv"),
        (":f", "not module:factory"),
        ("tests.support.toy:nope", "no callable 'nope'"),
        ("tests.support.toy:TYPE_CHECKING", "no callable"),
    ],
)
def test_unusable_data(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        training_data.load(name)


UNUSABLE: dict[str, tuple[Callable[[], object], str]] = {
    "from 1": (
        lambda: toy.relabelled(lambda y: y + 1),
        r"labels are 1, 2, 3, 4, 5, 6, …, not 0 to 9: give y - 1, in both",
    ),
    "gaps": (
        lambda: toy.relabelled(lambda y: y * 2),
        r"labels are 0, 2, .*, not 0 to 9: number the classes .*LabelEncoder",
    ),
    "negative": (lambda: toy.relabelled(lambda y: y - 1), "labels are -1, 0, .*, not 0 to 9: number the classes"),
    "categories": (lambda: toy.relabelled(lambda y: pd.Categorical(y.astype(str))), "such as '0', not whole numbers"),
    "missing": (lambda: toy.relabelled(lambda y: np.where(y == 3, np.nan, y)), "labels are not whole numbers"),
    "one-hot": (lambda: toy.relabelled(lambda y: np.eye(10)[y]), r"shape \(300, 10\), not \(N,\): give y.argmax\(1\)"),
    "a column": (lambda: toy.relabelled(pd.DataFrame), r"shape \(300, 1\), not \(N,\): give y.ravel\(\)"),
    "scikit-learn's order": (
        lambda: train_test_split(*load_wine(return_X_y=True)),
        "not that of scikit-learn's train_test",
    ),
    "two": (lambda: toy.digits()[:2], "returned tuple of 2, not"),
    "dict": (lambda: {"x": 1}, "returned dict, not"),
    "words": (
        lambda: toy.reshaped(lambda x: pd.DataFrame(x).assign(name="x")),
        "could not convert string to float: 'x'",
    ),
    "NA": (
        lambda: toy.reshaped(lambda x: pd.DataFrame(x).astype("Float64").replace(0.0, pd.NA)),
        "not an array of numbers",
    ),
    "ragged": (lambda: toy.reshaped(lambda _: [[1.0], [1.0, 2.0]]), "not an array of numbers .*inhomogeneous"),
    "sparse": (lambda: toy.reshaped(csr_matrix), r"are sparse: give them as .toarray\(\)"),
    "masked": (lambda: toy.reshaped(lambda x: np.ma.masked_equal(x, 0)), "have masked values"),
    "complex": (lambda: toy.reshaped(lambda x: x.astype(complex)), "are complex"),
    "one axis": (
        lambda: toy.reshaped(lambda x: x[:, 0]),
        r"shape \(300,\): give \(N, …\), for example x.reshape\(-1, 1\)",
    ),
    "no rows": (lambda: (*toy.digits()[:2], *(part[:0] for part in toy.digits()[2:])), "the test split is empty"),
    "no training rows": (lambda: (*(part[:0] for part in toy.digits()[:2]), *toy.digits()[2:]), "the split is empty"),
    "one class": (lambda: toy.relabelled(lambda y: y * 0), "1 class: at least 2 are needed"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_messages_say_what_a_factory_should_return(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    factory, message = UNUSABLE[name]
    monkeypatch.setattr(toy, "raising", factory)
    with pytest.raises(DataError, match=message) as raised:
        training_data.load("tests.support.toy:raising")
    assert "tests.support.toy:raising" in str(raised.value)
    assert "\n" not in str(raised.value)


USABLE: dict[str, Callable[[], object]] = {
    "frames": lambda: tuple(pd.DataFrame(part) if part.ndim > 1 else pd.Series(part) for part in toy.digits()),
    "nullable": lambda: tuple(
        pd.DataFrame(part).convert_dtypes() if part.ndim > 1 else pd.Series(part).astype("Int64")
        for part in toy.digits()
    ),
    "lists": lambda: [part.tolist() for part in toy.digits()],
    "tensors": lambda: tuple(torch.from_numpy(part) for part in toy.digits()),
    "differentiable": lambda: toy.reshaped(lambda x: torch.from_numpy(x).requires_grad_()),
    "read-only, backwards, big-endian": lambda: toy.reshaped(
        lambda x: np.broadcast_to(x, x.shape)[:, ::-1][:, ::-1].astype(">f4")
    ),
    "whole floats": lambda: toy.relabelled(lambda y: y.astype(float)),
    "small integers": lambda: toy.relabelled(lambda y: y.astype(np.uint16)),
    "pairs": lambda: training_data.ClassificationData(toy.digits()[:2], toy.digits()[2:], 10),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", USABLE)
def test_accepted_results_of_a_factory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "raising", USABLE[name])
    data = training_data.load("tests.support.toy:raising")
    assert (data.num_classes, data.input_shape, data.train.y.dtype) == (10, (64,), torch.int64)
    assert data.digest == training_data.load("tests.support.toy:digits").digest


def test_data_that_are_accepted_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, test_x, test_y = toy.digits()
    monkeypatch.setattr(toy, "raising", lambda: (x, y, test_x[:1], test_y[:1]))
    with pytest.warns(DataWarning, match="has no test rows of classes 0, 1, 2, 3, 4, 5, …: their test results are NaN"):
        assert len(training_data.load("tests.support.toy:raising").test.y) == 1
    parts = [torch.from_numpy(part) for part in (x[y != 3], y[y != 3], test_x, test_y)]
    made = training_data.ClassificationData(training_data.Split(*parts[:2]), training_data.Split(*parts[2:]), 10)
    monkeypatch.setattr(toy, "raising", lambda: made)
    with pytest.warns(DataWarning, match="has no training rows of class 3: "):
        assert training_data.load("tests.support.toy:raising").num_classes == 10
    monkeypatch.setattr(toy, "raising", lambda: toy.reshaped(lambda x: (x * 255).astype(np.uint8)))
    with pytest.warns(DataWarning, match="returns inputs as bytes, which are used unscaled, from 0 to 255: scale them"):
        assert float(training_data.load("tests.support.toy:raising").train.x.max()) == 255


def test_the_digest_depends_on_every_part() -> None:
    data = training_data.load("tests.support.toy:digits")
    seen = {data.digest}
    for split in ("train", "test"):
        for part in ("x", "y"):
            changed = training_data.load("tests.support.toy:digits")
            tensor = getattr(getattr(changed, split), part)
            tensor.view(-1)[-1] += 1
            seen.add(changed.digest)
    assert len(seen) == 5


def test_stratified_indices_keep_the_shares() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    rows = stratified_indices(labels, 50)
    assert labels[rows].bincount().tolist() == [30, 15, 5]
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert torch.equal(rows, stratified_indices(labels, 50))
    assert not torch.equal(rows, stratified_indices(labels, 50, seed=1))
    assert labels[stratified_indices(labels, 7)].bincount().tolist() == [4, 2, 1]


@pytest.mark.parametrize("num", [0, 101])
def test_stratified_indices_out_of_range(num: int) -> None:
    with pytest.raises(DataError, match=f"subset of {num} rows"):
        stratified_indices(torch.zeros(100, dtype=torch.int64), num)
