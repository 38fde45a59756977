from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.dataset.opening import SweepDataset, headline
from hesstore.store import Status, SweepStore
from hesstore.store.import_origin import ORIGIN, Origin
from tests.support.stores import analysed, fitted, spec

PARAMETERS: list[tuple[str, list[int]]] = [("fc1.weight", [2, 3]), ("fc1.bias", [2]), ("fc2.weight", [2, 2])]
IDENTITY = {
    "dataset": "blobs",
    "data_digest": "ab12",
    "model": "mlp",
    "k": 3,
    "lowest": 2,
    "response": 0.1,
    "probes": 4,
    "density": True,
    "parameters": PARAMETERS,
}
WHOLE = [
    "hesstore: blobs, mlp 3→2→2, 2 runs, 3 λ in [0, 0.01]",
    "          3 eigenpairs, 12 parameters; 4 complete, 1 fitted, 1 pending",
    "          all 4 spectra are complete to 0.3 %",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two runs; in the second one, one grid point is fitted and one is pending."""
    path: Path = tmp_path_factory.mktemp("opening") / "s.zarr"
    store = SweepStore.create(path, spec(identity=IDENTITY, parameters=PARAMETERS))
    for run in store.runs:
        for index in range(3 - run.id):
            store.record(run, index, Status.FITTED, fitted(index))
            if run.id + index < 2 or not run.id:
                store.record(run, index, Status.COMPLETE, analysed(index))
    return path


def test_the_repr_describes_the_sweep_and_its_progress(path: Path) -> None:
    ds = hesstore.open(path)
    assert headline(ds) == WHOLE
    text = repr(ds).splitlines()
    assert text[:3] == WHOLE
    assert text[4:] == repr(xr.open_zarr(path)).splitlines()[1:]
    assert max(map(len, WHOLE)) < 80
    shown = ds._repr_html_().split("<style>")[0]
    assert "\n".join(WHOLE[1:]) in shown
    assert "mlp 3→2→2" in shown
    with xr.set_options(display_style="text"):  # type: ignore[no-untyped-call]
        assert ds._repr_html_().count(WHOLE[1]) == 1


def test_the_dataset_is_identical_to_that_of_xarray(path: Path) -> None:
    ds, plain = hesstore.open(path), xr.open_zarr(path)
    assert ds.identical(plain)
    assert plain.identical(ds)
    assert list(ds.variables) == list(plain.variables)
    encodings = [str([variable.encoding for variable in each.variables.values()]) for each in (ds, plain)]
    assert encodings[0] == encodings[1]
    again = pickle.loads(pickle.dumps(ds))  # noqa: S301 - made by this test
    assert headline(again) == WHOLE
    assert isinstance(again.load(), SweepDataset)
    assert ds.hess.complete().identical(plain.hess.complete())
    ds.close()


@pytest.mark.parametrize(
    ("part", "first", "second", "third"),
    [
        (
            lambda ds: ds.sel(run=1),
            "2, run 1, 3 λ in [0, 0.01]",
            "12 parameters; 1 complete, 1 fitted, 1 pending",
            "the spectrum is complete to 0.3 %",
        ),
        (lambda ds: ds.sel(run=1, l2=0.0006), "2, run 1, λ = 0.0006", "3 eigenpairs, 12 parameters; 1 fitted", ""),
        (
            lambda ds: ds.sel(l2=[0.01]),
            "2 runs, 1 λ in [0.01, 0.01]",
            "12 parameters; 1 complete, 1 pending",
            "the spectrum is complete to 0.3 %",
        ),
        (
            lambda ds: ds.isel(mode=slice(2), param=slice(9)).load(),
            "2 runs, 3 λ",
            "2 eigenpairs, 9 parameters; 4 com",
            "",
        ),
        (
            lambda ds: ds.isel(run=0, drop=True),
            "2, 3 λ in",
            "3 eigenpairs, 12 parameters; 3 complete",
            "all 3 spectra are complete to 0.3 %",
        ),
        (lambda ds: ds[["status", "loss"]].transpose(), "2 runs, 3 λ", "          4 complete, 1 fitted", ""),
        (lambda ds: ds.isel(l2=[]), "2 runs, 0 λ", "          3 eigenpairs, 12 parameters", ""),
    ],
)
def test_the_headline_of_a_part(
    path: Path, part: Callable[[xr.Dataset], xr.Dataset], first: str, second: str, third: str
) -> None:
    lines = headline(part(hesstore.open(path)))
    assert first in lines[0]
    assert second in lines[1]
    assert lines[2:] == ([f"          {third}"] if third else [])


@pytest.mark.parametrize(
    "calculate",
    [
        lambda ds: ds[["loss"]],
        lambda ds: ds.mean("run"),
        lambda ds: ds[["status"]] * 2,
        lambda ds: ds[["status"]].diff("l2"),
        lambda ds: ds[["status"]].max("l2"),
        lambda ds: ds.assign(status=ds["status"] * 0),
        lambda ds: ds.rename(l2="strength"),
        lambda ds: ds[["status"]].stack(cell=("run", "l2")),
        lambda ds: xr.concat([ds, ds], "run"),
        lambda ds: ds.drop_attrs(),
        lambda ds: ds.assign_attrs(identity="{}"),
        lambda ds: ds.assign_attrs(identity="[]"),
        lambda ds: ds.hess.layer_mass(),
    ],
)
def test_computed_datasets_have_no_headline(path: Path, calculate: Callable[[xr.Dataset], xr.Dataset]) -> None:
    result = calculate(hesstore.open(path))
    assert headline(result) == []
    assert not repr(result).startswith("hesstore: ")
    assert "<pre>hesstore: " not in result._repr_html_()


def test_the_headline_of_an_import(path: Path) -> None:
    ds = hesstore.open(path).assign_attrs({ORIGIN: Origin(files="classic").to_json()})
    assert headline(ds)[0].startswith("hesstore: imported from classic files, blobs, mlp")
    unknown = ds.assign_attrs(identity=ds.attrs["identity"].replace("ab12", ""))
    assert headline(unknown)[0].startswith("hesstore: imported from classic files, mlp")
    own = ds.assign_attrs(identity=ds.attrs["identity"].replace("mlp", "<my>:net"))
    assert "blobs, <my>:net, 2 runs" in headline(own)[0]
    assert "blobs, &lt;my&gt;:net, 2 runs" in own._repr_html_()


@pytest.mark.parametrize("chunked", [True, False])
def test_the_progress_is_read_when_the_dataset_is_shown(path: Path, tmp_path: Path, *, chunked: bool) -> None:
    path = Path(shutil.copytree(path, tmp_path / "s.zarr"))
    ds = hesstore.open(path, chunked=chunked)
    assert headline(ds) == WHOLE
    store = SweepStore.open(path)
    store.record(store.runs[1], 1, Status.COMPLETE, analysed(1))
    assert headline(ds)[1].endswith("; 5 complete, 1 pending")
    assert headline(ds)[2].endswith("all 5 spectra are complete to 0.3 %")
    bound = path / "eigenvalue_bound" / "c" / "1" / "0"
    bound.write_bytes(bytes([*bound.read_bytes()[:-1], 0]))
    assert headline(ds)[2].endswith("the spectra can't be read: `hesstore verify` lists every damaged file")
    chunk = path / "status" / "c" / "1" / "0"
    chunk.write_bytes(bytes([*chunk.read_bytes()[:-1], 0]))
    assert "the progress can't be read (" in headline(ds)[1]
    assert "3 eigenpairs" in repr(ds)
    with pytest.raises((ValueError, RuntimeError)):
        np.asarray(ds["status"])
