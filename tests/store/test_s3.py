"""Stores on S3, tested with a real server on the loopback interface."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import ConfigMismatchError, StoreBusyError, StoreError, StoreUnreachableError
from hesstore.store import Run, Status, SweepStore
from hesstore.store.arrays import Arrays
from hesstore.store.growing import grow_store
from hesstore.store.places.location import locate
from tests.support.command_line import RunHesstore
from tests.support.paths import ROOT
from tests.support.scale import GETS, PUTS
from tests.support.stores import GROWN, LARGE, analysed, fitted, recorded, spec
from tests.support.sweeps import Stop, stop_at, untimed

obstore = pytest.importorskip("obstore")
pytest.importorskip("moto")

from obstore.store import S3Store  # noqa: E402

from hesstore.store.places import claim_thread, s3_errors  # noqa: E402
from hesstore.store.places import lease as lease_module  # noqa: E402
from hesstore.store.places.lease import Lease  # noqa: E402
from hesstore.store.places.s3 import UNFINISHED  # noqa: E402
from hesstore.store.places.s3_zarr_store import S3ZarrStore  # noqa: E402
from tests.support.s3_server import ask, served  # noqa: E402

MakeConfig = Callable[..., SweepConfig]
URL = "s3://bucket/runs/s.zarr"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture(autouse=True)
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty bucket, and the environment variables to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (
        ("AWS_ENDPOINT_URL", server),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    ask(f"{server}/moto-api/reset", b"", method="POST")
    ask(f"{server}/bucket", method="PUT")


def objects(url: str = URL) -> S3Store:
    name = url.removeprefix("s3://bucket/")
    return S3Store("bucket", prefix=name, client_options={"allow_http": True})


def contents(url: str = URL) -> dict[str, bytes]:
    at = objects(url)
    return {each["path"]: bytes(obstore.get(at, each["path"]).bytes()) for batch in obstore.list(at) for each in batch}


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_template_has_the_same_bytes_as_a_local_one(tmp_path: Path) -> None:
    SweepStore.create(tmp_path / "s.zarr", spec())
    store = SweepStore.create(URL, spec())
    assert store.path == URL
    assert contents() == files(tmp_path / "s.zarr")
    assert SweepStore.open(store.path).runs == store.runs
    assert set(hesstore.open(URL).data_vars) == {variable.name for variable in spec().variables}


@pytest.mark.slow
def test_recorded_results_have_the_same_bytes_as_local_ones(tmp_path: Path) -> None:
    for location in (tmp_path / "s.zarr", URL):
        store = SweepStore.create(location, spec())
        for index in range(3):
            with store.claim(store.runs[1]):
                store.record(store.runs[1], index, Status.FITTED, fitted(index))
                store.record(store.runs[1], index, Status.COMPLETE, analysed(index))
    ours, local = contents(), files(tmp_path / "s.zarr")
    assert {key: ours[key] for key in local if ".claim" not in key} == ours
    assert hesstore.open(URL).load().identical(xr.open_zarr(tmp_path / "s.zarr").load())
    assert locate(URL).size() == sum(map(len, ours.values()))


def test_the_status_is_written_last(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SweepStore.create(URL, spec())
    written: list[str] = []
    real = S3ZarrStore.set

    async def spy(self: S3ZarrStore, key: str, value: Any) -> None:
        await real(self, key, value)
        written.append(key.partition("/")[0])

    monkeypatch.setattr(S3ZarrStore, "set", spy)
    store.record(store.runs[0], 0, Status.FITTED, fitted(0))
    store.record(store.runs[0], 0, Status.COMPLETE, analysed(0))
    cut = written.index("status") + 1
    analysis = set(LARGE) - {"weights"}
    for phase, large in ((written[:cut], {"weights"}), (written[cut:], analysis)):
        assert phase[-3:] == ["entries_digest", "digest", "status"]
        assert set(phase[: len(large)]) == large


def test_number_of_requests_per_grid_point(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SweepStore.create(URL, spec())
    counts = {"get_async": 0, "put_async": 0}

    def counted(name: str) -> Any:
        real = getattr(obstore, name)

        async def asked(at: S3Store, key: str, *rest: Any, **options: Any) -> Any:
            counts[name] += ".claim" not in key
            return await real(at, key, *rest, **options)

        return asked

    for name in counts:
        monkeypatch.setattr(obstore, name, counted(name))
    (run, *_) = store.runs
    with store.claim(run):
        for index in (0, 1):
            counts.update(dict.fromkeys(counts, 0))
            store.record(run, index, Status.FITTED, fitted(index))
            store.record(run, index, Status.COMPLETE, analysed(index))
    assert counts["put_async"] == PUTS
    assert 1 <= counts["get_async"] <= GETS


@pytest.mark.parametrize("puts", [0, 2, 44])
def test_an_unfinished_template_is_not_a_store_and_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, puts: int
) -> None:
    real, count = obstore.put, 0

    def failing(at: S3Store, key: str, *rest: Any, **options: Any) -> Any:
        nonlocal count
        if count == puts:
            raise KeyboardInterrupt
        count += 1
        return real(at, key, *rest, **options)

    monkeypatch.setattr(obstore, "put", failing)
    with pytest.raises(KeyboardInterrupt):
        SweepStore.create(URL, spec())
    monkeypatch.setattr(obstore, "put", real)
    with pytest.raises(StoreError, match="no such store"):
        hesstore.open(URL)
    SweepStore.create(URL, spec())
    SweepStore.create(tmp_path / "s.zarr", spec())
    assert contents() == files(tmp_path / "s.zarr")


def test_the_last_put_of_a_template_makes_it_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    real = obstore.put

    def spy(at: S3Store, key: str, *rest: Any, **options: Any) -> Any:
        keys.append(key)
        return real(at, key, *rest, **options)

    monkeypatch.setattr(obstore, "put", spy)
    SweepStore.create(URL, spec())
    assert keys[0] == UNFINISHED
    assert keys[-1] == "zarr.json"
    assert keys.count("zarr.json") == 1


@pytest.mark.parametrize("keys", [["notes.txt"], ["loss/zarr.json"], [UNFINISHED, "notes.txt"], ["zarr/zarr.json"]])
def test_other_objects_are_not_overwritten(keys: list[str]) -> None:
    for key in keys:
        obstore.put(objects(), key, b"{}")
    with pytest.raises(StoreError, match=r"contains other objects, such as .*, but no store: give another name"):
        SweepStore.create(URL, spec())
    assert sorted(contents()) == sorted(keys)


@pytest.mark.slow
def test_a_store_is_removed_for_a_new_one(toy_config: MakeConfig) -> None:
    """The objects of other stores, and a store whose run is held, stay."""
    fits = toy_config(k=0, l2="0")
    run_sweep(fits, URL)
    run_sweep(fits, f"{URL}2")
    others = contents(f"{URL}2")
    store = SweepStore.open(URL)
    with store.claim(store.runs[0]), pytest.raises(StoreBusyError):
        run_sweep(toy_config(k=0, l2="0", seeds="7"), URL, overwrite=True)
    assert SweepStore.open(URL).runs[0].seed == 0
    assert run_sweep(toy_config(k=0, l2="0,0.01", seeds="7"), URL, overwrite=True).complete == 2
    assert SweepStore.open(URL).runs[0].seed == 7
    assert contents(f"{URL}2") == others


def test_stores_with_similar_names_do_not_interfere() -> None:
    obstore.put(objects("s3://bucket/runs"), "s.zarr.txt", b"")
    obstore.put(objects("s3://bucket/runs"), "s.zarr", b"")
    SweepStore.create(URL, spec())
    SweepStore.create(f"{URL}2", spec())
    assert SweepStore.open(f"{URL}/").path == URL


def test_only_one_of_two_processes_makes_a_store() -> None:
    with Lease(objects(), ".claim-template.json", "x"):
        with pytest.raises(StoreBusyError, match=f"is being made by process {os.getpid()} on"):
            SweepStore.create(URL, spec())
    SweepStore.create(URL, spec())
    before = contents()
    with pytest.raises(StoreError, match="contains other objects"):
        SweepStore.create(URL, spec(k=2))
    assert contents() == before


def test_a_store_that_appeared_in_the_meantime_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    real = obstore.put

    def late(at: S3Store, key: str, *rest: Any, **options: Any) -> Any:
        if key == "zarr.json":
            real(at, key, b"another's")
        return real(at, key, *rest, **options)

    monkeypatch.setattr(obstore, "put", late)
    with pytest.raises(StoreError, match="another process made it in the meantime"):
        SweepStore.create(URL, spec())
    assert contents()["zarr.json"] == b"another's"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://", "does not name a bucket and a store in it"),
        ("s3://bucket", "does not name a bucket and a store in it"),
        ("s3://bucket/", "does not name a bucket and a store in it"),
        ("s3:///x", "does not name a bucket and a store in it"),
        ("s3://key:secret@bucket/x", "does not name a bucket"),
        ("s3://bucket/a//b", "empty part"),
        ("s3://bucket/../b", "empty part"),
        ("gs://bucket/x", r"local folder, on S3, or on a web server: give a path, s3://BUCKET/NAME or http"),
        (Path("s3://bucket/x"), "give it as text"),
        (URL, "no such store: make one with `hesstore sweep s3://"),
        ("s3://no-such-bucket/x", r"bucket no-such-bucket does not exist at http://127"),
    ],
)
def test_locations_that_are_not_stores(location: str | Path, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        hesstore.open(location)
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r'pip install "hesstore\[s3\]"'):
        hesstore.open(URL)


def test_a_local_store_imports_nothing_of_s3(tmp_path: Path, environment: dict[str, str]) -> None:
    SweepStore.create(tmp_path / "s.zarr", spec())
    code = (
        "import sys, hesstore, hesstore_cli.main; hesstore.open(sys.argv[1]).load()\n"
        "assert not {'obstore', 'hesstore.store.places.s3', 'hesstore.store.places.lease'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.zarr")], check=True, env=environment)


@pytest.mark.slow
def test_an_unreachable_server_is_reported_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:  # bound, but not listening
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        began = time.monotonic()
        for action in (lambda: hesstore.open(URL), lambda: SweepStore.create(URL, spec())):
            with pytest.raises(StoreUnreachableError, match=r"can't reach http://127.* \(connection refused\)"):
                action()
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("value", ["localhost:9000", "not a url", "http://", "http://a b"])
def test_an_endpoint_that_is_not_a_url(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(StoreError, match="is not an http:// or https:// URL"):
        hesstore.open(URL)


def test_a_wrong_key_is_reported(server: str) -> None:
    SweepStore.create(URL, spec())
    ask(f"{server}/moto-api/reset-auth", b"0", method="POST")
    try:
        for action in (lambda: hesstore.open(URL), lambda: SweepStore.create(f"{URL}2", spec())):
            with pytest.raises(StoreError, match=r"denies access \(InvalidAccessKeyId\): check AWS_ACCESS_KEY_ID"):
                action()
    finally:
        ask(f"{server}/moto-api/reset-auth", b"Infinity", method="POST")


def test_missing_credentials_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        hesstore.open(URL)


def test_one_driver_per_run() -> None:
    store, other = SweepStore.create(URL, spec()), SweepStore.open(URL)
    first, second = store.runs
    with store.claim(first), store.claim(second):
        with pytest.raises(StoreBusyError, match=f"run 0 is being computed by process {os.getpid()} on {_HOST} since"):
            with other.claim(first):
                pass
        held = json.loads(contents()["status/.claim-0.json"])
        assert held["pid"] == os.getpid()
        assert held["lease_seconds"] == 60
    assert not [key for key in contents() if ".claim" in key]
    with other.claim(first):
        pass


_HOST = socket.gethostname()


def _foreign(key: str = "status/.claim-0.json", **changes: Any) -> None:
    """Write a claim of a process on another machine."""
    facts = {"pid": 1, "host": "elsewhere", "since": "then", "lease_seconds": 2, "processes": "x", "token": "y"}
    obstore.put(objects(), key, json.dumps({**facts, **changes}).encode())


def test_a_claim_that_an_error_left_is_free_for_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SweepStore.create(URL, spec())
    run, real = store.runs[0], Arrays.put

    def put(arrays: Arrays, name: str, *rest: Any) -> None:
        if name == "status":
            raise StoreUnreachableError("down")
        real(arrays, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Arrays, "put", put)
        with pytest.raises(StoreUnreachableError), store.claim(run):
            store.record(run, 0, Status.FITTED, fitted(0))
    assert "status/.claim-0.json" in contents()
    assert int(hesstore.open(URL, check=True)["status"][0, 0]) == Status.PENDING
    with store.claim(run):
        store.record(run, 0, Status.FITTED, fitted(0))
    assert int(hesstore.open(URL, check=True)["status"][0, 0]) == Status.FITTED
    assert not [key for key in contents() if ".claim" in key]


@pytest.mark.slow
def test_a_claim_that_is_not_renewed_expires() -> None:
    store = SweepStore.create(URL, spec())
    _foreign()
    with pytest.raises(StoreBusyError, match="by process 1 on elsewhere since then"), store.claim(store.runs[0]):
        pass
    time.sleep(4.1)  # the lease of 2 s, and the server's times are whole seconds
    with store.claim(store.runs[0]):
        assert json.loads(contents()["status/.claim-0.json"])["pid"] == os.getpid()
    assert not [key for key in contents() if ".claim" in key]


def test_a_claim_that_was_taken_over_stops_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 1.0)
    store = SweepStore.create(URL, spec())
    with store.claim(store.runs[0]):
        _foreign(lease_seconds=60)
        time.sleep(0.8)
        with pytest.raises(StoreBusyError, match="by process 1 on elsewhere since then, who took it over"):
            store.record(store.runs[0], 0, Status.FITTED, fitted(0))
    assert int(store.status(store.runs[0])[0]) == Status.PENDING
    assert json.loads(contents()["status/.claim-0.json"])["host"] == "elsewhere"


def test_a_claim_that_can_not_be_renewed_stops_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(s3_errors, "PATIENCE_SECONDS", 0.5)
    store = SweepStore.create(URL, spec())
    with store.claim(store.runs[0]):

        def failing(_: Lease) -> None:
            raise StoreUnreachableError("down")

        monkeypatch.setattr(Lease, "_renew", failing)
        time.sleep(1)
        with pytest.raises(StoreBusyError, match=r"could not be renewed for 0\.5 s"):
            store.record(store.runs[0], 0, Status.FITTED, fitted(0))


def test_a_driver_that_was_killed_does_not_hold_its_run(environment: dict[str, str]) -> None:
    """On the same machine immediately; for other machines, after the lease has expired."""
    store = SweepStore.create(URL, spec())
    code = (
        "import sys, time; from hesstore.store import SweepStore\n"
        "store = SweepStore.open(sys.argv[1])\n"
        "with store.claim(store.runs[0]):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, URL], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusyError, match=f"process {process.pid} on"), store.claim(store.runs[0]):
            pass
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert "status/.claim-0.json" in contents()
    with store.claim(store.runs[0]):
        pass


def test_a_lost_answer_does_not_prevent_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a connection drops, the library repeats its put, which then finds its own first put."""
    store = SweepStore.create(URL, spec())
    real = obstore.put_async

    async def twice(*rest: Any, **options: Any) -> Any:
        await real(*rest, **options)
        return await real(*rest, **options)

    monkeypatch.setattr(obstore, "put_async", twice)
    with store.claim(store.runs[0]):
        monkeypatch.setattr(obstore, "put_async", real)
        assert "status/.claim-0.json" in contents()
    assert not [key for key in contents() if ".claim" in key]


