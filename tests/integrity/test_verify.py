from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import hesstore
from hesstore.config import SweepConfig, fingerprint
from hesstore.engine.experiment import Experiment
from hesstore.engine.sweep import run_sweep
from hesstore.errors import CorruptStoreError, StoreBusyError, StoreError
from hesstore.integrity.findings import Findings
from hesstore.integrity.repair import repair
from hesstore.integrity.value_rules import contradictions
from hesstore.integrity.verify import verify
from hesstore.store import SweepStore
from hesstore.store.chunk_files import chunk_file
from hesstore.store.metadata import read_metadata, rebuild_spec, seal
from hesstore.store.places.durable_store import DurableLocalStore
from hesstore.store.schema import BY_NAME, VARIABLES, Status, promised_large, promised_small
from hesstore.store.writing import PROMISES
from tests.support.sweeps import results
from tests.support.toy import TOY

L2 = (0.0, 0.001, 0.01, 0.05)
CONFIG = {**TOY, "response": 0.1, "lowest": 2, "direction": "both", "seeds": (3,), "lr": 0.02}
"""A seed of 0 would have no file: it is the fill value."""
IDENTITY = SweepConfig.from_mapping(CONFIG).identity()
LARGE = promised_large(IDENTITY, Status.COMPLETE)
SMALL = ("status", "digest", "entries_digest", "solver_message", "converged", "confusion", "eigenvalues")
"""One of each kind: digests, a text, a flag, counts, numbers of the fit and of the analysis."""
# The metadata of the root and of the variables; that of the coordinates, and a chunk of each; the chunks of the large
# and of the small variables. No grid point has failed, so `failure` has no chunk.
EVERY_FILE = 1 + 49 + 15 + 15 + 11 * 8 + 37 * 2


def sweep(path: Path) -> None:
    run_sweep(SweepConfig.from_mapping(CONFIG), path)


