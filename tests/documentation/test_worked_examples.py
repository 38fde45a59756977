"""Tests of the page docs/examples/README.md: its commands and its Python code run, and their results are right."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from hesstore import durable_files
from hesstore.problem import training_data
from hesstore_cli.main import run
from tests.support.idx_files import write_idx
from tests.support.paths import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def write_fashion(folder: Path) -> None:
    """Write digits as files in the layout and shape of FashionMNIST: 4 training and 2 test rows per class."""
    raw = folder / "hesstore" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    bunch = load_digits()
    by_class = np.stack([np.flatnonzero(bunch.target == label)[:6] for label in range(10)])
    for prefix, rows in (("train", by_class[:, :4].ravel()), ("t10k", by_class[:, 4:].ravel())):
        images = np.kron(bunch.images[rows] * 15, np.ones((3, 3))).astype(np.uint8)
        write_idx(raw / f"{prefix}-images-idx3-ubyte", np.pad(images, ((0, 0), (2, 2), (2, 2))))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", bunch.target[rows].astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all commands and code blocks of the page have run, in their order."""
    folder = tmp_path_factory.mktemp("page") / "examples"
    shutil.copytree(EXAMPLES, folder)
    write_fashion(folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(durable_files, "_sync", lambda _: None)
        for language, text in re.findall(r"```(\w+)\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL):
            if language == "python":
                exec(text, {})  # noqa: S102 - code of our own page
                continue
            for line in text.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line)
                if program == "cd":
                    assert ROOT / arguments[0] == EXAMPLES
                else:
                    assert (program, run(arguments)) == ("hesstore", 0), line
        yield folder
        for name in ("wine", "smooth_cnn"):
            sys.modules.pop(name, None)


def dense(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return ∇²E in float64 by its definition, computed in blocks of columns."""
    module = module.double()
    names, shapes, sizes = zip(*((n, p.shape, p.numel()) for n, p in module.named_parameters()), strict=True)

    def loss(theta: Tensor) -> Tensor:
        parts = {n: part.view(s) for n, s, part in zip(names, shapes, torch.split(theta, list(sizes)), strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(module, parts, (x.double(),)), y)

    theta = nn.utils.parameters_to_vector(module.parameters()).detach()
    slope, basis = torch.func.grad(loss), torch.eye(len(theta), dtype=torch.float64)
    columns: Tensor = torch.func.vmap(lambda v: torch.func.jvp(slope, (theta,), (v,))[1], chunk_size=128)(basis)
    return columns


def check_pairs(cell: xr.Dataset, h: Tensor) -> None:
    """Check that the stored eigenpairs of ``cell`` are the top k of the dense Hessian ``h``."""
    true = np.linalg.eigvalsh(h.numpy())
    true = true[np.argsort(-np.abs(true))][: cell.sizes["mode"]]
    np.testing.assert_allclose(cell["eigenvalues"], true, rtol=2e-3)
    v = cell["eigenvectors"].values.astype(np.float64)
    residual = np.linalg.norm(v @ h.numpy() - cell["eigenvalues"].values[:, None] * v, axis=1)
    assert residual.max() <= 2e-3 * abs(true[0])
    np.testing.assert_allclose(v @ v.T, np.eye(len(v)), atol=1e-5)


class PlainMLP(nn.Module):
    """The built-in network for the wine data, as a user would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(13, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc3(torch.sigmoid(self.fc2(torch.sigmoid(self.fc1(x)))))
        return out


@pytest.mark.slow
def test_wine(folder: Path) -> None:
    data = training_data.load("wine:load")
    counts = np.bincount(load_wine().target)
    assert (data.train.y.bincount() + data.test.y.bincount()).tolist() == counts.tolist() == [59, 71, 48]
    assert data.test.y.bincount().tolist() == [18, 21, 15]
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(13, dtype=torch.float64))
    torch.testing.assert_close(data.train.x.std(0, correction=0), torch.ones(13, dtype=torch.float64))

    ds = xr.open_zarr(folder / "wine.zarr").sel(run=0).load()
    assert (ds["status"] == 2).all()
    assert dict(ds.sizes)["label"] == dict(ds.sizes)["pred"] == 3
    assert (ds["confusion"].sum("pred").sel(split="test") == [18, 21, 15]).all()
    assert (ds["confusion"].sum("pred").sel(split="train") == [41, 50, 33]).all()
    assert float(ds["class_identity_error"].max()) < 1e-4
    skill = ds["class_accuracy"].sel(split="test")
    assert float(skill.sel(l2=0).min()) == 1  # as the page says
    assert float(skill.sel(l2=0.07).sum()) == 1
    assert (ds["confusion"].sel(split="test", l2=slice(0.07, None)).sum("label") > 0).sum("pred").max() == 1
    module = PlainMLP()
    module.load_state_dict(torch.load(folder / "wine-files" / "model_weights-0-0.04000.pth", weights_only=True))
    cell = ds.sel(l2=0.04)
    check_pairs(cell, dense(module, data.train.x, data.train.y))
    predicted = module(data.test.x).argmax(1)
    assert np.array_equal(cell["confusion"].sel(split="test"), confusion_matrix(data.test.y, predicted))
    table = pd.read_csv(folder / "wine-files" / "Model-0_split_accuracy.csv")
    columns = [f"Class_{label}_Accuracy" for label in range(3)]
    assert [name for name in table.columns if "Class" in name] == columns
    percent = 100 * ds["class_accuracy"].sel(split="test").transpose("l2", "label").values
    np.testing.assert_allclose(table.sort_values("L2_strength")[columns].to_numpy(), percent)
    assert (folder / "wine.png").stat().st_size > 10_000


@pytest.mark.slow
def test_smooth_cnn(folder: Path) -> None:
    from smooth_cnn import SmoothCNN  # type: ignore[import-not-found]  # noqa: PLC0415 - found once the page has run

    data = training_data.load("fashion-mnist", str(folder / "cache" / "hesstore"))
    assert data.input_shape == (1, 28, 28)
    ds = xr.open_zarr(folder / "cnn.zarr").sel(run=0).load()
    assert (ds["status"] == 2).all()
    assert float(ds["class_identity_error"].max()) < 1e-4
    assert [*dict.fromkeys(ds["layer"].values)] == ["conv1", "conv2", "head"]
    where = (ds["layer"] == "conv2") & (ds["kind"] == "weight")
    assert int(where.sum()) == 8 * 4 * 3 * 3
    assert (ds["in_index"].values[where.values].max(), ds["out_index"].values[where.values].max()) == (35, 7)
    module = SmoothCNN(1, 10)
    state = torch.load(folder / "cnn-weights" / "model_weights-0-0.01000.pth", weights_only=True)
    module.load_state_dict(state)
    assert np.array_equal(state["conv2.weight"].reshape(-1), ds["weights"].sel(l2=0.01).values[where.values])
    h = dense(module, data.train.x, data.train.y)
    check_pairs(ds.sel(l2=0.01), h)
    mass = (ds["eigenvectors"].sel(l2=0.01) ** 2).groupby("layer").sum()
    np.testing.assert_allclose(mass.sum("layer"), 1, rtol=1e-5)
