"""The page in a real browser: its content, its controls, and that it makes no network requests."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import hesstore
from hesstore import analysis
from hesstore.dataset.completeness import SpectrumSettings
from hesstore.plots.running_median import running_median
from hesstore.report import report
from tests.support.plot_datasets import store
from tests.support.report_pages import HALF_L2, HOSTILE, hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # the numbers of a page are tested without a browser, too

OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - may be missing
    except ImportError:
        skip_or_fail("playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        skip_or_fail("no chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


def skip_or_fail(what: str) -> NoReturn:
    """Skip the tests, or fail if the environment promises a browser."""
    if os.environ.get("HESSTORE_REQUIRE_BROWSER"):
        pytest.fail(what)
    pytest.skip(what)


@contextmanager
def shown(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """Open a page offline and wait until it is drawn; fail if it logs an error or requests anything until the end."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "offline": True, **options})
    page = context.new_page()
    address, wrong = path.as_uri(), list[str]()

    def asked(request: Request) -> None:
        if request.url != address:
            wrong.append(request.url)

    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", asked)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    try:
        yield page
        settled(page)
        assert wrong == []
        assert not page.locator("#error").is_visible()
    finally:
        context.close()


@pytest.fixture(scope="module")
def half_shown(browser: Browser, half: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("browser") / "half.html"
    report(half, path)
    with shown(browser, path) as page:
        yield page


@pytest.fixture
def page(half_shown: Page) -> Page:
    """The page of the half-filled store in its first state, at a complete grid point of the complete run."""
    half_shown.set_viewport_size({"width": 1280, "height": 800})
    half_shown.evaluate(
        """for (const select of document.querySelectorAll(".options select")) {
          select.selectedIndex = 0;
          select.dispatchEvent(new Event("change"));
        }"""
    )
    go(half_shown, 0, "0")
    go(half_shown, 1, "0.004")
    return half_shown


def go(page: Page, run: int, l2: str) -> None:
    """Go to a grid point by the address, again if the page has just replaced it by that of the grid point before."""
    shown = f"document.getElementById('at').textContent.startsWith('At λ = {l2}, run {run} ')"
    until(page, f"(location.hash = '#run={run}&l2={l2}', {shown})")


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids what Playwright's own function does."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"still false after 30 s: {expression}")


def settled(page: Page) -> None:
    """Wait until everything is drawn."""
    page.evaluate("async () => { await new Promise(requestAnimationFrame); await drawing; }")


def unfold(page: Page, table: str) -> None:
    details = page.locator("details", has=page.locator(f"#{table}"))
    if details.get_attribute("open") is None:
        details.locator("summary").click()


def plotted(page: Page, name: str) -> list[dict[str, Any]]:
    """Return the data that plotly draws."""
    settled(page)
    found: list[dict[str, Any]] = page.evaluate("(name) => document.getElementById(name).data", name)
    return found


def cells(page: Page, table: str) -> list[list[str]]:
    """Return the texts in the body of a table."""
    return [row.locator("th, td").all_inner_texts() for row in page.locator(f"#{table} tbody tr").all()]


def column(page: Page, at: int) -> list[str]:
    return [row[at] for row in cells(page, "table")]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.fixture(scope="module")
def ds(half: Path) -> xr.Dataset:
    return hesstore.open(half)


def test_no_button_sends_data_to_a_server(page: Page) -> None:
    titles = page.locator(".modebar-btn").evaluate_all("buttons => buttons.map((each) => each.dataset.title)")
    assert any("Zoom" in title for title in titles)
    assert not [title for title in titles if "share" in title.lower() or "cloud" in title.lower()]


def test_numbers_are_those_of_the_store(page: Page, ds: xr.Dataset) -> None:
    assert page.locator("#at").inner_text() == "At λ = 0.004, run 1 (seed 0, down)"
    part = ds.sel(run=1, l2=0.004)
    counts = [[int(text) for text in row[1:]] for row in cells(page, "confusion")]
    assert counts == part["confusion"].sel(split="test").values.tolist()
    by_class = [[number(text) for text in row[1:3]] for row in cells(page, "by-class")]
    assert np.allclose(by_class, part["class_accuracy"].T, rtol=5.1e-4)
    unfold(page, "pairs")
    pairs = cells(page, "pairs")
    assert np.allclose([number(row[1]) for row in pairs], part["eigenvalues"], rtol=1e-7)
    assert np.allclose([number(row[2]) for row in pairs], part["residual_norm"], rtol=1e-3)
    assert [row[4] for row in pairs] == [["no", "yes"][flag] for flag in part["converged"].values.astype(int)]
    record = dict(cells(page, "record"))
    assert record["epochs"] == str(int(part["epochs"]))
    assert record["Hessian products"] == str(int(part["matvecs"]))
    assert record["solver message"] == "text"
    settings = SpectrumSettings.of(ds.attrs)
    assert settings is not None
    assert [record["spectrum"]] == [each.text for each in settings.spectra(part)]
    assert record["accuracy"] == "train {:.4f}, test {:.4f}".format(*part["accuracy"].values)
    (heat,) = plotted(page, "modes")
    shares = analysis.sensitivity(ds, 1)["curvature_share"].sel(l2=0.004).transpose("label", "mode")
    assert np.allclose(heat["z"], shares, atol=0.00051)
    page.select_option("#map", "response")
    page.select_option("#map-sign", "0")
    (heat,) = plotted(page, "modes")
    response = part["class_response"].sel(sign=-1).transpose("label", "mode")
    assert np.allclose(heat["z"], response, atol=0.00051)
    unfold(page, "map-table")
    written = [[number(text) for text in row[1:]] for row in cells(page, "map-table")]
    assert np.allclose(written, response.T, atol=0.00051)
    page.select_option("#map", "slope")
    page.select_option("#map-split", "1")
    (heat,) = plotted(page, "modes")
    slope = analysis.sensitivity(ds, 1, "test")["slope"].sel(l2=0.004).transpose("label", "mode")
    assert np.allclose(heat["z"], slope, atol=0.001 * float(abs(slope).max()))


def test_curves_along_l2(page: Page, ds: xr.Dataset) -> None:
    lines = plotted(page, "classes")
    assert [line["line"]["dash"] for line in lines] == ["dash"] * 3 + ["solid"] * 3
    skill = analysis.class_skill(ds)["class_skill"]
    for line, run, label in zip(lines, [0, 0, 0, 1, 1, 1], [0, 1, 2] * 2, strict=True):
        drawn = np.array(line["y"], dtype=float)
        assert np.allclose(drawn, skill.sel(run=run, label=label), rtol=5.1e-4, equal_nan=True)
    page.select_option("#quantity", "class_accuracy")
    page.select_option("#split", "0")
    page.select_option("#compare", "")
    lines = plotted(page, "classes")
    accuracies = ds["class_accuracy"].sel(run=1, split="train").values.T
    assert [line["y"] for line in lines] == accuracies.tolist()
    for scale, values in (("log", abs(ds["eigenvalues"])), ("linear", ds["eigenvalues"])):
        page.select_option("#scale", scale)
        heights = [y for one in plotted(page, "spectrum") if one["mode"] == "markers" for y in one["y"]]
        assert sorted(heights) == sorted(values.sel(run=1).values.ravel().tolist())


def test_curves_of_single_quantities_and_overlaps(page: Page, ds: xr.Dataset) -> None:
    part = ds.sel(run=1)
    lowest = part["lowest_eigenvalues"].isel(lowest=0)
    expected = {
        "training": [part["loss"][:, 0], part["loss"][:, 1], part["accuracy"][:, 0], part["accuracy"][:, 1]],
        "curvature": [part["trace"], abs(part["eigenvalues"])[:, 0], abs(part["eigenvalues"])[:, -1]],
    }
    for plot, curves in expected.items():
        drawn = [trace for trace in plotted(page, plot) if not trace.get("fill") and trace.get("name") != "−2cλ"]
        for trace, values in zip(drawn, curves, strict=False):
            assert np.allclose(trace["y"], values, rtol=5.1e-4), trace["name"]
    assert np.allclose(drawn[-1]["y"], lowest)
    assert [trace["yaxis"] for trace in drawn] == ["y", "y2", "y2", "y2", "y3"]
    (heat,) = plotted(page, "overlap")
    assert np.allclose(heat["z"], analysis.overlap_map(ds, 2, 1)["overlap"], atol=0.00051)
    page.mouse.click(*place_of(page, "training", 0.002))
    until(page, "location.hash === '#run=1&l2=0.002'")


def test_medians_and_ranges_are_those_of_numpy(page: Page) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=30)
    values[[4, 5, 20]] = np.nan
    listed = [None if np.isnan(value) else float(value) for value in values]
    found = page.evaluate("([values, window]) => runningMedian(values, window)", [listed, 7])
    assert np.array_equal(np.array(found, dtype=float), running_median(values, 7), equal_nan=True)
    curves = rng.normal(size=(3, 6))
    curves[:2, 3] = curves[1:, 5] = np.nan
    low, high = page.evaluate(
        "(curves) => Object.values(rangeOf(curves.map((curve) => curve.map((value) => value ?? null))))",
        [[None if np.isnan(value) else float(value) for value in curve] for curve in curves],
    )
    enough = np.isfinite(curves).sum(0) > 1
    assert np.array_equal(np.array(low, dtype=float)[enough], np.nanmin(curves[:, enough], axis=0))
    assert np.array_equal(np.array(high, dtype=float)[enough], np.nanmax(curves[:, enough], axis=0))
    assert np.isnan(np.array([low, high], dtype=float)[:, ~enough]).all()


