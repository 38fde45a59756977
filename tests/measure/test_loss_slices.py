from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import hesstore
from hesstore import plots
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import AnalysisError
from tests.support.toy import TOY, digits

if TYPE_CHECKING:
    from tests.support.command_line import RunHesstore

L2 = 0.01


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slices") / "s.zarr"
    settings = {**TOY, "l2": f"0,{L2}", "k": 3, "probes": 0, "response": 0, "dtype": "float64"}
    run_sweep(SweepConfig.from_mapping(settings), path)
    return path


@pytest.fixture(scope="module")
def ds(store: Path) -> xr.Dataset:
    return hesstore.open(store, chunked=False)


def losses(state: dict[str, torch.Tensor]) -> tuple[list[float], list[list[float]]]:
    """The mean loss and those of the classes, by split, of the layers of the mlp written out, in float64."""
    train_x, train_y, test_x, test_y = (torch.as_tensor(np.asarray(each)) for each in digits())
    totals, of_classes = [], []
    for x, y in ((train_x, train_y), (test_x, test_y)):
        h = x.flatten(1).to(torch.float64)
        for layer in (1, 2, 3):
            h = h @ state[f"fc{layer}.weight"].T + state[f"fc{layer}.bias"]
            h = torch.sigmoid(h) if layer < 3 else h
        rows = nn.functional.cross_entropy(h, y.long(), reduction="none")
        totals.append(float(rows.mean()))
        of_classes.append([float(rows[y == label].mean()) for label in range(10)])
    return totals, of_classes


def state_at(ds: xr.Dataset, l2: float) -> dict[str, torch.Tensor]:
    return {name: tensor.to(torch.float64) for name, tensor in hesstore.to_state_dict(ds, l2=l2).items()}


def moved(ds: xr.Dataset, steps: dict[int, float]) -> dict[str, torch.Tensor]:
    """The weights at L2, after steps along eigenvectors in units of their norm."""
    state, point = state_at(ds, L2), ds.sel(run=0, l2=L2)
    norm = torch.cat([tensor.flatten() for tensor in state.values()]).norm()
    total = sum(step * norm * torch.tensor(point["eigenvectors"].values[mode]).double() for mode, step in steps.items())
    assert isinstance(total, torch.Tensor)
    parts = torch.split(total, [tensor.numel() for tensor in state.values()])
    return {name: tensor + part.view(tensor.shape) for (name, tensor), part in zip(state.items(), parts, strict=True)}


def check(found: xr.Dataset, expected: tuple[list[float], list[list[float]]]) -> None:
    np.testing.assert_allclose(found["loss"], expected[0], rtol=1e-10)
    np.testing.assert_allclose(found["class_loss"], expected[1], rtol=1e-10)


def test_along_one_eigenvector(ds: xr.Dataset) -> None:
    found = hesstore.loss_slice(ds, L2, modes=1, reach=0.2, points=5, trust=True)
    assert found["t"].values == pytest.approx([-0.2, -0.1, 0, 0.1, 0.2])
    for t in (-0.2, 0.0, 0.1):
        check(found.sel(t=t, method="nearest"), losses(moved(ds, {1: t})))
    assert (float(found["l2"]), int(found["run"])) == (L2, 0)
    near = hesstore.loss_slice(ds, L2, modes=1, reach=1e-4, points=3, trust=True)
    rise = near["loss"].sel(split="train") - near["loss"].sel(split="train")[1]
    model = near["quadratic"] - near["quadratic"][1]
    assert float(rise[2] + rise[0]) == pytest.approx(float(model[2] + model[0]), rel=1e-4)  # the curvature
    assert float(rise[2] - rise[0]) == pytest.approx(float(model[2] - model[0]), rel=1e-4)  # the slope
    np.testing.assert_allclose(near["class_quadratic"], near["class_loss"], atol=1e-9)


