import inspect
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from hesstore import analysis
from hesstore.analysis.accessor import Hess
from tests.support.analysis_datasets import Classes, accuracies


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    """Two runs, all that the analyses ask for."""
    one = Classes().ds
    ds = xr.concat([one, one], "run").assign_coords(run=[0, 1], seed=("run", [0, 0]), direction=("run", ["up", "down"]))
    rng = np.random.default_rng(0)
    curves = np.sort(rng.uniform(size=(2, 5, 4)), axis=1)[:, ::-1]
    more = accuracies(ds.l2.values, curves, [(0, "up"), (0, "down")])
    ds["class_accuracy"] = more.class_accuracy
    ds["accuracy"] = more.class_accuracy.mean("label")
    ds["trace"] = ds.eigenvalues.sum("mode")
    ds["weights_norm"] = ds.trace**2
    ds["loss"] = -ds.accuracy
    for name in ("lowest_eigenvalues", "lowest_residual_norm"):
        ds[name] = ds.eigenvalues.rename(mode="lowest")
    ds["lowest_bound"] = ds.trace
    ds["eigenvalue_bound"] = abs(ds.eigenvalues).min("mode")
    ds["class_gradient_norm"] = abs(ds.class_slope).sum("mode")
    cosines = np.broadcast_to(np.eye(4), (2, 5, 2, 4, 4))
    ds["class_gradient_cosine"] = (("run", "l2", "split", "label", "other"), cosines)
    ds = ds.assign_coords(other=("other", ds.label.values)).assign_attrs(penalty_scale=0.5)
    return ds.assign_coords(layer=("param", np.repeat(["a", "b"], 6).astype(object)))


CALLS: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(analysis.__all__, ()),
    "overlap": (0.0, 0.02),
    "principal_angles": (0.0, 0.02),
}


@pytest.mark.parametrize("name", analysis.__all__)
def test_methods_are_the_functions(whole: xr.Dataset, name: str) -> None:
    function, method = getattr(analysis, name), getattr(whole.hess, name)
    xr.testing.assert_identical(method(*CALLS[name]), function(whole, *CALLS[name]))
    assert inspect.getdoc(method) == inspect.getdoc(function)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    assert list(inspect.signature(method).parameters.values()) == parameters


@pytest.mark.parametrize("name", [name for name in analysis.__all__ if name != "complete"])
def test_results_label_themselves(whole: xr.Dataset, name: str) -> None:
    result = getattr(analysis, name)(whole, *CALLS[name])
    for variable in result.variables.values():
        assert variable.attrs["long_name"]
    assert {variable.attrs.get("units") for variable in result.data_vars.values()} <= {None, "nat", "rad"}
    assert set(result.dims) <= set(result.coords)
    assert not result.attrs


@pytest.mark.parametrize("name", analysis.__all__)
def test_the_store_stays_as_it_is(whole: xr.Dataset, name: str) -> None:
    before = whole.copy(deep=True)
    getattr(analysis, name)(whole, *CALLS[name])
    xr.testing.assert_identical(whole, before)


def test_names() -> None:
    assert {name for name in vars(Hess) if not name.startswith("_")} == {*analysis.__all__, "results", "table"}


def test_import_is_light() -> None:
    code = "import sys, hesstore.analysis; print({'torch', 'scipy.optimize', 'scipy.linalg'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
