"""The machine that the numbers were measured on, and measurements of its processes from ``/proc``."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy
import torch

if TYPE_CHECKING:
    from tests.benchmarks.result_tables import Facts


def describe(device: torch.device) -> Facts:
    """Return processor, cores, threads, device and versions."""
    return {
        "CPU": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "OpenBLAS threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "hesstore": metadata.version("hesstore"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def cpu_model() -> str:
    """Return the name of the processor that Linux reports."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def busy_seconds_of_others() -> float:
    """Return the CPU seconds since the machine started that other processes have used.

    Neither this process nor the child processes that it has waited for are counted.
    """
    fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def peak_resident_mib() -> float:
    """Return the peak resident memory of this process in MiB.

    ``resource.getrusage`` is no alternative: its ``ru_maxrss`` survives ``exec``, so that a subprocess would report
    the peak of its parent.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) / 1024
