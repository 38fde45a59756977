"""Stores for reports, and readers of the data in a page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hesstore.store import Status
from tests.support.export_stores import make_store
from tests.support.plot_datasets import store, with_holes

HALF_L2 = (0.0, 0.001, 0.002, 0.004, 0.006, 0.008)
HALF_STATUS = {
    (0, 2): Status.FAILED,
    (0, 4): Status.FITTED,
    (0, 5): Status.PENDING,
    **{(2, index): Status.PENDING for index in range(1, 6)},
    **{(3, index): Status.PENDING for index in range(6)},
}

HOSTILE = "</script><script>window.harm = 1</script><img src=x onerror='window.harm = 2'>"
"""A text that would do harm if a page took it for markup."""


def hostile() -> xr.Dataset:
    """A store in which every text looks like markup."""
    ds = with_holes(store(3, k=2), {0: [1]})
    texts = np.full((2, 3), HOSTILE, dtype=object)
    ds = ds.assign(failure=(("run", "l2"), texts), solver_message=(("run", "l2"), texts))
    ds = ds.assign_coords(label=("label", np.array([f"{HOSTILE}{index}" for index in range(10)], dtype=object)))
    nested = json.dumps({HOSTILE: {HOSTILE: HOSTILE}})
    return ds.assign_attrs(config=nested, environment=nested, fingerprint=HOSTILE)


def half_filled(path: Path) -> Path:
    """Make a store of two seeds in both directions, whose runs have three, all, one and no complete grid points."""
    make_store(path, l2=HALF_L2, seeds=(0, 7), direction="both", k=4, classes=3, statuses=HALF_STATUS, has_center=True)
    return path


def facts_in(page: str) -> dict[str, Any]:
    """Return the facts about the whole store."""
    found: dict[str, Any] = json.loads(_script(page, "facts"))
    return found


def run_in(page: str, run: int) -> dict[str, Any]:
    """Return the data of one run."""
    found: dict[str, Any] = json.loads(_unpack(page, f"run-{run}"))
    return found


def library_in(page: str) -> str:
    """Return the plotting library."""
    return _unpack(page, "library")


def _unpack(page: str, name: str) -> str:
    return gzip.decompress(base64.b64decode(_script(page, name))).decode()


def _script(page: str, name: str) -> str:
    (text,) = re.findall(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page)
    return str(text)
