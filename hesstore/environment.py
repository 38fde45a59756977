"""What a sweep ran on: versions, commit, machine. Recorded in the store, not part of its fingerprint."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("hesstore", "torch", "numpy", "scipy", "zarr", "xarray")


def describe(device: torch.device) -> dict[str, str | int]:
    """Facts about this process and machine, as plain values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        **{package: _version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _git_commit(),
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git_commit() -> str:
    """The commit of the checkout that this package runs from; empty for an installed one."""
    here = Path(__file__).resolve().parent
    git = shutil.which("git")
    if git is None or not (here.parent / ".git").exists():
        return ""
    call = subprocess.run([git, "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return call.stdout.strip()