def test_where_classes_are_lost(page: Page, ds: xr.Dataset) -> None:
    losses = analysis.lost_classes(ds)
    for split, name in (("1", "test"), ("0", "train")):
        page.select_option("#split", split)
        losses = analysis.lost_classes(ds, split=name)
        found = cells(page, "lost")
        for row, label in zip(found, range(3), strict=True):
            for at, run in ((1, 1), (3, 0)):  # the run, and the run for comparison
                loss = losses.sel(run=run, label=label)
                assert row[at] == (str(loss["censored"].values) or f"{float(loss['lost_l2']):.4g}")


def test_controls_that_have_no_effect_say_why(page: Page) -> None:
    for control, reason in (("smooth", "(the grid has only 6 points)"), ("range", "(only one run with λ down")):
        assert page.locator(f"#{control}").is_disabled()
        assert page.locator(f"#{control}-reason").inner_text().startswith(reason)
    go(page, 1, "0.008")
    assert page.get_attribute("#next", "title") == "This is the last grid point."
    go(page, 0, "0")
    assert not page.locator("#range").is_disabled()
    assert page.locator("#range-text").inner_text() == "range over the 2 runs with λ up"
    until(page, "state.siblings.length === 2")


def test_downloads(page: Page, ds: xr.Dataset, tmp_path: Path) -> None:
    part = ds.sel(run=1)

    def saved(what: str) -> str:
        with page.expect_download() as waiting:
            page.locator(f"[data-download={what}]").click()
        assert waiting.value.suggested_filename.startswith("half-run-1")
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path.read_text()

    data = json.loads(saved("run"))
    assert data["run"]["accuracy"] == part["accuracy"].values.tolist()
    assert data["grid"] == list(HALF_L2)
    table = pd.read_csv(io.StringIO(saved("table")))
    assert np.array_equal(table["test loss"], part["loss"].sel(split="test"))
    curves = pd.read_csv(io.StringIO(saved("training")))
    accuracies = curves[(curves["quantity"] == "accuracy") & (curves["curve"] == "test")]
    assert np.array_equal(accuracies["value"], part["accuracy"].sel(split="test"))
    assert len(pd.read_csv(io.StringIO(saved("overlap")))) == len(HALF_L2) ** 2
    assert len(pd.read_csv(io.StringIO(saved("lost")))) == 6