def test_in_the_plane_of_two_eigenvectors(ds: xr.Dataset) -> None:
    seen: list[tuple[int, int]] = []
    found = hesstore.loss_slice(
        ds, L2, modes=(0, 2), reach=0.1, points=3, trust=True, progress=lambda *at: seen.append(at)
    )
    assert found["loss"].dims == ("split", "t", "u")
    assert seen[-1] == (9, 9)
    for i, t in enumerate((-0.1, 0.0, 0.1)):
        for j, u in enumerate((-0.1, 0.0, 0.1)):
            check(found.isel(t=i, u=j), losses(moved(ds, {0: t, 2: u})))
    norm, point = float(found["weights_norm"]), ds.sel(run=0, l2=L2)
    mu, g = point["eigenvalues"].values, point["eigenvectors"].values.astype(float) @ point["gradient"].values
    expected = float(point["loss"][0]) + 0.1 * norm * (g[0] - g[2]) + (0.1 * norm) ** 2 / 2 * (mu[0] + mu[2])
    assert float(found["quadratic"][2, 0]) == pytest.approx(expected)


def test_between_two_grid_points(ds: xr.Dataset) -> None:
    found = hesstore.loss_path(ds, 0.0, L2, points=4, beyond=0.5, trust=True)
    assert found["s"].values == pytest.approx([-0.5, 1 / 6, 5 / 6, 1.5])
    a, b = state_at(ds, 0.0), state_at(ds, L2)
    for index, s in enumerate(found["s"].values):
        check(found.isel(s=index), losses({name: a[name] + s * (b[name] - a[name]) for name in a}))
    assert float(found["distance"]) == pytest.approx(
        float(sum((a[name] - b[name]).square().sum() for name in a)) ** 0.5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modes": (0, 0)}, "give one mode, or two different ones"),
        ({"modes": (0, 1, 2)}, "give one mode, or two different ones"),
        ({"modes": 3}, "mode 3 is not in the store: choose from 0 to 2"),
        ({"modes": -1}, "mode -1 is not in the store"),
        ({"reach": 0.0}, "reach = 0: it must be above 0"),
        ({"points": 4}, "points = 4: it must be an odd number"),
        ({"l2": 0.5}, "λ = 0.5 is not one of the 2 complete grid points"),
        ({"run": 4}, "run 4 is not in the store"),
        ({"trust": False}, "trust=True"),
    ],
)
def test_wrong_arguments(ds: xr.Dataset, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        hesstore.loss_slice(ds, **{"l2": L2, "trust": True, **arguments})


def test_files_and_figures(store: Path, run_hesstore: RunHesstore, tmp_path: Path) -> None:
    where = ["--l2", str(L2), "--trust", "--points", "5"]
    for name, more in {"one": [], "two": ["--modes", "0,1"], "line": ["--to", "0"]}.items():
        done = run_hesstore("slice", store, *where, *more, "-o", f"{name}.nc")
        assert done.returncode == 0, done.stderr
        assert f"written to {name}.nc" in done.stderr
        drawn = run_hesstore("plot", "slice", f"{name}.nc", "-o", f"{name}.png", "--split", "test")
        assert drawn.returncode == 0, drawn.stderr
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    one, line = (xr.load_dataset(tmp_path / f"{name}.nc", engine="h5netcdf") for name in ("one", "line"))
    figure = plots.loss_slice(one)
    assert figure.axes[0].get_title(loc="left") == f"λ = {L2}, run 0 (seed 0, up)"
    assert [drawn.get_linestyle() for drawn in figure.axes[0].get_lines()] == ["-", "-", "--"]
    assert len(figure.axes[1].get_lines()) == 20  # ten classes, each with its quadratic model
    assert plots.loss_slice(line).axes[0].get_title(loc="left") == f"λ = {L2}, run 0 → λ = 0, run 0"
    for arguments, message in (
        (["slice", store, *where, "--to", "0", "--modes", "1", "-o", "x.nc"], "leave out --modes and --reach"),
        (["slice", store, *where, "--modes", "a", "-o", "x.nc"], "'a' is not a whole number"),
        (["slice", store, *where, "-o", "x.png"], "does not end in .nc"),
        (["plot", "slice", store, "-o", "x.png"], "give one that `hesstore slice` has written"),
        (["plot", "slice", "one.nc", "--k", "3", "-o", "x.png"], "--k is not an option of slice"),
    ):
        refused = run_hesstore(*arguments)
        assert refused.returncode == 2
        assert message in refused.stderr
