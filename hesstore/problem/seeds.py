"""Random numbers that depend on their purpose and their grid point, never on numbers that were drawn before.

The seed of a generator is derived from (purpose, seed, direction, λ). So an interrupted sweep ends with the same bytes
as an uninterrupted one, and a grid point keeps its random numbers when the grid is extended. All numbers are drawn on
the CPU, so they are the same on every device.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from hesstore.config.l2_grid import L2_DECIMALS

Purpose = Literal["init", "shuffle", "lanczos", "trace", "density", "recheck", "blocks"]

_CODES = {"init": 1, "shuffle": 2, "lanczos": 3, "trace": 4, "density": 5, "recheck": 6, "blocks": 7}
_DIRECTIONS = {"up": 1, "down": 2}


def derived_seed(purpose: Purpose, seed: int, direction: str = "up", l2: float = 0.0) -> int:
    """Return a 63-bit seed for one purpose at one grid point."""
    key = [_CODES[purpose], seed, _DIRECTIONS[direction], round(l2 * 10**L2_DECIMALS)]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(purpose: Purpose, seed: int, direction: str = "up", l2: float = 0.0) -> torch.Generator:
    """Return a CPU generator that is seeded with :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(purpose, seed, direction, l2))
