"""Stores on Ceph's gateway, which takes conditions on an ETag only without its quotation marks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine.sweep import run_sweep
from hesstore.errors import StoreBusyError
from hesstore.integrity.local_copy import fetch_to_folder
from hesstore.integrity.verify import verify
from hesstore.store import SweepStore
from hesstore.store.places.location import locate
from tests.support.ceph import KEYS, gateway, missing_programs
from tests.support.sweeps import TIMES

pytest.importorskip("obstore")
boto3 = pytest.importorskip("boto3")

URL = "s3://bucket/runs/s.zarr"


@pytest.fixture
def bucket(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: ceph-mon ceph-osd radosgw ceph-common)")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with gateway(tmp_path_factory.mktemp("ceph")) as url:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_a_store_on_ceph(
    toy_config: Callable[..., SweepConfig],
    toy_arguments: list[str],
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """A sweep that is killed, taken over, finished, grown and checked has the results of one in a folder."""
    small, large = toy_config(l2="0,0.01", k=0), toy_config(l2="0,0.001,0.01", k=0)
    code = "from hesstore_cli.main import main; main()"
    command = [sys.executable, "-c", code, "sweep", URL, *toy_arguments, "--l2", "0,0.01", "--k", "0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while not [key for key in locate(URL).names() if key.startswith("weights/c/")]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    store = SweepStore.open(URL)
    with pytest.raises(StoreBusyError, match=f"is being computed by process {process.pid}"), store.claim(store.runs[0]):
        pass
    process.kill()
    process.communicate()

    for location in (URL, tmp_path / "s.zarr"):
        run_sweep(small, location)
        run_sweep(large, location, grow=True)
    assert not [key for key in locate(URL).names() if ".claim" in key]
    here, there = (
        hesstore.open(at, chunked=False, check=True).load().drop_vars(TIMES, errors="ignore")
        for at in (tmp_path / "s.zarr", URL)
    )
    assert here.sizes["l2"] == 3
    xr.testing.assert_equal(here, there)
    with fetch_to_folder(URL, writable=False) as folder:
        assert verify(folder).ok
