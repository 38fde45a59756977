from __future__ import annotations

import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

import hesstore
from hesstore.errors import AnalysisError
from hesstore.report import page, report
from hesstore.report.overlaps import overlap_data
from hesstore.report.page_data import run_data, store_data
from tests.support.plot_datasets import store
from tests.support.report_pages import HOSTILE, facts_in, hostile, library_in, run_in


class Elements(HTMLParser):
    """All start tags of a page, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def text(half: Path) -> str:
    return page(hesstore.open(half), "A half-filled store")


def test_a_page_contains_the_data_of_the_store(half: Path, text: str) -> None:
    ds = hesstore.open(half)
    facts = facts_in(text)
    assert {**facts, "look": None} == {**store_data(ds), "look": None}
    for run in range(4):
        assert run_in(text, run) == {**run_data(ds, run), "overlap": overlap_data(ds, run)}
    library, original = (re.sub("https?://", "", each) for each in (library_in(text), get_plotlyjs()))
    assert library == original


def test_a_page_shows_its_provenance(half: Path, text: str) -> None:
    ds = hesstore.open(half)
    words = Elements(text).text
    for value in (
        ds.attrs["fingerprint"],
        "0" * 64,
        "6 grid points each; 17 parameters, 3 classes, 4 eigenpairs per grid point",
        "torch",
    ):
        assert value in words
    assert "run 0 (seed 0, up): 1 failed, 3 complete, 1 fitted, 1 pending" in words
    assert "<title>A half-filled store</title>" in text


def test_a_page_makes_no_network_requests(text: str) -> None:
    elements = Elements(text).found
    assert not [tag for tag, _ in elements if tag in {"link", "iframe", "img", "object", "embed", "base"}]
    addresses = [attrs[name] for _, attrs in elements for name in ("src", "href", "action") if name in attrs]
    assert addresses == []
    (policy,) = [attrs["content"] for _, attrs in elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    program = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    for script in (program, library_in(text)):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_no_address_of_a_server_is_left_in_a_page(text: str) -> None:
    namespaces = r"https?://www\.w3\.org/(1999|2000|XML)/?[a-zA-Z/0-9]*"
    for part in (text, library_in(text)):
        addresses = re.findall(r"https?://[A-Za-z0-9][^\s\"'`]*", part)
        assert [each for each in addresses if not re.fullmatch(namespaces, each)] == []
    assert "showSendToCloud: false" in text


def test_the_same_store_gives_the_same_bytes(half: Path, text: str) -> None:
    assert page(hesstore.open(half), "A half-filled store") == text


def test_texts_of_a_store_do_not_become_markup() -> None:
    text = page(hostile(), HOSTILE)
    elements = Elements(text).found
    assert not [tag for tag, _ in elements if tag == "img"]
    kinds = [attrs.get("type") for tag, attrs in elements if tag == "script"]
    assert kinds == ["application/json", *["application/gzip"] * 3, None]
    assert facts_in(text)["labels"][3] == f"{HOSTILE}3"
    assert run_in(text, 0)["failure"][1] == HOSTILE


def test_chosen_runs(half: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    calls: list[tuple[int, int]] = []
    report(half, path, runs=[2, 0], progress=lambda *done: calls.append(done), overlap=False)
    text = path.read_text()
    assert [run["id"] for run in facts_in(text)["runs"]] == [2, 0]
    assert run_in(text, 0)["status"][:3] == [2, 2, 3]
    assert run_in(text, 0)["overlap"] is None
    assert 'id="run-1"' not in text
    assert "<h1>half.zarr</h1>" in text
    assert calls == [(6, 12), (12, 12)]
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_without_a_whole_page(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.html"
    with pytest.raises(AnalysisError, match="run 9 is not in the store: choose from 0, 1, 2, 3"):
        report(half, path, runs=[9])
    with pytest.raises(AnalysisError, match="no grid point of the store is complete"):
        report(half, path, runs=[3])
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(AnalysisError, match=re.escape('a report needs plotly: pip install "hesstore[report]"')):
        report(half, path)
    assert list(tmp_path.iterdir()) == []


def test_names_in_the_provenance_break_only_between_words(text: str) -> None:
    names = re.findall(r'<th scope="row">(.*?)</th>', text)
    assert "max_<wbr>matvecs" in names
    assert "versions.<wbr>torch" in names


def test_a_long_sweep_is_a_few_megabytes() -> None:
    """One run of 45 grid points takes at most a tenth of the 2.2 MB of 451 grid points × 30 modes × 10 classes."""
    text = page(store(45, k=30, runs=((0, "up"),)), "")
    assert len(text) - len(page(store(1, k=30, runs=((0, "up"),)), "")) < 220_000
