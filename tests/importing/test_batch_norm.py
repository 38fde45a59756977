"""A checkpoint of a network with batch norm: its running statistics come and go with its weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hesstore
from hesstore.errors import AnalysisError, ConfigError, ExportError, ImportFilesError
from hesstore.importing import import_files
from hesstore.integrity import recheck, verify
from hesstore.problem.state_dicts import read_state_dict
from hesstore.problem.training_data import stratified_indices
from tests.support import toy
from tests.support.killed_commands import kill_during

SETTINGS = {
    "model": "tests.support.toy:with_batch_norm",
    "dataset": "tests.support.toy:digits",
    "k": 4,
    "response": 0,
    "probes": 0,
    "hessian_samples": 100,
    "device": "cpu",
}
X, Y = (torch.from_numpy(part) for part in toy.digits()[:2])


def trained(seed: int) -> nn.Module:
    """A network whose batch norm has seen the digits."""
    torch.manual_seed(seed)
    module = toy.with_batch_norm((64,), 10)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(module(X), Y.long()))
        optimiser.step()
    return module.eval()


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return trained(0)


@pytest.fixture(scope="module")
def checkpoint(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "bn.pth"
    torch.save({"model": {f"module.{name}": value for name, value in module.state_dict().items()}}, path)
    return path


def outputs(module: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = module(X)
    return out


def test_the_spectrum_is_that_of_the_trained_network(module: nn.Module, checkpoint: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    hesstore.analyse(checkpoint, store, axis="l2", values=[0.01], settings=SETTINGS)
    with hesstore.open(store) as opened:
        ds = opened.load()
    accuracy = float((outputs(module).argmax(1) == Y).double().mean())
    assert accuracy > 0.5
    assert ds.accuracy.sel(split="train").item() == pytest.approx(accuracy, abs=1e-9)
    chosen = stratified_indices(Y.long(), 100)
    rows = X[chosen], Y[chosen]
    expected = hesstore.top_eigenpairs(module, *rows, k=4, dtype=torch.float64, tol=1e-6).eigenvalues
    np.testing.assert_allclose(ds.eigenvalues.values.ravel(), expected, rtol=1e-5)

    fresh = toy.with_batch_norm((64,), 10)
    loaded = hesstore.load_model(ds, l2=0.01, module=fresh)
    torch.testing.assert_close(outputs(loaded), outputs(module))
    torch.testing.assert_close(outputs(hesstore.load_model(ds, l2=0.01, trust=True)), outputs(module))
    assert set(hesstore.to_state_dict(ds, l2=0.01)) == set(module.state_dict()) - {"1.num_batches_tracked"}
    assert recheck.recheck(store, trust=True).problems == []

    hesstore.export(store, tmp_path / "pth", format="pth")
    (exported,) = (tmp_path / "pth").glob("*.pth")
    for name, value in torch.load(exported, weights_only=True).items():
        assert torch.equal(value, module.state_dict()[name])
    assert read_state_dict(exported).statistics.keys() == {"1.running_mean", "1.running_var"}


def test_weights_without_their_statistics_are_refused(module: nn.Module, tmp_path: Path) -> None:
    """Weights alone would be those of another network, with the initial statistics."""
    path = tmp_path / "w.pth"
    torch.save(dict(module.named_parameters()), path)
    with pytest.raises(hesstore.HesstoreError, match=r"'1.running_mean'.* save all of model.state_dict"):
        hesstore.analyse(path, tmp_path / "s.zarr", settings=SETTINGS)


@pytest.mark.slow  # seconds
def test_each_checkpoint_of_a_collection_has_statistics_of_its_own(module: nn.Module, tmp_path: Path) -> None:
    folder, store = tmp_path / "ckpt", tmp_path / "s.zarr"
    folder.mkdir()
    given = {1: module, 2: trained(1), 3: trained(2)}
    settings = {**SETTINGS, "dtype": "float64", "tol": 1e-6}
    for step in (1, 2):
        torch.save(given[step].state_dict(), folder / f"step_{step}.pth")
    hesstore.analyse(folder, store, axis="step", from_name=True, settings=settings)
    torch.save(given[3].state_dict(), folder / "step_3.pth")
    hesstore.analyse(folder, store, axis="step", from_name=True, settings={**settings, "k": 5}, grow=True)

    chosen = stratified_indices(Y.long(), 100)
    hesstore.export(store, tmp_path / "pth", format="pth")
    with hesstore.open(store, check=True) as ds:
        assert ds.buffer.values.tolist() == ["1.running_mean"] * 4 + ["1.running_var"] * 4
        for step, each in given.items():
            expected = hesstore.top_eigenpairs(each, X[chosen], Y[chosen], k=5, dtype=torch.float64, tol=1e-6)
            found = ds.eigenvalues.sel(step=step).values.ravel()
            np.testing.assert_allclose(found, expected.eigenvalues, rtol=1e-6)
            accuracy = float((outputs(each).argmax(1) == Y).double().mean())
            assert ds.accuracy.sel(step=step, split="train").item() == pytest.approx(accuracy, abs=1e-9)
            torch.testing.assert_close(outputs(hesstore.load_model(ds, l2=step, trust=True)), outputs(each))
            exported = torch.load(tmp_path / "pth" / f"model_weights-0-{step}.pth", weights_only=True)
            torch.testing.assert_close(exported, {name: each.state_dict()[name] for name in exported}, rtol=0, atol=0)
        with pytest.raises(AnalysisError, match=r"differ in the running statistic '1.running_mean'"):
            hesstore.loss_path(ds, 1, 2, trust=True)
    assert verify.verify(store).problems == []
    assert recheck.recheck(store, trust=True).problems == []


def test_checkpoints_with_other_statistics_and_stacks_are_refused(module: nn.Module, tmp_path: Path) -> None:
    torch.save(module.state_dict(), tmp_path / "a.pth")
    for name, what in (
        ("2.running_mean", "has a running"),
        ("1.running_mean", r"expected the shape \(4,\), found \(3,\)"),
    ):
        torch.save({**module.state_dict(), name: torch.zeros(3)}, tmp_path / "b.pth")
        with pytest.raises(ImportFilesError, match=rf"b.pth: .*{what}"):
            hesstore.analyse([tmp_path / "a.pth", tmp_path / "b.pth"], tmp_path / "s.zarr", settings=SETTINGS)
    with pytest.raises(ConfigError, match="models: 2 checkpoints can't be analysed together"):
        hesstore.analyse(tmp_path / "a.pth", tmp_path / "s.zarr", settings={**SETTINGS, "models": 2})
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.slow
def test_an_analysis_that_was_killed_continues(module: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    for step, each in ((1, module), (2, trained(1))):
        torch.save(each.state_dict(), tmp_path / "ckpt" / f"step_{step}.pth")
    settings = {**SETTINGS, "k": 2, "lowest": 0}
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    line = ["analyse", tmp_path / "ckpt", "-o", "s.zarr", "--axis", "step", "--from-name", *options]
    for place, count in (("statistics/c", 2), ("gradient/c", 1)):
        kill_during(place, count, tmp_path, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, *line)
        with hesstore.open(tmp_path / "s.zarr", check=True) as ds:
            assert int(ds.status.sel(run=0, step=2)) < 2
        assert verify.verify(tmp_path / "s.zarr").ok
    for name in ("s.zarr", "whole.zarr"):
        done = hesstore.analyse(tmp_path / "ckpt", tmp_path / name, axis="step", from_name=True, settings=settings)
        assert done.complete == 2
    with hesstore.open(tmp_path / "s.zarr", check=True) as ds, hesstore.open(tmp_path / "whole.zarr") as whole:
        np.testing.assert_array_equal(ds.digest, whole.digest)


def test_an_import_stores_the_statistics_too(module: nn.Module, tmp_path: Path) -> None:
    torch.save(module.state_dict(), tmp_path / "model_weights-0-0.01000.pth")
    import_files(tmp_path, tmp_path / "s.zarr", settings={"k": 4})
    with hesstore.open(tmp_path / "s.zarr") as ds:
        loaded = hesstore.load_model(ds, l2=0.01, module=toy.with_batch_norm((64,), 10))
        torch.testing.assert_close(outputs(loaded), outputs(module))
        with pytest.raises(ExportError, match="other parameters"):
            hesstore.load_model(ds, l2=0.01, module=nn.Linear(64, 10))
