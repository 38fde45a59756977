"""Stores on S3 behind a proxy that injects faults."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import hesstore
from hesstore.errors import StoreError, StoreUnreachableError
from hesstore.store import Status, SweepStore
from hesstore.store.growing import grow_store
from hesstore.store.places.location import locate
from tests.support.stores import GROWN, analysed, fitted, recorded, spec

obstore = pytest.importorskip("obstore")
pytest.importorskip("moto")

from hesstore.store.places import s3, s3_errors  # noqa: E402
from hesstore.store.places.claims import process_space  # noqa: E402
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy  # noqa: E402
from tests.support.s3_server import ask, served  # noqa: E402

URL = "s3://bucket/runs/s.zarr"
HANG = 2.4


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy without faults yet, in front of an empty bucket, and a client with short times."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    ask(f"{server}/moto-api/reset", b"", method="POST")
    ask(f"{server}/bucket", method="PUT")
    for name in ("_BRIEF", "_PATIENT"):
        monkeypatch.setattr(s3, name, {"connect_timeout": timedelta(seconds=1), "timeout": timedelta(seconds=HANG / 2)})
    with faulty_proxy(server, seed=3, hang=HANG) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def record(store: SweepStore) -> None:
    (run, _) = store.runs
    with store.claim(run):
        for index in range(2):
            store.record(run, index, Status.FITTED, fitted(index))
            store.record(run, index, Status.COMPLETE, analysed(index))


@pytest.mark.slow  # seconds
def test_a_record_through_faults_is_that_without(proxy: FaultyProxy, tmp_path: Path) -> None:
    local, store = SweepStore.create(tmp_path / "s.zarr", spec()), SweepStore.create(URL, spec())
    record(local)
    proxy.rate = 0.1
    record(store)
    found = hesstore.open(URL, check=True, chunked=False).load()
    assert sum(count for fault, count in proxy.injected.items() if fault) >= 5
    proxy.rate = 0.0
    assert found.identical(hesstore.open(tmp_path / "s.zarr", chunked=False).load())
    place = locate(URL)
    assert not [key for key in place.names() if ".claim" in key]


@pytest.mark.slow
def test_a_growth_through_faults_is_that_without(proxy: FaultyProxy, tmp_path: Path) -> None:
    stores = recorded(tmp_path / "s"), recorded(URL)
    proxy.rate = 0.1
    local, grown = (grow_store(store, GROWN) for store in stores)
    assert sum(count for fault, count in proxy.injected.items() if fault) >= 5
    proxy.rate = 0.0
    keys = [key for key in local.place.names() if ".claim" not in key]
    assert grown.place.names() == keys
    assert all(grown.place.fetch(key) == local.place.fetch(key) for key in keys)


@pytest.mark.parametrize(
    "method", ["fetch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("names", "missing"))]
)
def test_a_server_that_stays_away_is_one_line(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    SweepStore.create(URL, spec())
    place = locate(URL)
    place.names()
    monkeypatch.setattr(s3_errors, "PATIENCE_SECONDS", 0.5)
    proxy.is_down = True
    arguments = {"names": (), "missing": (["zarr.json"],)}.get(method, ("zarr.json",))
    with pytest.raises(StoreUnreachableError) as caught:
        getattr(place, method)(*arguments)
    assert "\n" not in str(caught.value)


def test_a_server_that_never_matches_an_etag_is_refused_at_once(proxy: FaultyProxy) -> None:
    store = SweepStore.create(URL, spec())
    proxy.never_matches = True
    with (
        pytest.raises(StoreError, match=r"never meets a condition on the ETag \(If-Match\)"),
        store.claim(store.runs[0]),
    ):
        pass
    assert not [key for key in locate(URL).names() if ".claim" in key]
    facts = {"pid": 2**22 + 1, "host": "x", "since": "then", "processes": process_space(), "token": "y"}
    locate(URL).put("status/.claim-0.json", json.dumps(facts).encode())
    with pytest.raises(StoreError, match=r"delete the object s3://bucket/runs/s.zarr/status/.claim-0.json, then run"):
        with store.claim(store.runs[0]):
            pass