def test_a_server_without_conditional_puts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SweepStore.create(URL, spec())
    real = obstore.put_async

    async def ignoring(*rest: Any, mode: object = None, **options: Any) -> Any:
        return await real(*rest, **options)

    monkeypatch.setattr(obstore, "put_async", ignoring)
    with pytest.raises(StoreError, match="ignores conditional puts"), store.claim(store.runs[0]):
        pass
    assert not [key for key in contents() if ".claim" in key]


@pytest.mark.slow
def test_a_large_object_goes_in_parts_and_reads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hesstore.store.places.s3_zarr_store.ONE_PUT", 12 << 20)
    number = 4_000_000
    store = SweepStore.create(URL, spec(parameters=[("fc1.weight", (number,))]))
    weights = np.random.default_rng(0).normal(size=number).astype(np.float32)
    store.put_arrays(store.runs[0], 0, Status.FITTED, {"weights": weights})
    assert np.array_equal(store.read("weights", store.runs[0], 0), weights)


@pytest.mark.slow
def test_an_interrupted_sweep_has_the_same_bytes_as_a_local_one(toy_config: MakeConfig, tmp_path: Path) -> None:
    config = toy_config(direction="both")
    run_sweep(config, tmp_path / "s.zarr")
    for count in (1, 6, 20):
        with pytest.raises(Stop):
            run_sweep(config, URL, observer=stop_at(count))
    assert not [key for key in contents() if ".claim" in key]
    summary = run_sweep(config, URL)
    assert 0 < summary.computed < summary.total == summary.complete == 8
    local = {key: data for key, data in files(tmp_path / "s.zarr").items() if ".claim" not in key}
    assert untimed(contents()) == untimed(local)
    assert run_sweep(config, URL).computed == 0
    with pytest.raises(ConfigMismatchError, match="was made with another config: k is 6 in the store, 5 in"):
        run_sweep(toy_config(direction="both", k=5), URL)


