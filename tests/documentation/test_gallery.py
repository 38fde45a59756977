"""The pages of docs/gallery/ run in one folder, and their figures show what the pages say."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

import hesstore
from hesstore_cli.main import run
from tests.documentation.page_examples import blocks
from tests.support.paths import ROOT

GALLERY = ROOT / "docs" / "gallery"
INDEX = GALLERY / "README.md"
PAGES = [GALLERY / name for name in re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all examples have run, page by page."""
    folder = tmp_path_factory.mktemp("gallery")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for block in (block for page in (INDEX, *PAGES) for block in blocks(page)):
            assert not block.not_run, block.place
            if block.file:
                Path(block.file).write_text(block.text)
            elif block.language == "python":
                exec(compile(block.text, block.place, "exec"), {})  # noqa: S102 - examples of our own pages
            for command in block.commands if block.language == "sh" else ():
                with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
                    status = run(list(command.arguments))
                assert status == 0, f"{command}\n{errors.getvalue()}"
        yield folder


def test_every_page_is_listed_and_asks_a_question() -> None:
    assert sorted(PAGES) == sorted(page for page in GALLERY.glob("*.md") if page != INDEX)
    assert len(PAGES) == 6
    for page in PAGES:
        title, *_ = page.read_text().splitlines()
        assert title.endswith("?")
        assert f"| {title.removeprefix('# ')} | [{page.name}]({page.name}) |" in INDEX.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_ends_with_its_figure(folder: Path, page: Path) -> None:
    (figure,) = re.findall(r"!\[.*?\]\(([\w-]+\.svg)\)", page.read_text())
    assert figure == f"{page.stem}.svg"
    assert "<svg" in (folder / figure).read_text()


@pytest.mark.slow
def test_the_figures_show_what_the_pages_say(folder: Path) -> None:
    ds = hesstore.open(folder / "digits.zarr")
    lost = ds.hess.lost_classes().sel(run=0)["lost_l2"]
    assert lost.values.argsort()[:2].tolist() == [8, 9]
    shares = ds.hess.sensitivity(0, "train").sel(l2=0.009)["curvature_share"]
    assert int(shares.sel(mode=8).argmax("label")) == 4
    overlap = ds.hess.overlap_map()["overlap"].values
    assert overlap.diagonal(1)[1:].min() > 0.9
    assert overlap[0, -1] < 0.3
    slices = (xr.load_dataset(folder / f"{name}.nc", engine="h5netcdf") for name in ("slice", "line"))
    along, line = (each.sel(split="train") for each in slices)
    near = along.sel(t=slice(-0.051, 0.051))
    assert float(abs(near["quadratic"] - near["loss"]).max()) < 0.03
    assert max(float(line["loss"][end]) for end in (0, -1)) < 0.05
    assert float(line["loss"].max()) > 1
    assert int(line["class_loss"].max("s").argmax("label")) == 3
    top = hesstore.open(folder / "training.zarr")["eigenvalues"].isel(run=0, mode=0)
    assert top.step.values.tolist() == list(range(0, 501, 50))
    assert float(top[1]) > 5 * float(top[0])
    assert float(top[-1]) < float(top[1]) / 2
