"""Measure one sweep in a fresh process: ``python -m tests.benchmarks.sweep_measurement JSON``.

A fresh process is needed because peak memory is that of the whole process. JSON holds the settings.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import click
import torch

from hesstore import open as open_store
from hesstore import run_sweep
from tests.benchmarks.benchmark_settings import Settings
from tests.benchmarks.digit_problem import digits
from tests.benchmarks.end_to_end import sweep_config
from tests.benchmarks.machine import peak_resident_mib

EPOCHS = 2
STEP = 1e-5  # between two values of λ; small, so that each grid point takes the same work


def measure(settings: Settings) -> dict[str, float | int]:
    """Measure the time and the peak memory of a sweep of ``settings.lambdas`` grid points.

    Returns
    -------
    dict
        ``parameters``, ``seconds`` (the sweep alone), ``matvecs`` (at all grid points) and ``peak_mib`` (the whole
        process).
    """
    l2 = tuple(5e-4 + STEP * index for index in range(settings.lambdas))
    config = sweep_config(settings, l2, epochs=EPOCHS, patience=EPOCHS)
    digits(settings.rows)  # cached before anything is timed
    with tempfile.TemporaryDirectory() as folder:
        store, began = Path(folder) / "point.zarr", time.perf_counter()
        run_sweep(config, store)
        seconds, peak = time.perf_counter() - began, peak_resident_mib()
        ds = open_store(store)
        if not bool((ds["status"] == 2).all()):
            raise click.ClickException(f"{settings}: some grid points were not completed, so nothing is measured")
        facts = {"parameters": ds.sizes["param"], "matvecs": int(ds["matvecs"].sum())}
    return {**facts, "seconds": seconds, "peak_mib": peak}


if __name__ == "__main__":
    given = Settings(**json.loads(sys.argv[1]))
    if given.threads:
        torch.set_num_threads(given.threads)
    click.echo(json.dumps(measure(given)))