@pytest.mark.slow
def test_the_command_line(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = run_hesstore("sweep", URL, *toy_arguments)
    assert swept.returncode == 0, swept.stderr
    assert f"hesstore.open('{URL}')" in swept.stderr
    facts = json.loads(run_hesstore("info", URL, "--json").stdout)
    assert facts["path"] == URL
    assert facts["bytes"] == sum(map(len, contents().values()))
    assert run_hesstore("sweep", "s.zarr", *toy_arguments).returncode == 0
    for location, out in ((URL, "a"), ("s.zarr", "b")):
        assert run_hesstore("export", location, "-o", out).returncode == 0
        (tmp_path / out / "manifest.jsonl").unlink()  # it contains the times of the files
    assert files(tmp_path / "a") == files(tmp_path / "b")
    drawn = run_hesstore("plot", "summary", URL, "-o", "s.svg")
    assert drawn.returncode == 0, drawn.stderr

    for command in (["info"], ["sweep"], ["export"], ["plot", "summary", "-o", "x.svg"]):
        options = toy_arguments if command == ["sweep"] else []
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            refused = run_hesstore(*command, URL, *options)
        assert refused.returncode == 1, refused
        other = run_hesstore(*command, "gs://bucket/x.zarr", *options)
        assert other.returncode == 2
        for done in (refused, other):
            (line,) = done.stderr.strip().splitlines()
            assert line.startswith("hesstore: ")


@pytest.mark.slow
def test_verify_and_repair(run_hesstore: RunHesstore, toy_arguments: list[str]) -> None:
    """A flipped bit, a missing object and two exchanged objects are found, and the next sweep repairs them."""
    swept = ["sweep", URL, *toy_arguments, "--direction", "both"]
    assert run_hesstore(*swept).returncode == 0
    whole = contents()
    assert run_hesstore("verify", URL).returncode == 0
    assert contents() == whole
    at = objects()
    flipped = bytearray(whole["loss/c/1/0/0"])
    flipped[len(flipped) // 2] ^= 4
    obstore.put(at, "loss/c/1/0/0", bytes(flipped))
    obstore.delete(at, "gradient/c/0/2/0")
    for key, other in (("weights/c/0/0/0", "weights/c/0/1/0"), ("weights/c/0/1/0", "weights/c/0/0/0")):
        obstore.put(at, key, whole[other])
    found = run_hesstore("verify", URL, "--json")
    assert found.returncode == 5
    facts = json.loads(found.stdout)
    assert facts["path"] == URL
    assert {problem["run"] for problem in facts["problems"]} >= {0, 1}
    with SweepStore.open(URL).claim(Run(1, 0, "down")):
        busy = run_hesstore("verify", URL, "--repair")
        assert busy.returncode == 1
        assert "is being computed by" in busy.stderr
    assert run_hesstore("verify", URL, "--repair").returncode == 0
    assert "loss/c/1/0/0" not in contents()
    assert run_hesstore(*swept).returncode == 0
    assert run_hesstore("verify", URL).returncode == 0
    unsealed = {key: data for key, data in contents().items() if not key.startswith("entries_digest")}
    assert untimed(unsealed) == untimed({key: whole[key] for key in unsealed})


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_workers_write_to_the_bucket(toy_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = toy_config(direction="both")
    run_sweep(config, tmp_path / "s.zarr")
    run_sweep(config, URL, workers=2)
    local = {key: data for key, data in files(tmp_path / "s.zarr").items() if ".claim" not in key}
    assert untimed(contents()) == untimed(local)


@pytest.mark.slow  # seconds
def test_one_thread_renews_all_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 1.0)
    runs = tuple(Run(index, index, "up") for index in range(20))
    store = SweepStore.create(URL, spec(runs=runs))
    with ExitStack() as claims:
        for run in runs:
            claims.enter_context(store.claim(run))
        time.sleep(1.2)
        for run in runs:
            store.place.check_claim(run.id)
        with pytest.raises(StoreBusyError, match="is being computed by"), SweepStore.open(URL).claim(runs[7]):
            pass
        assert [thread.name for thread in threading.enumerate()].count(claim_thread.NAME) == 1
    assert claim_thread.NAME not in [thread.name for thread in threading.enumerate()]
    assert not [key for key in contents() if ".claim" in key]


@pytest.mark.slow
def test_status_asks_the_bucket(run_hesstore: RunHesstore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of a run is read from its claim, and nothing is written."""
    store = SweepStore.create(URL, spec())
    run = Run(0, 4, "up")
    store.record(run, 0, Status.COMPLETE, {**fitted(0), **analysed(0)})
    with store.claim(run):
        before = contents()
        answer = run_hesstore("status", URL, "--json")
        assert answer.returncode == 0, answer.stderr
        assert contents() == before
        monkeypatch.setattr("hesstore.store.places.claims.process_space", lambda: "of another machine")
        elsewhere = run_hesstore("status", URL).stdout
    facts = json.loads(answer.stdout)
    assert (facts["complete"], facts["total"], facts["is_driven"]) == (1, 6, True)
    holder = facts["runs"][0]["holder"]
    assert (holder["pid"], holder["alive"]) == (os.getpid(), True)
    assert holder["renewed"]
    assert facts["runs"][1]["holder"] is None
    assert facts["newest_record"]
    assert "; claim renewed " in elsewhere
    assert f"claimed by process {os.getpid()} on " in elsewhere


class Killed(BaseException):
    """Nothing is sent after it, as after kill -9."""


def count_changes(monkeypatch: pytest.MonkeyPatch, kill_at: int = -1) -> list[str]:
    """Count the requests that change the bucket; from number ``kill_at``, none is sent."""
    sent: list[str] = []

    def noted(real: Any) -> Any:
        def ask(at: S3Store, what: Any, *rest: Any, **options: Any) -> Any:
            if len(sent) == kill_at:
                raise Killed
            sent.append(f"{at.prefix}/{what}")
            return real(at, what, *rest, **options)

        return ask

    for name in ("put", "put_async", "copy", "delete", "delete_async"):
        monkeypatch.setattr(obstore, name, noted(getattr(obstore, name)))
    return sent


def test_a_store_in_a_bucket_grows_as_one_in_a_folder(tmp_path: Path) -> None:
    stores = [grow_store(recorded(at), GROWN) for at in (tmp_path / "s.zarr", URL)]
    assert [run.seed for run in stores[1].runs] == [4, 4, 1]
    assert contents() == {key: data for key, data in files(tmp_path / "s.zarr").items() if ".claim" not in key}


STEPS = ("made", "old root", "new root", "moving", "moved", "clean-up")


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_growth_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A reader finds the old store or the new one, and plain Zarr no mixture; the same command finishes it."""
    local = recorded(tmp_path / "s.zarr")
    old = hesstore.open(local.path, chunked=False).load()
    grow_store(local, GROWN)
    new, whole = hesstore.open(local.path, chunked=False).load(), files(tmp_path / "s.zarr")
    whole = {key: data for key, data in whole.items() if ".claim" not in key}
    store, before = recorded(URL), contents()
    with monkeypatch.context() as patch:
        sent = count_changes(patch)
        grow_store(store, GROWN)
    roots = [number for number, what in enumerate(sent) if what == "runs/s.zarr/zarr.json"]
    kill_at = dict(zip(STEPS, (40, roots[0], roots[0] + 1, sum(roots) // 2, roots[1], roots[1] + 1), strict=True))[step]

    locate(URL).remove()
    for key, data in before.items():
        obstore.put(objects(), key, data)
    store = SweepStore.open(URL)
    with monkeypatch.context() as patch:
        count_changes(patch, kill_at)
        with pytest.raises(Killed):
            grow_store(store, GROWN)
    monkeypatch.setattr(lease_module, "_is_alive", lambda _: False)
    assert hesstore.open(URL, chunked=False, check=True).load().identical(new if kill_at > roots[0] else old)
    if roots[0] < kill_at <= roots[1]:
        with pytest.raises(FileNotFoundError):
            xr.open_zarr(S3ZarrStore(objects(), read_only=True))
    locate(URL).recover()
    assert grow_store(SweepStore.open(URL), GROWN).path == URL
    assert {key: data for key, data in contents().items() if ".claim-" not in key} == whole
