"""Each figure's artists, compared with the variables from which they are drawn."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from IPython.core.formatters import PNGFormatter
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from hesstore import analysis, plots
from hesstore.errors import AnalysisError
from hesstore.plots import eigenvectors
from hesstore.plots.running_median import median_window
from hesstore.plots.style import RASTERISE_ABOVE
from hesstore.store.schema import Status
from tests.support.export_stores import make_store
from tests.support.plot_datasets import CLASSES, store, with_holes, without_options

LABELS = [str(label) for label in range(CLASSES)]


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return store()


@pytest.fixture(scope="module")
def single() -> xr.Dataset:
    return store(runs=((3, "down"),))


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [one for one in axes.get_lines() if one.get_label() == label]
    return found


def drawn(axes: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    one = line(axes, label)
    return np.asarray(one.get_xdata(), float), np.asarray(one.get_ydata(), float)


def legend_texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def mesh(axes: Axes) -> np.ndarray:
    (found,) = [one for one in axes.collections if isinstance(one, QuadMesh)]
    values = found.get_array()
    assert values is not None
    return np.ma.filled(values.astype(float), np.nan)


def render(figure: Figure) -> None:
    """Draw everything without the layout, which takes most of the time."""
    figure.set_layout_engine("none")
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]


def text_of(figure: Figure) -> str:
    return "\n".join(one.get_text() for one in figure.findobj(Text) if isinstance(one, Text))


# -- all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", plots.KINDS)
def test_every_figure_has_labels(ds: xr.Dataset, kind: str) -> None:
    figure = plots.KINDS[kind](ds)
    render(figure)
    plain = [axes for axes in figure.get_axes() if axes.get_visible()]
    words = text_of(figure)
    assert "λ" in words
    headings = ("run 0 (seed 0, up)", "runs 0 and 1 (seed 0, up and down)", "mean over seeds")
    assert any(heading in words for heading in headings)
    for axes in plain:
        shared = figure.get_supxlabel() or axes.get_shared_x_axes().get_siblings(axes)[1:]
        assert shared or axes.get_xlabel() or axes.get_label() == "<colorbar>", axes


@pytest.mark.parametrize(
    "kind", ["tracks", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hysteresis", "classes"))]
)
def test_the_same_figure_has_the_same_bytes(ds: xr.Dataset, kind: str, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plots.save(plots.KINDS[kind](ds), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_notebook_shows_it_without_pyplot(ds: xr.Dataset) -> None:
    formatter = PNGFormatter()
    assert formatter(plots.accuracy(ds)).startswith(b"\x89PNG")


def test_user_settings_change_nothing(ds: xr.Dataset, tmp_path: Path) -> None:
    plots.save(plots.spectrum(ds), tmp_path / "a.svg")
    with rc_context({"font.size": 20, "lines.linewidth": 9, "axes.linewidth": 5}):
        figure = plots.spectrum(ds)
    plots.save(figure, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_formats(ds: xr.Dataset, tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        plots.save(plots.spectrum(ds), tmp_path / f"{name}.{ending}")
    content = (tmp_path / f"a.{ending}").read_bytes()
    assert content.startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[ending])
    assert content == (tmp_path / f"b.{ending}").read_bytes()


@pytest.mark.parametrize("kind", [kind for kind in plots.KINDS if kind != "bands"])
def test_missing_runs(ds: xr.Dataset, kind: str) -> None:
    with pytest.raises(AnalysisError, match="run 7 is not in the store: choose from 0, 1"):
        plots.KINDS[kind](ds, 7)
    empty = with_holes(ds, {0: list(range(16))}, Status.PENDING)
    with pytest.raises(AnalysisError, match="run 0 has no complete grid point"):
        plots.KINDS[kind](empty)


@pytest.mark.parametrize(
    ("kind", "name", "option"),
    [
        ("density", "density", "--density"),
        ("response", "class_response", "--response 0.1"),
        ("blocks", "block_eigenvalues, block_trace", "--blocks layer"),
        ("index", "lowest_eigenvalues, lowest_residual_norm, lowest_bound", "--lowest 1"),
    ],
)
def test_optional_variables_name_their_option(ds: xr.Dataset, kind: str, name: str, option: str) -> None:
    verb, pronoun = ("are", "them") if "," in name else ("is", "it")
    message = f"{name} {verb} not in this store: record {pronoun} with `hesstore sweep STORE … {option} --grow`"
    with pytest.raises(AnalysisError, match=message):
        plots.KINDS[kind](without_options(ds))


@pytest.mark.parametrize(
    "kind", [kind for kind in plots.KINDS if kind not in {"density", "response", "index", "blocks", "summary"}]
)
def test_figures_without_optional_variables(ds: xr.Dataset, kind: str) -> None:
    assert plots.KINDS[kind](without_options(ds)).get_axes()


@pytest.mark.parametrize("kind", ["classes", "response", "density", "summary"])
def test_an_unknown_grid_point_names_the_nearest(ds: xr.Dataset, kind: str) -> None:
    with pytest.raises(
        AnalysisError, match=r"λ = 0\.0181 is not one of the 16 complete grid points of run 0: try 0\.018"
    ):
        plots.KINDS[kind](ds, l2=0.0181)
    holes = with_holes(ds, {0: [3]})
    with pytest.raises(AnalysisError, match=r"λ = 0\.018 is not one of the 15 complete grid points"):
        plots.KINDS[kind](holes, l2=0.018)


@pytest.mark.parametrize("kind", plots.KINDS)
def test_gaps_and_single_runs(ds: xr.Dataset, single: xr.Dataset, kind: str) -> None:
    """Failed grid points, and a run of which most are missing."""
    holed = with_holes(ds, {0: [0, 5, 6, 11], 1: [*range(10)]})
    render(plots.KINDS[kind](holed))
    if kind != "hysteresis":
        assert plots.KINDS[kind](single).get_axes()


def test_figures_have_a_run_and_documented_options() -> None:
    assert list(plots.KINDS)[-1] == "summary"
    for name, draw in plots.KINDS.items():
        parameters = list(inspect.signature(draw).parameters)
        assert parameters[:2] == (["ds", "split"] if name == "bands" else ["ds", "run"])
        section = (inspect.getdoc(draw) or "").split("Parameters\n----------\n")[1].split("\n\n")[0]
        entries = [line.partition(" : ")[0] for line in section.splitlines() if not line.startswith(" ")]
        assert ", ".join(entries).split(", ") == parameters, name


# -- accuracies -------------------------------------------------------------------------------------------


def test_accuracy_draws_both_directions(ds: xr.Dataset) -> None:
    figure = plots.accuracy(ds, 1)
    upper, middle, lower = figure.get_axes()
    for index, label in enumerate(LABELS):
        for run, axes in ((0, upper), (1, middle)):
            x, y = drawn(axes, label)
            assert x.tolist() == ds["l2"].values.tolist()
            assert y.tolist() == ds["class_accuracy"].sel(run=run, split="test", label=index).values.tolist()
        up, down = line(upper, label), line(middle, label)
        assert up.get_color() == down.get_color() == plots.COLOURS[index]
        assert up.get_marker() == down.get_marker() == plots.MARKERS[index]
        assert (up.get_linestyle(), down.get_linestyle()) == ("-", "--")
        assert (up.get_markerfacecolor(), down.get_markerfacecolor()) == (plots.COLOURS[index], "white")
    assert drawn(upper, "_all")[1].tolist() == ds["accuracy"].sel(run=0, split="test").values.tolist()
    assert legend_texts(upper) == legend_texts(middle) == [*LABELS, "all", "chance"]
    assert legend_texts(lower) == ["λ up", "λ down"]
    assert "run 0 (seed 0, up)" in upper.get_title("left")
    assert "run 1 (seed 0, down)" in middle.get_title("left")
    losses = analysis.lost_classes(ds)
    left, right = lower.get_xlim()
    for index, label in enumerate(LABELS):
        for run, direction in enumerate(("up", "down")):
            loss = losses.sel(run=run, label=index)
            assert drawn(lower, f"_{direction} {label}")[0].tolist() == [float(loss["lost_l2"])]
            ends = np.where(np.isnan([loss["low"], loss["high"]]), [left, right], [loss["low"], loss["high"]])
            assert drawn(lower, f"_interval {direction} {label}")[0].tolist() == ends.tolist()


def test_transitions_are_shaded() -> None:
    """In all axes along λ of the run, and only its own."""
    ds = store(41)
    l2 = ds["l2"].values
    noise = 0.001 * np.random.default_rng(0).standard_normal((2, 41, 2))
    loss = np.stack([l2 > 0.0405, l2 > 0.0225]).astype(float)[..., None] + noise
    ds = ds.assign(loss=(("run", "l2", "split"), loss))
    found = analysis.transitions(ds, "loss")
    assert found["run"].values.tolist() == [0, 1]
    for kind, axes_of_run in (("accuracy", {0: [0], 1: [1]}), ("spectrum", {0: [0]}), ("gradient", {0: [0, 1, 2]})):
        axes = plots.KINDS[kind](ds).get_axes()
        for run, panels in axes_of_run.items():
            for panel in panels:
                (band,) = [patch for patch in axes[panel].patches if patch.get_label() == "_transition"]
                assert isinstance(band, Rectangle)
                ends = band.get_x(), band.get_x() + band.get_width()
                assert ends == pytest.approx([found["l2_from"].item(run), found["l2_to"].item(run)])


def test_classes_can_be_distinguished(ds: xr.Dataset) -> None:
    upper = plots.accuracy(ds).get_axes()[0]
    assert len({line(upper, label).get_color() for label in LABELS}) == CLASSES
    assert len({line(upper, label).get_marker() for label in LABELS}) == CLASSES


def test_accuracy_of_one_run_on_the_split_train() -> None:
    one = store(runs=((4, "up"),))
    upper, _ = plots.accuracy(one, split="train").get_axes()
    assert drawn(upper, "3")[1].tolist() == one["class_accuracy"].sel(run=0, split="train", label=3).values.tolist()
    assert upper.get_ylabel() == "train accuracy of the class"
    assert legend_texts(upper) == [*LABELS, "all", "chance"]
    assert "run 0 (seed 4, up)" in upper.get_title("left")


def test_a_run_down_without_one_up_has_a_legend(single: xr.Dataset) -> None:
    upper, _ = plots.accuracy(single).get_axes()
    assert legend_texts(upper) == [*LABELS, "all", "chance"]


def test_skill(ds: xr.Dataset) -> None:
    upper, middle, _ = plots.accuracy(ds, skill=True).get_axes()
    skill = analysis.class_skill(ds)["class_skill"]
    assert drawn(upper, "2")[1].tolist() == skill.sel(run=0, label=2).values.tolist()
    assert drawn(middle, "2")[1].tolist() == skill.sel(run=1, label=2).values.tolist()
    assert "all" not in legend_texts(upper)


def test_lines_break_at_gaps(ds: xr.Dataset) -> None:
    x, y = drawn(plots.accuracy(with_holes(ds, {0: [0, 7]})).get_axes()[0], "1")
    assert x.tolist() == ds["l2"].values[1:].tolist()
    assert np.flatnonzero(np.isnan(y)).tolist() == [6]


def test_classes_that_stay_are_not_marked_lost(ds: xr.Dataset) -> None:
    """Whether a class is lost after the last complete grid point is unknown."""
    short = with_holes(ds, {0: [*range(3, 16)], 1: [*range(3, 16)]}, Status.PENDING)
    *_, lower = plots.accuracy(short).get_axes()
    stays = analysis.lost_classes(short)["censored"].sel(run=0).values == "never lost"
    assert stays.sum() > 5
    for index, label in enumerate(LABELS):
        assert np.isnan(drawn(lower, f"_up {label}")[0][0]) == stays[index]


def test_markers_are_thinned_on_dense_grids() -> None:
    dense = plots.accuracy(store(451, 3, 8, ((0, "up"),))).get_axes()[0]
    places = [line(dense, label).get_markevery() for label in LABELS]
    assert all(isinstance(place, list) and 15 < len(place) < 30 for place in places)
    assert len({str(place) for place in places}) == CLASSES  # those of neighbouring lines are apart
    sparse = line(plots.accuracy(store(4)).get_axes()[0], "0").get_markevery()
    assert sparse == [0, 1, 2, 3]


def test_isolated_points_keep_their_marker() -> None:
    holes = {0: [100, 102]}
    place = line(plots.accuracy(with_holes(store(300, 3, 8), holes)).get_axes()[0], "4").get_markevery()
    assert isinstance(place, list)
    assert 101 in place


def test_hysteresis_shades_the_area(ds: xr.Dataset) -> None:
    figure = plots.hysteresis(ds, 1)
    panels = figure.get_axes()
    assert len(panels) == CLASSES
    areas = analysis.hysteresis(ds)["area"].sel(seed=0)
    skill = analysis.class_skill(ds)["class_skill"]
    for index, axes in enumerate(panels):
        assert axes.get_title("left") == f"{index}:  area {float(areas[index]):.2g}"
        assert drawn(axes, "up")[1].tolist() == skill.sel(run=0, label=index).values.tolist()
        assert drawn(axes, "down")[1].tolist() == skill.sel(run=1, label=index).values.tolist()
        (shade,) = axes.collections
        vertices = shade.get_paths()[0].vertices
        x, y = np.asarray(vertices)[:-1].T
        shoelace = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
        assert shoelace <= float(areas[index]) * (1 + 1e-9)  # equal where the curves do not cross
    with pytest.raises(AnalysisError, match="--direction both"):
        plots.hysteresis(store(runs=((0, "up"), (1, "down"))))


# -- spectra ----------------------------------------------------------------------------------------------


def scatters(axes: Axes) -> dict[str, np.ndarray]:
    found = [one for one in axes.collections if isinstance(one, PathCollection)]
    return {str(one.get_label()): np.asarray(one.get_offsets()) for one in found}


@pytest.mark.parametrize("shift", [False, True])
def test_spectrum_draws_magnitudes_by_sign(ds: xr.Dataset, *, shift: bool) -> None:
    doubled = ds.assign_attrs(penalty_scale=1.0)
    (axes,) = plots.spectrum(doubled, shift=shift).get_axes()
    values = ds["eigenvalues"].sel(run=0).values + (2 * ds["l2"].values[:, None] if shift else 0)
    l2 = np.broadcast_to(ds["l2"].values[:, None], values.shape)
    found = scatters(axes)
    assert np.array_equal(found["positive"], np.stack([l2[values > 0], values[values > 0]], axis=1))
    assert np.array_equal(found["negative"], np.stack([l2[values < 0], -values[values < 0]], axis=1))
    assert axes.get_yscale() == "log"
    assert ("objective" in axes.get_ylabel()) == shift
    assert drawn(axes, "penalty, 2cλ")[1][1:].tolist() == (2 * ds["l2"].values[1:]).tolist()
    (negative,) = [one for one in axes.collections if one.get_label() == "negative"]
    assert len(np.asarray(negative.get_facecolor())) == 0  # open
    smallest = ds["lowest_eigenvalues"].sel(run=0, lowest=0).values + (2 * ds["l2"].values if shift else 0)
    below = smallest < 0
    assert below.any()
    assert np.array_equal(found["smallest, negative"], np.stack([ds["l2"].values[below], -smallest[below]], axis=1))
    assert ("smallest, positive" in found) == shift


def test_large_scatters_are_rasterised(tmp_path: Path) -> None:
    large = store(300, 30, 40, ((0, "up"),))
    (axes,) = plots.spectrum(large).get_axes()
    (positive,) = [one for one in axes.collections if one.get_label() == "positive"]
    assert len(np.asarray(positive.get_offsets())) > RASTERISE_ABOVE
    assert positive.get_rasterized()
    plots.save(plots.spectrum(large), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size < 500_000


def test_losses_are_written_above(ds: xr.Dataset) -> None:
    """In the order in which classes are lost, without overlap, each with a line from its λ."""
    crowded = ds.assign_coords(
        l2=np.concatenate([ds["l2"].values[:-1], [2.0]])
    )  # all classes are lost within a twentieth of the axis
    for one in (ds, crowded):
        (axes,) = plots.spectrum(one).get_axes()
        onset = analysis.lost_classes(one)["lost_l2"].sel(run=0).values
        left, right = axes.get_xlim()
        names = {text.get_text(): text.get_position()[0] for text in axes.texts}
        assert list(names) == [LABELS[index] for index in np.argsort(onset, kind="stable")]
        assert np.diff(list(names.values())).min() > 0.025
        for label, onset_l2 in zip(LABELS, onset, strict=True):
            start, end = drawn(axes, f"_lost {label}")[0]
            assert left + start * (right - left) == pytest.approx(onset_l2, abs=0.04 * (right - left))
            assert end == names[label]
        feet = [drawn(axes, f"_lost {label}")[0][0] for label in names]
        assert np.diff(feet).min() > 0.0039  # no two lines fall on one spot
        if one is ds:
            assert max(abs(np.subtract(*drawn(axes, f"_lost {label}")[0])) for label in LABELS) < 0.001
            assert np.allclose(np.sort(onset), left + np.array(feet) * (right - left))


def test_spectrum_needs_the_penalty(ds: xr.Dataset) -> None:
    with pytest.raises(AnalysisError, match="penalty_scale"):
        plots.spectrum(ds.drop_attrs(deep=False))


def test_density_at_one_and_at_several(ds: xr.Dataset) -> None:
    (axes,) = plots.density(ds).get_axes()
    assert legend_texts(axes) == [f"{value:g}" for value in ds["l2"].values[[0, 4, 8, 11, 15]]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "log")
    widths = [line(axes, name).get_linewidth() for name in legend_texts(axes)]
    assert widths == sorted(set(widths), reverse=True)  # no curve hides one that was drawn before it
    (axes,) = plots.density(ds, l2=0.018).get_axes()
    mu, values = drawn(axes, "0.018")
    expected = ds["density"].sel(run=0, l2=0.018).values
    assert mu.tolist() == ds["mu"].values.tolist()
    shown = np.isfinite(values)
    assert values[shown].tolist() == expected[shown].tolist()
    assert expected[~shown].max() <= 1e-9 * expected.max()
    assert (
        shown & (mu > 1)
    ).any()  # the nine top eigenvalues of 118,282 have a peak of 1e-8 of the bulk's, and are what readers look for
    assert drawn(axes, "stored\neigenvalues")[0].tolist() == ds["eigenvalues"].sel(run=0, l2=0.018).values.tolist()


def test_density_that_was_not_recorded() -> None:
    without = store(with_density=False)
    for l2, where in ((None, "run 0"), (0.018, "λ = 0.018 of run 0")):
        with pytest.raises(
            AnalysisError,
            match=rf"{where} has no spectral density: record it with `hesstore sweep STORE … --density --grow`",
        ):
            plots.density(without, l2=l2)


# -- maps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_draws_shares(ds: xr.Dataset, split: str) -> None:
    figure = plots.classes(ds, l2=0.018, split=split)
    axes = figure.get_axes()[0]
    shares = analysis.sensitivity(ds, 0, split)["curvature_share"].sel(l2=0.018)
    assert np.allclose(mesh(axes), shares.transpose("label", "mode").values, rtol=1e-12)
    (cells,) = axes.collections
    low, high = cells.get_clim()
    assert low is not None
    assert high is not None
    assert -low == high > 0  # white is zero
    assert axes.get_ylim() == (CLASSES, 0)
    signs = [(round(x - 0.5), round(y - 0.47)) for x, y in (text.get_position() for text in axes.texts)]
    strong = np.argwhere(shares.values < -0.06 * high)
    assert sorted(signs) == sorted(map(tuple, strong.tolist()))
    named = [label.get_text() for label in axes.child_axes[0].get_xticklabels()]
    values = ds["eigenvalues"].sel(run=0, l2=0.018).values
    assert [float(name.replace("−", "-")) for name in named] == [float(f"{value:.2g}") for value in values]


def test_classes_without_rows_are_grey(ds: xr.Dataset) -> None:
    lacking = ds.copy(deep=True)
    lacking["confusion"].values[..., 4, :] = 0
    lacking["class_curvature"].values[..., 4] = np.nan
    values = mesh(plots.classes(lacking, l2=0.018).get_axes()[0])
    assert np.isnan(values[4]).all()
    assert np.isfinite(np.delete(values, 4, axis=0)).all()


def test_the_default_grid_point_is_the_last_before_a_class_is_lost(ds: xr.Dataset) -> None:
    first_loss = float(analysis.lost_classes(ds)["lost_from"].sel(run=0).min())
    assert f"λ = {first_loss:g}," in text_of(plots.classes(ds))


def test_response_draws_both_signs(ds: xr.Dataset) -> None:
    minus, plus, _ = plots.response(ds, l2=0.018).get_axes()
    expected = ds["class_response"].sel(run=0, l2=0.018).transpose("sign", "label", "mode").values
    assert np.array_equal(mesh(minus), expected[0])
    assert np.array_equal(mesh(plus), expected[1])
    assert minus.collections[0].get_clim() == plus.collections[0].get_clim()
    silent = ds.assign(class_response=ds["class_response"] * np.nan)
    with pytest.raises(AnalysisError, match=r"λ = 0\.\d+ of run 0 has no responses: along no mode does a step up to"):
        plots.response(silent)


def test_modes_without_a_step_are_marked(ds: xr.Dataset) -> None:
    """A cross for each mode that the solver found but that has no step, in the map of its sign."""
    changes = ds["class_response"].copy()
    changes.loc[{"mode": [2, 5], "sign": -1}] = np.nan
    changes.loc[{"mode": [5, 7], "sign": 1}] = np.nan
    eigenvalues = ds["eigenvalues"].where(ds["mode"] != 7)
    partial = ds.assign(class_response=changes, eigenvalues=eigenvalues)
    minus, plus, _ = plots.response(partial, l2=0.018).get_axes()
    assert [np.asarray(line.get_xdata()).tolist() for line in minus.get_lines()] == [[2.5, 5.5]]
    assert [np.asarray(line.get_xdata()).tolist() for line in plus.get_lines()] == [[5.5]]


def test_overlap_draws_the_map(ds: xr.Dataset) -> None:
    calls: list[tuple[int, int]] = []
    holed = with_holes(ds, {0: [5]})
    axes, bar = plots.overlap(holed, k=3, progress=lambda done, total: calls.append((done, total))).get_axes()
    expected = analysis.overlap_map(holed, k=3)["overlap"].values
    values = mesh(axes)
    assert np.isnan(values[5]).all()
    assert np.isnan(values[:, 5]).all()
    complete = np.delete(np.arange(16), 5)
    assert np.array_equal(values[np.ix_(complete, complete)], expected)
    assert axes.collections[0].get_clim() == (0, 1)
    assert axes.collections[0].get_rasterized()
    assert "first 3 eigenvectors" in bar.get_ylabel()
    assert calls[-1][0] == calls[-1][1]
    default = plots.overlap(ds).get_axes()[1]
    assert "first 9 eigenvectors" in default.get_ylabel()


def test_a_map_of_many_grid_points_has_evenly_spaced_ones(ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eigenvectors, "MAX_POINTS", 4)
    holed = with_holes(
        ds, {0: [5, 14, 15]}
    )  # 14 from the first to the last complete one, of which 0, 4, 9, 13 are drawn
    axes = plots.overlap(holed, k=3).get_axes()[0]
    assert axes.get_title("left") == "run 0 (seed 0, up);  4 of 14 grid points"
    l2 = ds["l2"].values[[0, 4, 9, 13]]
    assert np.allclose(mesh(axes), analysis.overlap_map(ds, k=3)["overlap"].sel(l2=l2, l2_other=l2))


def test_cells_are_centred_at_their_grid_points() -> None:
    uneven = store(4).assign_coords(l2=[0.0, 0.01, 0.03, 0.07])
    (cells,) = plots.overlap(uneven).get_axes()[0].collections
    assert isinstance(cells, QuadMesh)
    sides = np.asarray(cells.get_coordinates())[0, :, 0]
    assert np.allclose(sides, [-0.005, 0.005, 0.02, 0.05, 0.09])


def test_links_are_as_wide_as_their_overlaps_are_large(ds: xr.Dataset) -> None:
    axes, _ = plots.tracks(ds, k=4).get_axes()
    found = analysis.track(ds, k=4)
    (links,) = [one for one in axes.collections if isinstance(one, LineCollection)]
    overlaps = np.asarray(links.get_array())
    assert np.allclose(overlaps, np.sort(found["confidence"].values[1:].ravel()))
    widths = np.asarray(links.get_linewidth())
    assert (np.diff(widths) >= 0).all()
    assert widths[0] < widths[-1]
    drawn_ends = {tuple(np.round(end, 12)) for segment in links.get_segments() for end in np.asarray(segment)}
    values = np.abs(found["eigenvalue"].values)
    expected = {
        (round(l2, 12), round(value, 12)) for l2, row in zip(ds["l2"].values, values, strict=True) for value in row
    }
    assert drawn_ends == expected
    with pytest.raises(AnalysisError, match="choose from 1 to 12"):
        plots.tracks(ds, k=99)


@pytest.mark.parametrize("kind", ["overlap", "tracks", "clusters"])
def test_one_grid_point_is_not_enough(ds: xr.Dataset, kind: str) -> None:
    with pytest.raises(AnalysisError, match="run 0 has only one complete grid point, but this figure needs two"):
        plots.KINDS[kind](with_holes(ds, {0: [*range(1, 16)]}))


# -- losses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weights_norm", "distance"])
def test_losses_are_drawn_against_l2_and_the_norm_or_the_distance(ds: xr.Dataset, name: str) -> None:
    if name == "distance":
        ds = ds.assign(distance=ds["weights_norm"] / 2)
    figure = plots.losses(ds)
    axes = [each for each in figure.get_axes() if each.get_visible()]
    part = ds.sel(run=0)
    for at, quantity in ((0, "loss"), (2, "accuracy")):
        for split in ("train", "test"):
            values = part[quantity].sel(split=split).values.tolist()
            for each, x in ((axes[at], part["l2"]), (axes[at + 1], part[name])):
                drawn_x, drawn_y = drawn(each, split)
                assert drawn_x.tolist() == x.values.tolist()
                assert drawn_y.tolist() == values
    assert drawn(axes[4], "train")[1].tolist() == part[name].values.tolist()
    assert axes[4].get_ylabel() == axes[3].get_xlabel() == {"weights_norm": "‖θ‖", "distance": "‖θ − θ_ref‖"}[name]


# -- gradients and the summary ----------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "test"])
def test_gradient_draws_norms_shares_and_stationarity(ds: xr.Dataset, split: str) -> None:
    upper, middle, lower = plots.gradient(ds, split=split).get_axes()
    part = ds.sel(run=0, split=split)
    assert drawn(upper, "5")[1].tolist() == part["class_gradient_norm"].sel(label=5).values.tolist()
    assert drawn(upper, "all")[1].tolist() == part["gradient_norm"].values.tolist()
    assert drawn(middle, f"{split} gradient")[1].tolist() == part["gradient_share"].values.tolist()
    assert drawn(middle, "weights θ")[1].tolist() == part["weights_share"].values.tolist()
    (only,) = [one for one in lower.get_lines() if len(np.asarray(one.get_xdata())) == 16]
    assert np.asarray(only.get_ydata()).tolist() == part["stationarity"].values.tolist()


def test_summary_has_six_plots(ds: xr.Dataset) -> None:
    figure = plots.summary(ds, l2=0.018, k=2)
    letters = [text.get_text() for axes in figure.get_axes() for text in axes.texts if text.get_fontweight() == "bold"]
    assert letters == list("abcdef")
    words = text_of(figure)
    assert "first 2 eigenvectors" in words
    assert "λ = 0.018, run 0" in words


def test_summary_leaves_out_what_the_store_lacks(ds: xr.Dataset) -> None:
    figure = plots.summary(without_options(ds))
    words = " ".join(text_of(figure).split())
    assert "Not in the store, and left out: responses of the classes." in words
    assert "overlap of the spans" in words
    fits = plots.summary(ds.drop_dims(["mode", "lowest"]).drop_vars(["gradient_share", "weights_share"]))
    (axes,) = fits.get_axes()
    assert axes.get_ylabel().startswith("test skill")
    assert "curvature by class" in text_of(fits)
    nothing = ds.copy()
    nothing["class_response"] = ds["class_response"] * np.nan
    assert "has no responses" in " ".join(text_of(plots.summary(nothing)).split())


# -- dense grids, and figures for papers ------------------------------------------------------------------


def test_curves_of_a_dense_grid_are_medians() -> None:
    dense = with_holes(store(61, 3, 8, ((0, "up"),)), {0: [7]})
    (axes, _) = plots.accuracy(dense).get_axes()
    assert "running medians of 3 grid points" in axes.get_title("left")
    values = dense["class_accuracy"].sel(run=0, split="test", label=4).values
    assert np.array_equal(drawn(axes, "_all 4")[1], values, equal_nan=True)
    medians = drawn(axes, "4")[1]
    assert np.isnan(medians[7])
    for at in (0, 6, 30, 60):
        assert medians[at] == np.nanmedian(values[max(0, at - 1) : at + 2])
    assert not [one for one in plots.accuracy(store(16)).get_axes()[0].get_lines() if one.get_label() == "_all 4"]


@pytest.mark.parametrize(("count", "window"), [(40, 1), (41, 3), (301, 11), (451, 15)])
def test_windows_are_odd_and_grow_with_the_grid(count: int, window: int) -> None:
    assert median_window(count) == window


def font_sizes(figure: Figure) -> list[float]:
    return [float(one.get_fontsize()) for one in figure.findobj(Text) if isinstance(one, Text)]


@pytest.mark.parametrize("width", [89, 183])
def test_a_figure_for_a_paper(ds: xr.Dataset, tmp_path: Path, width: float) -> None:
    screen = plots.accuracy(ds)
    with plots.paper(width):
        figure = plots.accuracy(ds)
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(width)
    sizes = [
        [float(one.get_fontsize()) for one in each.findobj(Text) if isinstance(one, Text)] for each in (figure, screen)
    ]
    assert np.allclose(sizes[0], np.array(sizes[1]) * 7 / 9)
    path = tmp_path / "a.pdf"
    plots.save(figure, path)
    assert b"/FontFile2" in path.read_bytes()  # its TrueType fonts are embedded
    assert plots.accuracy(ds).get_size_inches().tolist() == screen.get_size_inches().tolist()
    with pytest.raises(AnalysisError, match="a figure of 20 mm: choose a width from 60 to 400 mm"), plots.paper(20):
        pass
    wide = re.escape("does not fit into 89 mm: choose a width of at least 160 mm")
    with pytest.raises(AnalysisError, match=wide), plots.paper(89):
        plots.summary(ds)


def test_colours() -> None:
    assert len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == 10
    assert [to_hex(colour) for colour in plots.COLOURS] == list(plots.COLOURS)


# -- axes of the user's, paths, and bands -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["accuracy", "spectrum", "overlap", "density", "hysteresis", "summary"])
def test_figures_are_drawn_where_the_user_wants_them(ds: xr.Dataset, kind: str) -> None:
    """A figure of several panels, and one of one panel, next to axes that stay as they are."""
    whole = Figure(layout="constrained")
    place, other = whole.subplots(1, 2)
    other.plot([0, 1])
    assert plots.KINDS[kind](ds, ax=place) is whole
    render(whole)
    assert len(other.lines) == 1
    assert place in whole.axes or len(whole.subfigs) == 1
    drawn = [axes for axes in whole.get_axes() if axes is not other]
    if kind in {"accuracy", "spectrum", "overlap", "density"}:
        assert drawn[0] is place
    assert any(axes.has_data() for axes in drawn)


def test_several_panels_need_a_cell_of_a_grid(ds: xr.Dataset) -> None:
    place = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    assert plots.accuracy(ds, ax=place) is place.figure  # one panel
    with pytest.raises(AnalysisError, match="several panels: give an ax that"):
        plots.losses(ds, ax=place)


def test_a_path_is_a_store(tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", seeds=(0, 1), k=2)
    assert len(plots.bands(tmp_path / "s.zarr").get_axes()) == 3
    assert plots.accuracy(str(tmp_path / "s.zarr"), 1).get_axes()


def test_bands_are_the_range_of_the_seeds() -> None:
    ds = store(5, runs=((0, "up"), (1, "up"), (2, "down")), with_density=False)
    ds["accuracy"].values[:] = np.array([0.2, 0.6, 0.9])[:, None, None]
    holes = with_holes(ds, {1: [4]})
    axes = plots.bands(holes, "train").get_axes()[0]
    up, down = (line for line in axes.lines if not str(line.get_label()).startswith("_"))
    assert (up.get_label(), down.get_label()) == ("λ up (2 seeds)", "λ down (1 seed)")
    np.testing.assert_allclose(np.asarray(up.get_ydata(), float), [0.4, 0.4, 0.4, 0.4, 0.2])
    np.testing.assert_allclose(np.asarray(down.get_ydata(), float), 0.9)
    band, empty = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)
    np.testing.assert_allclose([heights[:, 1].min(), heights[:, 1].max()], [0.2, 0.6])
    assert heights[:, 0].max() == ds["l2"].values[3]  # the last λ has one seed
    assert not empty.get_paths()
    with pytest.raises(AnalysisError, match="no grid point is complete"):
        plots.bands(with_holes(ds, {run: list(range(5)) for run in range(3)}))