pytestmark = pytest.mark.slow  # tests/cli/test_verify.py is the quick look


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store of two runs of four λ, and copies of it, next to it, as it was earlier."""
    path = tmp_path_factory.mktemp("whole") / "s.zarr"
    SweepStore.create(path, Experiment.prepare(SweepConfig.from_mapping(CONFIG)).spec())
    for done in range(8):
        shutil.copytree(path, path.with_name(f"{done}.zarr"))
        asked = itertools.count()
        run_sweep(SweepConfig.from_mapping(CONFIG), path, stop=lambda asked=asked: next(asked) > 0)  # type: ignore[misc]
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s.zarr"))


def files(path: Path) -> list[str]:
    return sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".claim")
    )


def flip(file: Path, rng: np.random.Generator) -> None:
    data = bytearray(file.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)


def flip_identity(root: Path) -> None:
    """Flip a bit of the identity, which no other file repeats."""
    data = bytearray(root.read_bytes())
    data[data.index(b"penalty", data.index(b'"identity"'))] ^= 1
    root.write_bytes(data)


def exchange(store: Path, one: str, other: str) -> None:
    (store / one).rename(store / "aside")
    (store / other).rename(store / one)
    (store / "aside").rename(store / other)


def lines(report: Findings) -> list[str]:
    return [str(problem) for problem in report.problems]


def made_whole(store: Path, whole: Path) -> None:
    """After a repair: clean, and once swept again the same as if nothing had happened."""
    done = repair(store)
    assert done.after.ok, lines(done.after)
    assert verify(store).ok
    sweep(store)
    assert lines(verify(store)) == []
    xr.testing.assert_identical(results(store), results(whole))


def test_a_whole_store_is_clean(whole: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(whole, progress=lambda *step: seen.append(step))
    assert report.ok
    assert not any((report.remarks, report.leftovers, report.damaged_files))
    assert report.counts == {Status.COMPLETE: 8}
    assert seen == [(done, 8) for done in range(1, 9)]
    assert len(files(whole)) == EVERY_FILE  # all of the schema's, so that the tests below miss none


def test_unfinished_stores_are_clean(whole: Path) -> None:
    """At each moment between two λ; 0 is the empty template."""
    for moment in range(8):
        report = verify(whole.with_name(f"{moment}.zarr"))
        assert lines(report) == []
        assert report.counts[Status.PENDING] == 8 - moment


def test_one_flipped_bit_in_any_file_is_found(store: Path) -> None:
    rng = np.random.default_rng(0)
    missed = []
    for name in files(store)[::3]:
        good = (store / name).read_bytes()
        flip(store / name, rng)
        report = verify(store)
        if report.ok or not any(problem.file == name for problem in report.problems):
            missed.append((name, lines(report)))
        (store / name).write_bytes(good)
    assert missed == []
    assert verify(store).ok


def test_every_bit_of_the_root_attributes_counts(store: Path) -> None:
    """No exception but the case of the digits in ``\\u03bb`` and the like, which reads as the same character."""
    file = store / "zarr.json"
    good = file.read_bytes()
    end = good.index(b'"consolidated_metadata"')
    rng = np.random.default_rng(0)
    for position in [*range(40), *rng.integers(40, end, 100)]:
        for bit in range(8) if position < 40 else rng.integers(0, 8, 1):
            bad = bytearray(good)
            bad[position] ^= 1 << int(bit)
            file.write_bytes(bad)
            found = read_metadata(store)
            assert "zarr.json" in found.damage, (position, bit, bytes(bad[position - 20 : position + 20]))


def test_a_missing_empty_or_truncated_file_is_found(store: Path) -> None:
    """Each file suffers one of them."""
    missed = []
    harms = itertools.cycle(["missing", "empty", "truncated"])
    for name, harm in zip(files(store)[1::5], harms, strict=False):
        good = (store / name).read_bytes()
        (store / name).unlink()
        if harm != "missing":
            (store / name).write_bytes(b"" if harm == "empty" else good[: len(good) // 2])
        if verify(store).ok:
            missed.append(name)
        (store / name).write_bytes(good)
    assert missed == []


def test_flipped_bits_are_repaired_in_any_file(store: Path, whole: Path) -> None:
    """Of each folder a file that is not tried below: repaired, and just the λ that were bad are pending afterwards."""
    rng = np.random.default_rng(7)
    unrepaired = []
    small = {variable.name for variable in VARIABLES if not variable.is_large}
    for name in ("zarr.json", *(name for name in files(store)[::9] if name.split("/")[0] not in small)):
        flip_identity(store / name) if name == "zarr.json" else flip(store / name, rng)
        done = repair(store)
        if not done.after.ok:
            unrepaired.append(name)
        statuses = xr.open_zarr(whole if name in unrepaired else store)["status"].values
        bad = {(run, index) for run, index in zip(*np.nonzero(statuses == Status.PENDING), strict=True)}
        assert bad == set(done.withdrawn), name
        shutil.rmtree(store)
        shutil.copytree(whole, store)
    assert unrepaired == ["zarr.json"]  # nothing else says what the identity said


def test_everything_at_once_is_repaired_and_swept_to_the_same_results(store: Path, whole: Path) -> None:
    rng = np.random.default_rng(1)
    flip(store / "weights/c/0/1/0", rng)
    (store / "eigenvectors/c/0/2/0/0").unlink()
    (store / "gradient/c/1/0/0").write_bytes(b"")
    (store / "confusion/c/1/0/0/0/0").write_bytes((store / "confusion/c/1/0/0/0/0").read_bytes()[:50])
    flip(store / "l2/c/0", rng)
    (store / "seed/c/0").unlink()
    flip(store / "loss/zarr.json", rng)
    with pytest.raises(
        CorruptStoreError, match=r"a coordinate: l2/c/0 is damaged .* `hesstore verify .* --repair` restores it"
    ):
        SweepStore.open(store)
    report = verify(store)
    assert report.bad == {(0, 1), (0, 2), *((1, index) for index in range(4))}
    assert set(report.damaged_files) == {
        "weights/c/0/1/0",
        "eigenvectors/c/0/2/0/0",
        "gradient/c/1/0/0",
        "confusion/c/1/0/0/0/0",
        "l2/c/0",
        "seed/c/0",
        "loss/zarr.json",
    }
    made_whole(store, whole)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("harm", ["flipped", "missing", "exchanged"])
def test_harm_to_a_small_chunk_is_found_and_repaired(store: Path, whole: Path, name: str, harm: str) -> None:
    file, other = (chunk_file(BY_NAME[name], run, 0) for run in (0, 1))
    if harm == "flipped":
        flip(store / file, np.random.default_rng(2))
    elif harm == "missing":
        (store / file).unlink()
    else:
        exchange(store, file, other)
    same = (store / file).exists() and (store / file).read_bytes() == (whole / file).read_bytes()
    if same:
        assert harm == "exchanged"
        assert name in {"status", "converged", "epochs"}  # the same in both runs: nothing changed
        return
    report = verify(store)
    assert {run for run, _ in report.bad} == ({0, 1} if harm == "exchanged" else {0})
    done = repair(store)
    assert lines(done.after) == []
    assert set(done.withdrawn) == report.bad
    for promise in PROMISES:
        values = xr.open_zarr(store)[promise].values
        assert all(values[place] == 0 for place in report.bad)
    if harm == "flipped" and name in {"status", "digest"}:
        made_whole(store, whole)


@pytest.mark.parametrize("name", ["weights", "gradient", "eigenvectors", "class_curvature"])
@pytest.mark.parametrize("places", [((0, 1), (0, 2)), ((0, 3), (1, 3))], ids=["two λ", "two runs"])
def test_arrays_exchanged_between_two_grid_points_are_found(
    store: Path, whole: Path, name: str, places: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    one, other = (chunk_file(BY_NAME[name], *place) for place in places)
    exchange(store, one, other)
    report = verify(store)
    assert report.bad == set(places)
    assert re.match(r"run \d  λ = 0\.\d+  digest: does not match weights, .* swapped", lines(report)[0])
    if name == "weights" and places[0][0] != places[1][0]:
        made_whole(store, whole)


def test_all_arrays_of_two_grid_points_exchanged_are_found(store: Path) -> None:
    for name in LARGE:
        exchange(store, chunk_file(BY_NAME[name], 0, 1), chunk_file(BY_NAME[name], 1, 1))
    assert verify(store).bad == {(0, 1), (1, 1)}


def test_entries_exchanged_within_a_chunk_are_found(store: Path) -> None:
    array = zarr.open_group(DurableLocalStore(store), mode="r+")["matvecs"]
    assert isinstance(array, zarr.Array)
    row = np.asarray(array[0])
    array[0] = row[[1, 0, 2, 3]]
    assert verify(store).bad == ({(0, 0), (0, 1)} if row[0] != row[1] else set())


@pytest.mark.parametrize("moment", [4, 5, 6, 7])
def test_a_stale_status_is_found(store: Path, whole: Path, moment: int) -> None:
    file = "status/c/1/0"
    source = whole.with_name(f"{moment}.zarr") / file
    (store / file).unlink()
    if source.exists():
        shutil.copy(source, store / file)
    report = verify(store)
    assert report.bad
    assert all("is behind its digests" in line for line in lines(report))
    if moment == 6:
        made_whole(store, whole)
    else:
        assert set(repair(store).withdrawn) == report.bad
        assert verify(store).ok


def test_a_status_that_promises_more_than_is_there_is_found(store: Path, whole: Path) -> None:
    earlier = whole.with_name("3.zarr")
    for name in LARGE:
        shutil.rmtree(store / name)
        shutil.copytree(earlier / name, store / name)
    for variable in VARIABLES:
        file = chunk_file(variable, 1, 0)
        if not variable.is_large and variable.name != "status" and (store / file).exists():
            (store / file).unlink()
            if (earlier / file).exists():
                shutil.copy(earlier / file, store / file)
    report = verify(store)
    promised = xr.open_zarr(earlier)["status"].values != Status.COMPLETE
    assert report.bad == {tuple(place) for place in np.argwhere(promised)}
    made_whole(store, whole)


def test_a_kill_just_before_the_status_is_no_damage(store: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The killed driver's name is still there then; it explains as many statuses as are written together."""
    (store / "status/.claim-1.json").write_text("{}")
    array = zarr.open_group(DurableLocalStore(store), mode="r+")["status"]
    assert isinstance(array, zarr.Array)
    array[1, 2] = Status.PENDING
    report = verify(store)
    assert report.ok
    assert re.match(r"run 1  λ = 0\.01  status: pending is behind .*: its sweep was killed", report.remarks[0])
    array[1, 1] = Status.PENDING
    assert verify(store).ok
    monkeypatch.setattr("hesstore.integrity.verify.TOGETHER", 1)
    assert verify(store).bad == {(1, 1), (1, 2)}
    monkeypatch.undo()
    (store / "status/.claim-1.json").unlink()
    assert verify(store).bad == {(1, 1), (1, 2)}


