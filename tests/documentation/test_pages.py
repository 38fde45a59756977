from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from hesstore.config import SweepConfig
from hesstore.engine.experiment import Experiment
from hesstore.store import SweepStore
from tests.documentation.generated_pages import DOCS, PAGES, PARTS, regenerated
from tests.documentation.page_examples import pages
from tests.support.paths import ROOT

REMEDY = "run python -m tests.documentation"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_up_to_date(page: Path) -> None:
    assert regenerated(page) == page.read_text(), REMEDY


def test_every_part_is_in_a_page() -> None:
    found = re.findall(r"<!-- made: (\w+) -->", "".join(page.read_text() for page in PAGES))
    assert sorted(found) == sorted(PARTS)


def test_root_attributes_and_codecs_are_described(toy_config: Callable[..., SweepConfig], tmp_path: Path) -> None:
    SweepStore.create(tmp_path / "s.zarr", Experiment.prepare(toy_config()).spec())
    text = " ".join((DOCS / "schema.md").read_text().split())
    assert not [name for name in xr.open_zarr(tmp_path / "s.zarr").attrs if f"| `{name}` |" not in text]
    codecs = json.loads((tmp_path / "s.zarr" / "loss" / "zarr.json").read_text())["codecs"]
    ours, compressed, checked = (codec["name"] for codec in codecs)
    assert f"`{ours}` (little-endian" in text
    assert (
        f"`{compressed}` ({codecs[1]['configuration']['cname']}, level {codecs[1]['configuration']['clevel']}" in text
    )
    assert f"and `{checked}`" in text


@pytest.mark.parametrize("page", [*pages(), DOCS / "tutorial.ipynb"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Check the links within the repository: to files, and to headings of pages."""
    for target, heading in re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.relative_to(ROOT)}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert heading in map(anchor, headings), f"{page.relative_to(ROOT)}: {target}#{heading}"


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
