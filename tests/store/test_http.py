"""Stores on a web server, which can only be read."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hesstore
from hesstore.errors import StoreError, StoreUnreachableError
from hesstore.store import SweepStore
from hesstore.store.places.location import locate
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("http")
    make_store(path / "s.zarr", seeds=(0, 1), k=2)
    return path


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s.zarr"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_same_dataset(url: str, folder: Path) -> None:
    ds = hesstore.open(url, chunked=False)
    assert ds.identical(xr.open_zarr(folder / "s.zarr"))
    several = hesstore.open([url, folder / "s.zarr"])
    assert several["store"].values.tolist() == [url, url, *[str(folder / "s.zarr")] * 2]
    np.testing.assert_array_equal(several["accuracy"].values[:2], several["accuracy"].values[2:])


@pytest.mark.slow  # seconds
def test_commands_that_read(run_hesstore: RunHesstore, url: str, folder: Path, tmp_path: Path) -> None:
    here = json.loads(run_hesstore("info", folder / "s.zarr", "--json").stdout)
    shown = run_hesstore("info", url, "--json")
    assert shown.returncode == 0, shown.stderr
    there = json.loads(shown.stdout)
    assert (there["path"], there["bytes"], there["runs"]) == (url, None, here["runs"])
    assert run_hesstore("info", url).stdout.startswith(f"{url}: 2 runs")
    store = SweepStore.open(folder / "s.zarr")
    with store.claim(store.runs[0]):
        assert json.loads(run_hesstore("status", url, "--json").stdout)["is_driven"]
    assert run_hesstore("plot", "accuracy", url).returncode == 0
    assert (tmp_path / "s-accuracy.png").exists()
    assert run_hesstore("export", url, "--only", "accuracy").returncode == 0


def test_nothing_is_written(run_hesstore: RunHesstore, url: str) -> None:
    for arguments in (["sweep", url], ["sweep", url, "--overwrite", "--yes"], ["sweep", url, "--seeds", "7", "--grow"]):
        done = run_hesstore(*arguments)
        assert done.returncode == 2
        assert "can only be read" in done.stderr or "only a store in a folder can grow" in done.stderr
    listed = run_hesstore("verify", url)
    assert (listed.returncode, "does not list the files" in listed.stderr) == (2, True)


def test_bad_urls(run_hesstore: RunHesstore, url: str) -> None:
    with pytest.raises(StoreError, match="no such store: the server has no"):
        hesstore.open(f"{url}x")
    for wrong in ("http://", "http://server", "https://server/a.zarr?x=1"):
        with pytest.raises(StoreError, match="does not name a store"):
            locate(wrong)
    with pytest.raises(StoreError, match="turned into a Path"):
        locate(Path("http://server/a.zarr"))
    with pytest.raises(StoreUnreachableError, match="check the URL and the network"):
        hesstore.open("http://127.0.0.1:1/a.zarr")
    assert run_hesstore("info", "http://127.0.0.1:1/a.zarr").returncode == 1
    place = locate(url)
    assert place.missing(["zarr.json", "nope"]) == ["nope"]