def test_leftovers_are_told_and_removed(store: Path) -> None:
    template = Path(tempfile.mkdtemp(prefix=f".{store.name}.", suffix=".partial", dir=store.parent))
    (template / "zarr.json").write_text("{")
    others = [Path(tempfile.mkdtemp(prefix=".s.zarr.b.", suffix=".partial", dir=store.parent)), store.parent / "mine"]
    others[1].mkdir()
    inside = [store / "weights/c/0/1/.0.0123456789abcdef0123456789abcdef.partial", store / ".zarr.json.00.partial"]
    for file in inside:
        file.write_bytes(b"half")
    report = verify(store)
    assert report.ok
    assert sorted(report.leftovers) == sorted([*inside, template])
    done = repair(store)
    assert sorted(done.removed) == sorted(map(str, [*inside, template]))
    assert done.after.leftovers == []
    assert not any(file.exists() for file in (*inside, template))
    assert all(other.exists() for other in others)


def test_foreign_files_are_remarked(store: Path) -> None:
    (store / "notes.txt").write_text("mine")
    assert verify(store).remarks == ["notes.txt: not a file of a store"]
    repair(store)
    assert (store / "notes.txt").exists()


def test_repair_leaves_a_live_sweep_alone(store: Path) -> None:
    (store / "weights/c/0/1/0").unlink()
    leftover = store / "weights/c/0/1/.0.00.partial"
    leftover.write_bytes(b"half")
    driven = SweepStore.open(store)
    with driven.claim(driven.runs[1]):
        with pytest.raises(StoreBusyError, match=r"run 1 .* by process"):
            repair(store)
        assert leftover.exists()
        assert (driven.status(driven.runs[0]) == Status.COMPLETE).all()
        assert verify(store).bad == {(0, 1)}
    assert repair(store).after.ok


