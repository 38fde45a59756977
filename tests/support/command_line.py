"""How tests run a command line, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandResult:
    """The exit status of a command line, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


RunHesstore = Callable[..., CommandResult]
"""The fixture ``run_hesstore``: it takes the arguments that follow ``hesstore``."""