def test_grid_points_that_are_not_complete_are_named(page: Page) -> None:
    go(page, 0, "0.001")
    assert page.locator("#gaps").inner_text() == (
        "3 of 6 grid points of this run are complete and drawn; not drawn: 1 pending, 1 fitted, 1 failed."
    )
    first = plotted(page, "classes")[-1]
    assert [y is None for y in first["y"]] == [False, False, True, False, True, True]
    assert column(page, 1) == ["complete", "complete", "failed", "complete", "fitted", "pending"]
    texts = {
        "0.002": "failed: text.",
        "0.006": "its analysis is not complete",
        "0.008": "nothing has been computed yet",
    }
    for l2, words in texts.items():
        page.get_by_role("link", name=l2, exact=True).click()
        until(page, f"document.getElementById('shown').textContent === 'λ = {l2}'")
        assert words in page.locator("#state").inner_text()
        assert not page.locator("#details").is_visible()
    page.select_option("#run", "3")
    page.get_by_text("This run has no complete grid point.").first.wait_for()
    assert page.get_by_text("This run has no complete grid point.").count() == 5
    assert "0 of 6 grid points of this run" in page.locator("#gaps").inner_text()


def test_a_grid_point_is_chosen_by_keyboard_mouse_and_address(page: Page, ds: xr.Dataset) -> None:
    def chosen(l2: str) -> None:
        until(page, f"location.hash === '#run=1&l2={l2}'")
        assert page.locator("#shown").inner_text() == f"λ = {l2}"
        assert page.locator("tr[aria-current] a").inner_text() == l2
        assert page.get_attribute("#l2", "aria-valuetext") == f"λ = {l2}, complete"

    page.locator("#run").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "l2"
    page.keyboard.press("ArrowLeft")
    chosen("0.002")
    for key in ("ArrowLeft", "ArrowRight", "Home", "ArrowRight", "End"):  # faster than the plots are drawn
        page.keyboard.press(key)
    chosen("0.008")
    shares = analysis.sensitivity(ds, 1)["curvature_share"].sel(l2=0.008).transpose("label", "mode")
    assert np.allclose(plotted(page, "modes")[0]["z"], shares, atol=0.00051)
    assert page.locator("#next").is_disabled()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    chosen("0.006")
    box = page.locator("#l2").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2 - 30, box["y"] + box["height"] / 2)
    chosen("0.002")
    for plot, l2 in (("classes", 0.004), ("spectrum", 0.008)):
        page.mouse.click(*place_of(page, plot, l2))
        chosen(str(l2))
        settled(page)
        assert page.evaluate(f"document.getElementById('{plot}').layout.shapes[0].x0") == l2
    page.evaluate("location.hash = '#run=2&l2=0.0009'")  # a link to a λ that is not on the grid: the nearest one
    until(page, "location.hash === '#run=2&l2=0.001'")
    assert page.locator("#run").input_value() == "2"


