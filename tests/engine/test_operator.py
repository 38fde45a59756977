"""A sweep with eigenpairs of the Gauss–Newton matrix instead of the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text

import hesstore
from hesstore import plots
from hesstore.analysis.selection import require_variables
from hesstore.config import SweepConfig
from hesstore.dataset.opening import SweepDataset
from hesstore.engine.sweep import run_sweep
from hesstore.errors import AnalysisError, ConfigError, ImportFilesError
from hesstore.importing import import_files
from hesstore.integrity.recheck import recheck
from hesstore.integrity.verify import verify
from hesstore.problem import training_data

SETTINGS = {"operator": "ggn", "hidden": "4", "l2": "0,0.02", "k": 6, "dtype": "float64", "density": True, "slack": 0.1}
DATA = training_data.load("tests.support.toy:digits").train


def dense_ggn(ds: SweepDataset, l2: float) -> torch.Tensor:
    """G from the Jacobian of the logits, by double backward."""
    module = hesstore.load_model(ds, l2=l2).double()
    names, parts = zip(*((name, part.detach()) for name, part in module.named_parameters()), strict=True)
    x = DATA.x.flatten(1).double()

    def logits(*parameters: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))
        return out

    jacobians = torch.autograd.functional.jacobian(logits, parts)  # type: ignore[no-untyped-call]
    j = torch.cat([each.flatten(2) for each in jacobians], 2)
    p = logits(*parts).detach().softmax(1)
    bend = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("nap,nab,nbq->pq", j, bend, j) / len(j)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ggn") / "s.zarr"
    run_sweep({"dataset": "tests.support.toy:digits", "epochs": 3, "device": "cpu", **SETTINGS}, path)
    return path


def test_results_are_those_of_the_dense_matrix(store: Path) -> None:
    with hesstore.open(store, check=True) as opened:
        ds = opened.load()
    for l2 in (0.0, 0.02):
        point, g = ds.sel(run=0, l2=l2), dense_ggn(ds, l2)
        exact = torch.linalg.eigvalsh(g).numpy()
        np.testing.assert_allclose(point["eigenvalues"], exact[::-1][:6], rtol=1e-5)
        assert exact[::-1][6] <= float(point["eigenvalue_bound"]) <= 1.2 * exact[::-1][5]
        assert 0 <= point["lowest_eigenvalues"].item() <= 1e-3 * exact[-1]
        assert float(point["lowest_bound"]) <= 1e-9
        assert abs(float(point["trace"]) - float(g.trace())) <= 3 * float(point["trace_error"])
        assert abs(float(point["frobenius_norm"]) - float(g.norm())) <= 3 * float(point["frobenius_norm_error"])
        assert float(point["class_identity_error"]) < 1e-6
        mass = np.trapezoid(point["density"], ds["mu"])
        assert mass == pytest.approx(1, abs=0.02)
    assert "scalar_curvature" not in ds
    assert verify(store).problems == []
    assert recheck(store, trust=True).problems == []


def test_names_speak_of_the_matrix(store: Path, tmp_path: Path) -> None:
    with hesstore.open(store) as ds:
        assert ds.attrs["title"] == "hesstore: Gauss-Newton spectra along an L2 sweep"
        assert "eigenvalue of the Gauss-Newton matrix" in ds["eigenvalues"].attrs["long_name"]
        assert not [name for name, array in ds.variables.items() if "Hessian" in str(array.attrs)]
        for draw in (plots.spectrum, plots.density, plots.tracks):
            labels = "".join(text.get_text() for text in draw(ds).findobj(Text))
            assert "Gauss-Newton matrix" in labels
            assert "Hessian" not in labels
        with pytest.raises(AnalysisError, match=r"never negative: record those of the Hessian with .* hessian --grow"):
            hesstore.analysis.objective_index(ds)
        with pytest.raises(AnalysisError, match="--operator hessian"):
            require_variables(ds, "scalar_curvature")
        slopes = hesstore.loss_slice(ds, 0.02, points=3, trust=True)
        assert slopes["quadratic"].attrs["long_name"] == "Gauss-Newton model of the mean training loss"
    hesstore.export(store, tmp_path / "csv")
    assert (tmp_path / "csv" / "GGN-eigenvalues-0-0.02000.csv").exists()
    assert not list((tmp_path / "csv").glob("Hessian-*"))
    import_files(tmp_path / "csv", tmp_path / "back.zarr")
    with hesstore.open(store) as ds, hesstore.open(tmp_path / "back.zarr") as back:
        assert '"operator": "ggn"' in back.attrs["identity"]
        np.testing.assert_array_equal(back["eigenvalues"], ds["eigenvalues"])
    with pytest.raises(ImportFilesError, match=r"operator: hessian was given, but .* has eigenpairs of ggn: leave it"):
        import_files(tmp_path / "csv", tmp_path / "other.zarr", settings={"operator": "hessian"})


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"solver": "eigsh"}, {"path": "independent", "models": 2}])
def test_other_ways_give_the_same(how: dict[str, object], store: Path, tmp_path: Path) -> None:
    settings = {"dataset": "tests.support.toy:digits", "epochs": 3, "device": "cpu", **SETTINGS, **how}
    run_sweep(settings, tmp_path / "s.zarr")
    with hesstore.open(tmp_path / "s.zarr") as ds:
        expected = torch.linalg.eigvalsh(dense_ggn(ds, 0.02)).numpy()[::-1][:6]
        np.testing.assert_allclose(ds["eigenvalues"].sel(run=0, l2=0.02), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_store_grows_from_one_matrix_to_the_other(toy_config: Callable[..., SweepConfig], tmp_path: Path) -> None:
    settings = {**SETTINGS, "density": False, "response": 0, "l2": "0.02"}
    run_sweep(toy_config(**{**settings, "operator": "hessian"}), tmp_path / "s.zarr")
    run_sweep(toy_config(**settings), tmp_path / "s.zarr", grow=True)
    with hesstore.open(tmp_path / "s.zarr", check=True) as ds:
        expected = torch.linalg.eigvalsh(dense_ggn(ds, 0.02)).numpy()[::-1][:6]
        np.testing.assert_allclose(ds["eigenvalues"].values.ravel(), expected, rtol=1e-5)


def test_the_smallest_eigenvalues_are_refused() -> None:
    with pytest.raises(ConfigError, match="which: SA with operator ggn asks for zeros"):
        SweepConfig(operator="ggn", which="SA")
