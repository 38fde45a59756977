"""Stand-in CUDA devices for the tests of this package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.stand_in_device import Machine, stand_in


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Two stand-in devices."""
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA devices, whose place a stand-in can't take")
    with stand_in() as installed:
        yield installed