def place_of(page: Page, plot: str, l2: float) -> tuple[float, float]:
    """Return the place of λ in a plot, a little to the left of it and at the lower edge, where no marker is near."""
    inside = page.locator(f"#{plot} .nsewdrag").first
    inside.scroll_into_view_if_needed()
    box = inside.bounding_box()
    assert box is not None
    low, high = page.evaluate(f"document.getElementById('{plot}').layout.xaxis.range")
    across = (l2 - 0.035 * (high - low) - low) / (high - low)
    return box["x"] + box["width"] * across, box["y"] + box["height"] - 3


def test_the_table_sorts(page: Page, ds: xr.Dataset) -> None:
    assert column(page, 0) == [f"{l2:g}" for l2 in HALF_L2]
    head = page.locator("#table th", has_text="test loss")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    losses = ds["loss"].sel(run=1, split="test").values
    rising = [f"{HALF_L2[index]:g}" for index in losses.argsort()]
    assert column(page, 0) == rising
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 0) == rising[::-1]
    assert page.locator("#table th[aria-sort=none]").count() == page.locator("#table thead th").count() - 1
    go(page, 0, "0.001")
    page.locator("#table th", has_text="μ₁").get_by_role("button").click()
    assert column(page, 1)[3:] == ["failed", "fitted", "pending"]  # rows without a number come last