def test_a_damaged_consolidated_copy_is_written_anew(store: Path, whole: Path) -> None:
    root = json.loads((store / "zarr.json").read_text())
    root["consolidated_metadata"]["metadata"]["weights"]["shape"][0] = 7
    (store / "zarr.json").write_text(json.dumps(root))
    report = verify(store)
    assert report.damaged_files == ["zarr.json"]
    assert report.bad == set()  # read through the arrays' own metadata
    made_whole(store, whole)
    assert json.loads((store / "zarr.json").read_text()) == json.loads((whole / "zarr.json").read_text())


def test_metadata_that_are_lost_can_not_be_repaired(store: Path) -> None:
    (store / "zarr.json").write_text("{")
    done = repair(store)
    assert lines(done.after)[0] == "zarr.json: is missing or is not JSON"
    assert "the grid points were not checked" in lines(done.after)[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", "other"),
        ("penalty_scale", 1.0),
        ("environment", "{}"),
        ("config", "{}"),
        ("seal", None),
        ("schema_version", 4),
        ("schema_version", 2),
        ("more", 1),
    ],
)
def test_changed_attributes_are_found(store: Path, name: str, value: object) -> None:
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"][name] = value
    if value is None:
        del root["attributes"][name]
    (store / "zarr.json").write_text(json.dumps(root))
    assert verify(store).damaged_files == ["zarr.json"]


