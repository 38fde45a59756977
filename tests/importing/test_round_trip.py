from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hesstore
from hesstore.exporting.percentages import fraction, percent
from hesstore.integrity.verify import verify
from hesstore.store import Status, SweepStore
from tests.support.export_stores import make_store, size_of


def same_files(first: Path, second: Path) -> None:
    names = [{file.name for file in folder.iterdir() if file.name != "manifest.jsonl"} for folder in (first, second)]
    assert names[0] == names[1]
    for name in sorted(names[0]):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def round_trip(store: Path, folder: Path, compress: str | None = None) -> Path:
    """Export, import and export again; the files are the same. Return the path of the imported store."""
    hesstore.export(store, folder / "a", compress=compress)
    hesstore.import_files(folder / "a", folder / "again.zarr")
    hesstore.export(folder / "again.zarr", folder / "b", compress=compress)
    same_files(folder / "a", folder / "b")
    report = verify(folder / "again.zarr")
    assert report.ok, report.problems
    return folder / "again.zarr"


@pytest.mark.parametrize("compress", [None, *(pytest.param(each, marks=pytest.mark.slow) for each in ("gz", "zst"))])
def test_export_import_export_gives_the_same_files(tmp_path: Path, compress: str | None) -> None:
    statuses = {(0, 1): Status.FITTED, (1, 0): Status.FAILED, (1, 2): Status.PENDING}
    make_store(tmp_path / "s.zarr", seeds=(4, 7), direction="both", statuses=statuses)
    again = hesstore.open(round_trip(tmp_path / "s.zarr", tmp_path, compress)).load()
    ds = hesstore.open(tmp_path / "s.zarr").load()
    assert again["seed"].values.tolist() == [4, 4, 7, 7]
    assert again["direction"].values.tolist() == ["up", "down", "up", "down"]
    complete = ds["status"] == Status.COMPLETE
    assert ((again["status"] == Status.COMPLETE) == complete).all()
    assert np.allclose(again["penalty"].where(complete), ds["penalty"].where(complete), rtol=1e-12, equal_nan=True)
    for name in ("eigenvalues", "eigenvectors", "gradient", "weights", "loss"):
        assert np.array_equal(again[name].where(complete), ds[name].where(complete), equal_nan=True), name
    for name in ("accuracy", "class_accuracy"):
        chosen = ds[name].where(complete).sel(split="test")
        assert np.array_equal(again[name].where(complete).sel(split="test"), chosen, equal_nan=True)
        assert again[name].sel(split="train").isnull().all()


def test_a_part_of_a_store_keeps_its_ids_and_names(tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", seeds=(0, 1, 2), l2=(0.0, 1e-7, 0.01))
    hesstore.export(tmp_path / "s.zarr", tmp_path / "a", runs=[1], l2=[0.01], only=["eigenvalues", "weights"])
    hesstore.import_files(tmp_path / "a", tmp_path / "t.zarr")
    hesstore.export(tmp_path / "t.zarr", tmp_path / "b")
    same_files(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "Hessian-eigenvalues-1-0.0100000.csv").exists()


WORDS = st.sampled_from([0.0, -0.0, 1.0, np.finfo(np.float32).tiny, 1e-45, 3.4e38, -1e-30, 0.1])


@st.composite
def odd_stores(draw: st.DrawFn) -> dict[str, object]:
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    shapes = []
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), start=1):
        shapes += [(f"fc{number}.weight", (fan_out, fan_in)), (f"fc{number}.bias", (fan_out,))]
    size, classes = size_of(shapes), widths[-1]
    k = draw(st.integers(1, 4))
    found = draw(st.integers(1, min(k, size)))  # the solver may have found fewer
    floats = st.one_of(WORDS, st.floats(width=32, allow_nan=False, allow_infinity=False))
    vectors = draw(hnp.arrays(np.float32, (k, size), elements=floats))
    vectors = vectors * (np.arange(size) % found == np.arange(k)[:, None] % found)  # they are orthogonal
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    vectors = np.where(norms > 0, vectors / np.where(norms > 0, norms, 1), np.eye(k, size)).astype(np.float32)
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1)
    vectors = np.where(peaks < 0, -vectors, vectors)
    vectors[found:] = np.nan
    eigenvalues = draw(hnp.arrays(np.float64, k, elements=st.floats(allow_nan=False, allow_infinity=False)))
    eigenvalues = eigenvalues[np.argsort(-np.abs(eigenvalues), kind="stable")]
    eigenvalues[found:] = np.nan
    counts = draw(hnp.arrays(np.int32, (2, classes, classes), elements=st.integers(0, 60_000)))
    counts[:, 0, 0] += 1
    with np.errstate(invalid="ignore"):
        by_class = np.diagonal(counts, axis1=1, axis2=2) / counts.sum(2)
    total = np.trace(counts, axis1=1, axis2=2) / counts.sum((1, 2))
    losses = draw(hnp.arrays(np.float64, 2, elements=st.floats(0, 1e30)))
    weights = draw(hnp.arrays(np.float32, size, elements=floats))
    values = {
        "eigenvectors": vectors,
        "eigenvalues": eigenvalues,
        "gradient": draw(hnp.arrays(np.float32, size, elements=floats)),
        "weights": weights,
        "weights_norm": float(np.linalg.norm(weights.astype(np.float64))),
        "confusion": counts,
        "class_accuracy": by_class,
        "accuracy": total,
        "loss": losses,
        "penalty": draw(st.floats(0, 1e30)),
    }
    l2 = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
    return {"l2": [value / 1e7 for value in sorted(l2)], "k": k, "shapes": shapes, "classes": classes, "values": values}


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(odd_stores())
def test_round_trip_of_odd_shapes_and_numbers(store: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made: SweepStore = make_store(Path(folder) / "s.zarr", **store)  # type: ignore[arg-type]
        again = hesstore.open(round_trip(Path(folder) / "s.zarr", Path(folder)))
        ds = hesstore.open(made.path)
        for name in ("eigenvectors", "gradient", "weights"):
            first, second = (each[name].values.view(np.uint32)[~np.isnan(each[name].values)] for each in (ds, again))
            assert np.array_equal(first, second), name


@given(st.integers(1, 60_000).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows))))
def test_percentages_have_no_rounding_digits(counts: tuple[int, int]) -> None:
    hits, rows = counts
    value = np.array([hits / rows])
    assert percent(value)[0] == 100 * hits / rows
    assert fraction(percent(value))[0] == value[0]


def test_percentages_of_other_numbers() -> None:
    odd = np.array([np.nan, 0.0, 1.0, 0.12345678901234567])
    assert np.array_equal(percent(odd)[:3], [np.nan, 0, 100], equal_nan=True)
    assert percent(odd)[3] == 100 * odd[3]
    rounded = np.array([97.3, 91.666666667, 33.333333333, 0.000000001])
    assert np.allclose(fraction(rounded), rounded / 100, rtol=1e-15)
    assert np.allclose(percent(fraction(rounded)), rounded, rtol=3e-16)
