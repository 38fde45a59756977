"""The choice of the number of CPU threads before a sweep.

Several threads wait for each other after every operation. On a machine whose cores have other work to do, or for a
small network, one thread can therefore be faster than several. The number changes the rounding of the results, so a
sweep that continues on the same machine keeps its number.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from hesstore.engine import environment, speed_probe
from hesstore.engine.sweep_plan import point_seconds
from hesstore.store.environments import environments

if TYPE_CHECKING:
    from hesstore.engine.experiment import Experiment
    from hesstore.engine.speed_probe import Parts
    from hesstore.store.writing import SweepStore

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables with which a user has already chosen the number."""

ADVANTAGE = 0.9
"""One thread is used if a grid point is estimated to take less than this share of the time with several threads."""


def choose_threads(experiment: Experiment, store: SweepStore | None, *, probing: bool) -> str:
    """Set the number of PyTorch's threads for a sweep of this process on a CPU.

    The config or an environment variable may fix the number. Otherwise it is the one with which the store was made or
    filled on this machine. For other stores, PyTorch's own number and one thread are compared if ``probing``.

    Parameters
    ----------
    experiment : Experiment
        The experiment. The programs that the probe traces stay with it; no random number is drawn.
    store : SweepStore, optional
        The store, if it exists.
    probing : bool
        Whether the numbers may be compared.

    Returns
    -------
    str
        The reason for the number if it differs from PyTorch's own one; otherwise empty.
    """
    usual = torch.get_num_threads()
    is_fixed = bool(experiment.config.threads) or any(name in os.environ for name in VARIABLES)
    if is_fixed or experiment.device.type != "cpu" or usual == 1:
        return ""
    recorded = None if store is None else _recorded_threads(store, experiment)
    if recorded is not None:
        torch.set_num_threads(recorded)
        return "" if recorded == usual else "as in the store"
    if not probing:
        return ""
    parts: Parts = {}
    several = _grid_point_seconds(experiment, parts)
    torch.set_num_threads(1)
    if _grid_point_seconds(experiment, parts) < ADVANTAGE * several:
        return f"faster here than {usual}"
    torch.set_num_threads(usual)
    return ""


def _recorded_threads(store: SweepStore, experiment: Experiment) -> int | None:
    """The number of threads with which the store was made or filled on this machine; None if it never was."""
    here = environment.describe(experiment.device)
    for known in environments(store.place, store.group.attrs):
        if all(known.get(name) == here.get(name) for name in ("device", "machine")):
            return int(known["threads"]["torch"])
    return None


def _grid_point_seconds(experiment: Experiment, parts: Parts) -> float:
    """An estimate of the time for one grid point with the current number of threads."""
    needs_products = experiment.config.k > 0 or experiment.config.polish > 0
    fits = int(experiment.collection is None)
    span = point_seconds(experiment, speed_probe.measure_rates(experiment, fits, int(needs_products), parts))
    return (span.least + span.most) / 2
