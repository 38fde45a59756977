"""The environment of a sweep: versions, commit, machine, threads and numerical settings.

It is recorded in the store for provenance and is no part of the identity. The names of the machine and of its user are
not recorded, because stores are passed on to others.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

Group: TypeAlias = "Mapping[str, str | int | float | bool]"
"""Related facts, by name."""
Environment: TypeAlias = "dict[str, str | Group]"
"""The facts in groups, and the time."""

PACKAGES = (
    *("hesstore", "torch", "torchvision", "numpy", "scipy", "zarr", "numcodecs", "xarray", "mlxtend", "scikit-learn"),
    *("distributed", "obstore"),
)
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_DYNAMIC", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("OPENBLAS_NUM_THREADS", "KMP_AFFINITY", "GOMP_CPU_AFFINITY", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""Environment variables that change how sums are rounded. Those that are set are recorded."""


def describe(device: torch.device) -> Environment:
    """Describe the current state of this process and machine, as plain values in groups.

    Parameters
    ----------
    device : torch.device
        The device on which the work is done.
    """
    groups: Environment = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
        "source": _source(),
        "machine": _machine(),
        "device": {"name": str(device), **(_gpu(device) if device.type == "cuda" else {})},
        "threads": {"torch": torch.get_num_threads(), "torch_interop": torch.get_num_interop_threads()},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "libraries": _libraries(),
        "numerics": _numerics(device),
    }
    return {name: group for name, group in groups.items() if group}


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def _source() -> Group:
    """The commit of the checkout that this package runs from, and whether files differ from it.

    Empty for an installed package, or without git.
    """
    checkout = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return {}

    def ask(*arguments: str) -> str:
        call = [git, "-C", str(checkout), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"git_commit": commit, "git_changed": bool(ask("status", "--porcelain", "--untracked-files=no"))}


def _machine() -> Group:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(_read("/proc/cpuinfo")) or platform.machine(),
        "cores": os.cpu_count() or 1,
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
    }


def cpu_model(cpuinfo: str) -> str:
    """The processor's name, family, model and stepping, as far as ``/proc/cpuinfo`` lists them.

    Examples
    --------
    >>> cpu_model("cpu family\\t: 26\\nmodel\\t\\t: 2\\nmodel name\\t: AMD EPYC\\nstepping\\t: 1\\n\\nprocessor\\t: 1")
    'AMD EPYC, family 26, model 2, stepping 1'
    """
    first, _, _ = cpuinfo.partition("\n\n")
    facts = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in first.splitlines())}
    numbers = [(name.split()[-1], facts[name]) for name in ("cpu family", "model", "stepping") if name in facts]
    return ", ".join(filter(None, [facts.get("model name", ""), *(" ".join(number) for number in numbers)]))


def _gpu(device: torch.device) -> Group:
    properties = torch.cuda.get_device_properties(device)
    driver = re.search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", _read("/proc/driver/nvidia/version"))
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        **({"driver": driver[1]} if driver else {}),
        "cuda": torch.version.cuda or "",
        "cudnn": torch.backends.cudnn.version() or 0,  # type: ignore[no-untyped-call]
    }


def _libraries() -> Group:
    """The libraries that PyTorch was built with and that decide how sums are rounded."""
    built = torch.__config__.show()
    patterns = {
        "blas": r"BLAS_INFO=(\w+)",
        "lapack": r"LAPACK_INFO=(\w+)",
        "mkl": r"Math Kernel Library Version ([\d.]+)",
        "onednn": r"MKL-DNN v([\d.]+)",
        "openmp": r"OpenMP (\d+)",
    }
    found = {name: re.search(pattern, built) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}


def _numerics(device: torch.device) -> Group:
    """The current settings of PyTorch that decide how numbers are rounded."""
    common: dict[str, str | bool] = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "flushes_denormals": bool((torch.tensor(1e-38) * 0.01 == 0).item()),
    }
    if device.type != "cuda":
        return common
    return common | {
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
