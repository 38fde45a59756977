"""A sweep with the squared error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

import hesstore
from hesstore import plots
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.integrity.recheck import recheck
from hesstore.problem import training_data


def test_results_are_those_of_mse_loss(toy_config: Callable[..., SweepConfig], tmp_path: Path) -> None:
    """By PyTorch's MSELoss and double backward, from the stored weights of a deep linear network."""
    settings = {"model": "linear:3", "hidden": "2", "loss": "mse", "l2": "0.001", "response": 0.001, "k": 4}
    run_sweep(toy_config(**settings, density=True, dtype="float64"), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").load()
    point = ds.sel(run=0, l2=0.001)
    module = hesstore.load_model(ds, run=0, l2=0.001).double()
    theta = nn.utils.parameters_to_vector(module.parameters()).detach()
    names = [name for name, _ in module.named_parameters()]
    shapes = [parameter.shape for parameter in module.parameters()]
    assert names == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert [tuple(shape) for shape in shapes] == [(2, 64), (2, 2), (10, 2)]

    def loss(at: torch.Tensor) -> torch.Tensor:
        parts = torch.split(at, [shape.numel() for shape in shapes])
        a, b, c = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        targets = nn.functional.one_hot(rows.y, 10).double()
        found: torch.Tensor = nn.MSELoss()(rows.x.flatten(1).double() @ a.T @ b.T @ c.T, targets)
        return found

    data = training_data.load("tests.support.toy:digits")
    for split, rows in (("test", data.test), ("train", data.train)):  # noqa: B007 - the loss is that of the rows
        assert float(point["loss"].sel(split=split)) == pytest.approx(float(loss(theta)), rel=1e-6)
    np.testing.assert_allclose(point["gradient"], torch.func.grad(loss)(theta), atol=1e-7)
    dense = torch.autograd.functional.hessian(loss, theta)  # type: ignore[no-untyped-call]
    exact = torch.linalg.eigvalsh(dense)
    exact = exact[exact.abs().argsort(descending=True)[:4]]
    np.testing.assert_allclose(point["eigenvalues"], exact, rtol=1e-4)
    assert abs(float(point["trace"]) - float(dense.trace())) <= 2 * float(point["trace_error"])
    assert float(point["class_identity_error"]) < 1e-6
    np.testing.assert_allclose(point["measured_rise"].values[0], 0.001, rtol=0.05)
    assert not recheck(tmp_path / "s.zarr", trust=True).problems


def test_the_squared_error_is_a_pure_number(toy_config: Callable[..., SweepConfig], tmp_path: Path) -> None:
    run_sweep(toy_config(loss="mse", l2="0.001", epochs=1, density=True), tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert not [name for name, array in ds.variables.items() if "nat" in array.attrs.get("units", "")]
    assert ds["loss"].attrs["long_name"] == "mean squared error, without the penalty"
    assert "units" not in hesstore.analysis.sensitivity(ds, 0)["slope"].attrs
    for draw in (plots.losses, plots.spectrum, plots.density):
        texts = [text.get_text() for text in draw(ds).findobj(Text)]
        assert not [text for text in texts if "nat)" in text or "nat⁻¹" in text or "entropy" in text]