def test_a_narrow_window_and_paper(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    until(page, "document.querySelector('#modes .main-svg').clientWidth < 360")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    widths = "() => [...document.querySelectorAll('.plot .main-svg')].map((plot) => plot.clientWidth)"
    assert all(300 < width < 360 for width in page.evaluate(widths))
    page.emulate_media(media="print")
    assert not page.locator("#choice").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('thead button')).display") == "contents"
    page.evaluate(f"addEventListener('beforeprint', () => (window.printed = ({widths})()))")
    page.pdf(format="A4")
    assert set(page.evaluate("window.printed")) == {660}
    page.emulate_media(media="screen", color_scheme="dark")
    until(page, "document.querySelector('#modes .main-svg').clientWidth < 360")
    ground, ink = page.evaluate("(style => [style.backgroundColor, style.color])(getComputedStyle(document.body))")
    assert (ground, ink) == ("rgb(20, 23, 28)", "rgb(230, 232, 235)")
    assert page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill") == ink


def test_stores_that_lack_variables(browser: Browser, tmp_path: Path) -> None:
    uncounted = store(1, k=1, runs=((0, "up"),))
    uncounted["confusion"].values[:] = -1
    for ds, texts in (
        (
            store(3).drop_vars("class_slope"),
            ("data for them: class × mode, residual norms.",),
        ),
        (uncounted, ("This grid point has no confusion counts.",)),
        (
            store(3).drop_dims(["mode", "lowest"]).drop_vars("eigenvalue_bound"),  # a sweep with k = 0
            ("data for them: spectrum, trace and ends of the spectrum, overlap of the top spans, class × mode",),
        ),
    ):
        path = tmp_path / "lacking.html"
        report(ds, path)
        with shown(browser, path) as page:
            for words in texts:
                assert page.get_by_text(words).is_visible(), words
            if ds is uncounted:  # the page starts with a quantity that the store has
                assert page.input_value("#quantity") == "class_accuracy"
                assert page.locator("#quantity option").all_inner_texts()[0] == "skill (no confusion counts)"
                assert page.locator("#quantity option").first.is_disabled()
            assert len(cells(page, "table")) == ds.sizes["l2"]
            assert {"accuracy", "loss E"} <= set(dict(cells(page, "record")))
            assert "epochs" not in dict(cells(page, "record"))


def test_texts_of_a_store_run_nothing_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    report(hostile(), path, title=HOSTILE)
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
    with shown(browser, path, **phone) as page:
        assert page.title() == page.locator("h1").inner_text() == HOSTILE
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert dict(cells(page, "record"))["solver message"] == HOSTILE
        page.evaluate("Plotly.Fx.hover('classes', [{ curveNumber: 3, pointNumber: 0 }])")
        assert HOSTILE in (page.locator("#classes .hoverlayer").text_content() or "")
        page.touchscreen.tap(*place_of(page, "classes", 0.09))
        until(page, "document.getElementById('shown').textContent === 'λ = 0.09'")
        page.locator("#previous").tap()
        until(page, "document.getElementById('shown').textContent === 'λ = 0.045'")
        assert page.locator("#state").inner_text() == f"This grid point failed: {HOSTILE}."
        assert page.evaluate("window.harm") is None
        assert page.locator("img").count() == 0
