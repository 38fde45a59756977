from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.report_pages import half_filled


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an unfinished sweep. Do not write to it."""
    return half_filled(tmp_path_factory.mktemp("report") / "half.zarr")
