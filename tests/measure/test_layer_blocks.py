"""The diagonal blocks by layer in a store, against dense matrices and against blocks of restricted networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

import hesstore
from hesstore import plots
from hesstore.analysis.selection import require_variables
from hesstore.engine.sweep import run_sweep
from hesstore.errors import AnalysisError
from hesstore.integrity.recheck import recheck
from hesstore.integrity.value_rules import _of_blocks
from hesstore.integrity.verify import verify
from hesstore.problem import training_data

SETTINGS = {
    "dataset": "tests.support.toy:digits",
    "hidden": "3",
    "l2": "0,0.05",
    "k": 4,
    "epochs": 3,
    "device": "cpu",
    "dtype": "float64",
    "response": 0,
    "probes": 0,
    "blocks": "layer",
    "block_k": 40,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blocks") / "s.zarr"
    run_sweep(SETTINGS, path)
    return path


def test_blocks_are_those_of_the_dense_matrix(store: Path) -> None:
    data = training_data.load("tests.support.toy:digits").train
    with hesstore.open(store, check=True) as opened:
        ds = opened.load()
    assert ds["block"].values.tolist() == ["fc1", "fc2"]
    module = hesstore.load_model(ds, l2=0.05).double()
    names, parts = zip(*((name, part.detach()) for name, part in module.named_parameters()), strict=True)

    def loss(theta: torch.Tensor) -> torch.Tensor:
        pieces = torch.split(theta, [part.numel() for part in parts])
        named = {name: piece.view(part.shape) for name, piece, part in zip(names, pieces, parts, strict=True)}
        logits = torch.func.functional_call(module, named, (data.x.flatten(1).double(),))
        found: torch.Tensor = nn.functional.cross_entropy(logits, data.y)
        return found

    theta = torch.cat([part.flatten() for part in parts])
    dense = torch.autograd.functional.hessian(loss, theta).numpy()  # type: ignore[no-untyped-call]
    point = ds.sel(run=0, l2=0.05)
    restricted = hesstore.Hessian(module, data.x.double(), data.y).blocks(k=3, tol=1e-6)
    for block in restricted:
        rows = np.flatnonzero(ds["layer"].values == block.name)
        exact = np.linalg.eigvalsh(dense[np.ix_(rows, rows)])
        exact = exact[np.abs(exact).argsort()[::-1]][:40]
        found = point.sel(block=block.name)
        assert (np.abs(found["block_eigenvalues"] - exact) <= 1.01 * found["block_residual_norm"] + 1e-9).all()
        np.testing.assert_allclose(found["block_eigenvalues"][:3], block.pairs.eigenvalues, rtol=1e-4)
        exact_trace = np.trace(dense[np.ix_(rows, rows)])
        assert abs(float(found["block_trace"]) - exact_trace) <= 3 * float(found["block_trace_error"]) + 1e-9
    assert verify(store).problems == []
    assert recheck(store, trust=True).problems == []


def test_blocks_are_drawn_and_tabled(store: Path, tmp_path: Path) -> None:
    with hesstore.open(store) as ds:
        texts = [text.get_text() for text in plots.blocks(ds).findobj(Text)]
        assert {"fc1", "fc2", "whole matrix", "layer"} <= set(texts)
        smallest = {**json.loads(ds.attrs["identity"]), "which": "SA"}
        figure = plots.blocks(ds.assign_attrs(identity=json.dumps(smallest)))
        assert "whole matrix" not in {text.get_text() for text in figure.findobj(Text)}
        with pytest.raises(AnalysisError, match=r"block_trace is not in this store: record it with .*--blocks layer"):
            require_variables(ds.drop_vars("block_trace"), "block_trace")
    hesstore.export(store, tmp_path / "csv", style="tidy", only=["blocks", "block_eigenvalues"])
    lines = (tmp_path / "csv" / "blocks.csv").read_text().splitlines()
    assert lines[0] == "run,l2,block,block_bound,block_trace,block_trace_error"
    assert len(lines) == 1 + 2 * 2


def test_verify_sees_a_block_that_is_too_large(store: Path) -> None:
    with hesstore.open(store) as ds:
        point = ds.sel(run=0, l2=0.05).load()
        values = {str(name): point[name].values.copy() for name in point if point[name].ndim < 3 and name != "status"}
    assert list(_of_blocks(values, "LM")) == []
    values["block_eigenvalues"][0, 0] *= 3
    assert "exceeds the largest of the whole matrix" in "".join(_of_blocks(values, "LM"))
    values["block_eigenvalues"][0, :2] = values["block_eigenvalues"][0, 1::-1].copy() * [0.1, 1]
    assert "not in the order" in "".join(_of_blocks(values, "LM"))
