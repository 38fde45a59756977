"""A small campaign of kills; the full one is ``python -m tests.chaos``."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto")
pytest.importorskip("distributed")

from tests.chaos.campaign import run_campaign


@pytest.mark.bench  # two minutes; `python -m tests.chaos` is the whole campaign
def test_kills_make_nothing_wrong_and_lose_nothing(tmp_path: Path) -> None:
    rows = run_campaign(tmp_path, kills=3, seed=1, seconds=60)
    assert [(row.wrong, row.lost) for row in rows] == [(0, 0)] * 3