def test_another_schema_is_refused(store: Path) -> None:
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"] |= {"schema_version": 4, "new": "thing", "seal": "of another kind"}
    (store / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreError, match="has schema 4, but this hesstore reads only schema 1"):
        verify(store)


def test_grown_stores_are_clean_and_sealed(store: Path) -> None:
    """More λ, and runs that come first in the config but last in the store; then other spectra."""
    larger = {**CONFIG, "l2": "0,0.001,0.005,0.01,0.05", "seeds": "1,3"}
    for wanted in (larger, {**larger, "k": 7}):
        run_sweep(SweepConfig.from_mapping(wanted), store, grow=True, stop=lambda: True)
        assert lines(verify(store)) == []
    assert SweepStore.open(store).runs[0].seed == 3
    assert verify(store).counts == {Status.FITTED: 8, Status.PENDING: 12}


def change_and_seal(store: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change attributes and metadata of arrays, in all copies, and seal them again."""
    root = json.loads((store / "zarr.json").read_text())
    attributes, documents = root["attributes"], root["consolidated_metadata"]["metadata"]
    change(attributes, documents)
    attributes["seal"] = seal(attributes, documents)
    (store / "zarr.json").write_text(json.dumps(root))
    for name, metadata in documents.items():
        (store / name / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("identity", "{", "cannot be understood"),
        ("environment", "[]", "environment or the data digest"),
        ("fingerprint", "0", "fingerprint does not match identity"),
        ("penalty_scale", 1.0, "penalty_scale is 1.0, but that of the config is 0.5"),
        ("config", json.dumps({**CONFIG, "k": 7}), "identity and config disagree about k"),
        ("config", json.dumps(TOY), "runs are [(3, 'up'), (3, 'down')], but those of the config"),
        ("config", '{"q": 1}', "unknown key 'q'"),
    ],
)
def test_attributes_that_contradict_each_other_are_found(store: Path, name: str, value: object, what: str) -> None:
    change_and_seal(store, lambda attributes, _: attributes.update({name: value}))
    report = verify(store)
    assert what in lines(report)[0]
    assert report.damaged_files == ["zarr.json"]


def test_metadata_unlike_the_schema_are_found(store: Path) -> None:
    change_and_seal(store, lambda _, documents: documents["loss"].update(fill_value=0.0))
    assert lines(verify(store))[0] == "loss/zarr.json: fill_value is 0.0, but nan in the schema"


def values_of(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    cell = xr.open_zarr(path).isel(run=0, l2=2)
    return {name: cell[name].values for name in (*LARGE, *promised_small(IDENTITY, Status.COMPLETE))}


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("weights", lambda v: v * np.nan, "weights: 485 of 485 values are not finite"),
        ("weights", lambda v: v * 1.01, "penalty: does not match the weights"),
        ("gradient", lambda v: v / 0, "gradient: 485 of 485 values are not finite"),
        ("loss", lambda v: -v, "loss: is negative"),
        ("fit_seconds", lambda v: -v, "fit_seconds: -"),
        ("epochs", lambda v: v * 0 - 1, "epochs: 1 of 1 counts are negative"),
        ("solver_message", lambda _: np.array(""), "solver_message: is empty"),
        ("confusion", lambda v: v[::-1], "class_accuracy: does not match the confusion counts"),
        ("accuracy", lambda v: v + 1e-9, "accuracy: does not match the confusion counts"),
        ("class_accuracy", lambda v: v * np.nan, "class_accuracy: does not match"),
        ("eigenvalues", lambda v: v[::-1], "eigenvalues: are not in the order of LM"),
        ("eigenvalues", lambda v: np.where(v == v[1], np.nan, v), "eigenvalues: 1 of 6 are missing"),
        ("eigenvalues", lambda v: np.where(v == v[-1], np.nan, v), "eigenvectors: are not finite where"),
        ("eigenvectors", lambda v: v * 1.01, "eigenvectors: |V Vᵀ − I| is 0.02"),
        ("eigenvectors", lambda v: v[[0, 0, 2, 3, 4, 5]], "eigenvectors: |V Vᵀ − I| is 1"),
        ("residual_norm", lambda v: -v - 1, "residual_norm: is negative"),
        ("residual_norm", lambda v: v * np.nan, "residual_norm: is not finite"),
        ("eigenvalue_bound", lambda v: v * np.nan, "eigenvalue_bound: is missing"),
        ("lowest_eigenvalues", lambda v: v[::-1], "lowest_eigenvalues: are not in the order of SA"),
        ("lowest_eigenvectors", lambda v: v * 1.01, "lowest_eigenvectors: |V Vᵀ − I| is 0.02"),
        ("lowest_bound", lambda v: v * np.nan, "lowest_bound: is missing"),
        ("lowest_converged", lambda v: v * 0 - 1, "lowest_converged: 2 of 2 flags are not set"),
        ("class_curvature", lambda v: v * 1.01, "class_identity_error: is "),
        ("class_identity_error", lambda v: v + 1e-4, "class_identity_error: is "),
        ("class_identity_error", lambda v: v * np.nan, "class_identity_error: is missing"),
        ("class_response", lambda v: v + 2, "class_response: is not a difference of accuracies"),
        ("measured_rise", lambda v: 2 * v, "measured_rise: is not within 5% of 0.1 nat"),
        ("response_step", lambda v: v * np.nan, "measured_rise: is set where response_step is missing"),
        ("class_gradient_cosine", lambda v: v * 2, "class_gradient_cosine: is not between"),
        ("weights_share", lambda v: v + 1, "weights_share: is not between 0 and 1"),
        ("gradient_norm", lambda v: -v, "gradient_norm: is negative"),
        ("trace", lambda v: v * np.nan, "trace: is missing"),
        ("converged", lambda v: v * 0 - 1, "converged: 6 of 6 flags are not set"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_contradictions(whole: Path, name: str, change: Callable[..., object], what: str) -> None:
    values = values_of(whole)
    spec = rebuild_spec(read_metadata(whole))
    assert list(contradictions(Status.COMPLETE, values, 0.01, spec.identity, spec.attrs)) == []
    with np.errstate(all="ignore"):
        changed = {**values, name: np.asarray(change(values[name]))}
    found = list(contradictions(Status.COMPLETE, changed, 0.01, spec.identity, spec.attrs))
    assert any(line.startswith(what) for line in found), found


def test_fewer_pairs_than_asked_for_are_no_contradiction(whole: Path) -> None:
    values = values_of(whole)
    spec = rebuild_spec(read_metadata(whole))
    for name in ("eigenvalues", "residual_norm", "eigenvectors"):
        values[name] = values[name].copy()
        values[name][4:] = np.nan
    values["converged"] = np.array([True] * 4 + [False] * 2)
    values["eigenvalue_bound"] = np.array(np.inf)  # a search that ends early knows no bound
    assert list(contradictions(Status.COMPLETE, values, 0.01, spec.identity, spec.attrs)) == []
    values["converged"] = np.ones(6, bool)
    (line,) = contradictions(Status.COMPLETE, values, 0.01, spec.identity, spec.attrs)
    assert line == "converged: is set where an eigenvalue is missing"


def test_a_class_without_rows_is_no_contradiction(whole: Path) -> None:
    values = values_of(whole)
    spec = rebuild_spec(read_metadata(whole))
    confusion = values["confusion"].copy()
    confusion[:, 4] = 0
    hits, rows = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(2)
    with np.errstate(invalid="ignore"):
        values |= {"confusion": confusion, "class_accuracy": hits / rows, "accuracy": hits.sum(1) / rows.sum(1)}
    assert np.isnan(values["class_accuracy"]).sum() == 2
    curvature = values["class_curvature"].copy()
    curvature[:, :, 4] = np.nan
    shares = np.delete(rows[0], 4) / rows[0].sum()
    off = np.abs(np.delete(curvature[:, 0], 4, axis=1) @ shares - values["eigenvalues"]).max()
    error = off / np.abs(values["eigenvalues"]).max()
    values |= {"class_curvature": curvature, "class_identity_error": np.array(error)}
    assert list(contradictions(Status.COMPLETE, values, 0.01, spec.identity, spec.attrs)) == []


def test_failed_grid_points_are_checked_too(tmp_path: Path) -> None:
    config = SweepConfig.from_mapping({**TOY, "optimizer": "sgd", "lr": 1e30, "l2": "0,0.001"})
    run_sweep(config, tmp_path / "s.zarr")
    report = verify(tmp_path / "s.zarr")
    assert report.ok
    assert report.counts == {Status.FAILED: 2}
    run_sweep(config, tmp_path / "s.zarr", retry_failed=True, stop=lambda: True)
    assert verify(tmp_path / "s.zarr").counts == {Status.PENDING: 2}
    run_sweep(config, tmp_path / "s.zarr")
    (tmp_path / "s.zarr/failure/c/0/0").unlink()
    assert verify(tmp_path / "s.zarr").bad == {(0, 0), (0, 1)}
    assert repair(tmp_path / "s.zarr").after.counts == {Status.PENDING: 2}
    run_sweep(config, tmp_path / "s.zarr")
    assert verify(tmp_path / "s.zarr").ok


def test_links_that_lead_outside_are_refused(store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(store / "weights/c/0/1/0", outside)
    (store / "weights/c/0/1/0").symlink_to(outside)
    for use in (verify, repair, hesstore.open, SweepStore.open):
        with pytest.raises(StoreError, match="weights/c/0/1/0 is a link that leads outside of the store"):
            use(store)
    (store / "weights/c/0/1/0").unlink()
    shutil.move(outside, store / "weights/c/0/1/0")
    shutil.move(store / "loss", outside)
    (store / "loss").symlink_to("../outside", target_is_directory=True)
    with pytest.raises(StoreError, match="loss is a link"):
        hesstore.open(store)
    (store / "loss").unlink()
    shutil.move(outside, store / "loss")
    (store / "dangling").symlink_to("/nowhere")
    with pytest.raises(StoreError, match="dangling is a link"):
        hesstore.open(store)
    (store / "dangling").unlink()
    (store / "within").symlink_to("loss", target_is_directory=True)
    (tmp_path / "alias").symlink_to(store, target_is_directory=True)
    assert verify(tmp_path / "alias").ok


def test_every_small_variable_is_promised_by_a_status() -> None:
    everything = {"k": 1, "lowest": 1, "response": 0.1, "probes": 4, "density": True, "center": "x", "polish": 1}
    everything |= {"blocks": "layer", "block_k": 1}
    promised = {name for status in Status for name in promised_small(everything, status)}
    assert promised == {variable.name for variable in VARIABLES if not variable.is_large} - set(PROMISES)


def test_the_seal_is_that_of_the_root_and_the_arrays(whole: Path) -> None:
    root = json.loads((whole / "zarr.json").read_text())
    arrays = {file.parent.name: json.loads(file.read_text()) for file in whole.glob("*/zarr.json")}
    attributes = {name: value for name, value in root["attributes"].items() if name != "seal"}
    assert root["attributes"]["seal"] == fingerprint({"attributes": attributes, "arrays": arrays})


def test_paths_that_are_not_stores(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    zarr.create_group(tmp_path / "other.zarr")
    for name, message in (
        ("none", "no such store"),
        ("file", "is a file"),
        ("folder", "is not a Zarr store"),
        ("other.zarr", "not one of hesstore"),
    ):
        with pytest.raises(StoreError, match=message):
            verify(tmp_path / name)
    if os.geteuid():  # root may write anywhere
        (tmp_path / "other.zarr").chmod(0o555)
        with pytest.raises(StoreError, match="no permission"):
            repair(tmp_path / "other.zarr")
