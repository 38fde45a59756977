"""Random numbers that depend on what they are for, never on what was drawn before.

A generator is derived from (purpose, seed, direction, λ), so that an interrupted sweep ends with the same
bytes as an uninterrupted one, and a λ keeps its numbers when others join the grid. They are drawn on the CPU:
every device sees the same numbers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from hesstore.config.l2_grid import L2_DECIMALS

Purpose = Literal["init", "shuffle", "lanczos", "trace", "density"]

_CODES: dict[str, int] = {"init": 1, "shuffle": 2, "lanczos": 3, "trace": 4, "density": 5, "up": 1, "down": 2}


def derived_seed(purpose: Purpose, seed: int, direction: str = "up", l2: float = 0.0) -> int:
    """A 63-bit seed for one purpose at one λ of one run."""
    key = [_CODES[purpose], seed, _CODES[direction], round(l2 * 10**L2_DECIMALS)]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(purpose: Purpose, seed: int, direction: str = "up", l2: float = 0.0) -> torch.Generator:
    """A CPU generator seeded with :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(purpose, seed, direction, l2))
