"""Stand-in CUDA devices for the tests of this package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.stand_in_device import Machine, stand_in


@pytest.fixture(autouse=True)
def without_cuda() -> None:
    """A stand-in can't take the place of devices that exist."""
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA devices")


@pytest.fixture
def machine(without_cuda: None) -> Iterator[Machine]:
    """Two stand-in devices."""
    with stand_in() as installed:
        yield installed
