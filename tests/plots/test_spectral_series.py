"""Figures of alignment, spectral measures, clusters and the objective's index, compared with their analyses."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from hesstore import analysis, plots
from tests.support import plot_datasets
from tests.support.plot_datasets import store, with_holes


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return store()


def series(axes: Axes, label: str | None = None) -> np.ndarray:
    """Return the values (n,) of the line with that label, or of the longest one."""
    lines = [one for one in axes.get_lines() if label in {None, one.get_label()}]
    longest = max(lines, key=lambda one: len(np.asarray(one.get_xdata())))
    return np.asarray(longest.get_ydata(), dtype=np.float64)


def test_alignment(ds: xr.Dataset) -> None:
    found = analysis.alignment(ds, 1, "test", 4)
    logits = found.assign(overlap=found["overlap"] / 2).isel(l2=[2, 5])
    upper, lower = plots.alignment(ds, 1, "test", 4, logits).get_axes()
    for label in (0, 7):
        np.testing.assert_array_equal(series(upper, str(label)), found["share"].sel(label=label))
    np.testing.assert_array_equal(series(upper, "chance"), [4 / 40] * 2)
    np.testing.assert_array_equal(series(lower, "gradients"), found["overlap"])
    np.testing.assert_array_equal(series(lower, "mean logits"), logits["overlap"])
    assert "first 4 eigenvectors" in upper.get_ylabel()


def test_measures(ds: xr.Dataset) -> None:
    panels = plots.measures(ds, radius=0.1).get_axes()
    found, sharp = analysis.spectral_measures(ds), analysis.sharpness(ds, radius=0.1)
    for axes, name in zip(panels, ("effective_dimension", "spectral_entropy", "outlier_gap"), strict=False):
        np.testing.assert_array_equal(series(axes), found[name])
    np.testing.assert_array_equal(series(panels[3]), sharp["sharpness"])
    assert "0.1 ‖θ‖" in panels[3].get_ylabel()


def test_index_separates_known_from_least_counts(ds: xr.Dataset) -> None:
    bounded = ds.assign(lowest_bound=ds["lowest_bound"].where(ds["l2"] < 0.05, 0.0))
    upper, middle, lower = plots.index(with_holes(bounded, {0: [3]})).get_axes()
    found = analysis.objective_index(bounded).drop_isel(l2=3)
    assert np.isnan(series(upper)[3])
    np.testing.assert_array_equal(np.delete(series(upper), 3), found["smallest_eigenvalue"])
    known = found["index_complete"].values
    assert known.any()
    assert not known.all()
    np.testing.assert_array_equal(series(middle, "all"), found["index"][known])
    np.testing.assert_array_equal(series(middle, "at least"), found["index"][~known])
    np.testing.assert_array_equal(np.delete(series(lower), 3), ds["stationarity"].sel(run=0).drop_isel(l2=3))


def test_clusters(ds: xr.Dataset) -> None:
    found = analysis.clusters(ds)
    links, bars = (one for one in plots.clusters(ds).get_axes()[0].collections if isinstance(one, LineCollection))
    groups = {(at, int(track)) for at, row in enumerate(found["track"].values) for track in row}
    assert len(bars.get_segments()) == len(groups)
    overlaps = [found["overlap"].values[at][found["track"].values[at] == track][0] for at, track in groups]
    linked = [overlap for overlap in overlaps if np.isfinite(overlap)]
    assert len(links.get_segments()) == len(linked) > 0
    np.testing.assert_allclose(np.sort(np.asarray(links.get_array())), np.sort(linked))


def test_spectra_say_how_stationary_their_points_are(ds: xr.Dataset) -> None:
    values = ds["stationarity"].sel(run=0)
    heading = plots.spectrum(ds).get_axes()[0].get_title("left")
    assert heading.endswith(f"stationarity {float(values.min()):.2g} to {float(values.max()):.2g}")


@pytest.mark.parametrize(
    ("which", "label"),
    [
        ("LM", "mode, by |eigenvalue|"),
        ("LA", "mode, largest eigenvalue first"),
        ("SA", "mode, smallest eigenvalue first"),
    ],
)
def test_modes_are_named_in_the_solvers_order(ds: xr.Dataset, which: str, label: str) -> None:
    ordered = ds.assign_attrs(identity=f'{{"which": "{which}"}}')
    assert plots.classes(ordered, l2=0.018).get_axes()[0].get_xlabel() == label
    assert plots.response(ordered, l2=0.018).get_axes()[1].get_xlabel() == label


def test_modes_along_which_classes_cancel_have_a_star(ds: xr.Dataset) -> None:
    opposed = ds.copy(deep=True)
    opposed["class_curvature"][:, :, 3:5] = [1, -1, 1, -1, 1, -1, 1, -1, 1, -0.5]
    above = plots.classes(opposed, l2=0.018).get_axes()[0].child_axes[0]
    assert [text.get_text().endswith("*") for text in above.get_xticklabels()] == [mode in {3, 4} for mode in range(12)]
    assert "cancel" in above.get_xlabel()
    assert "cancel" not in plots.classes(ds, l2=0.018).get_axes()[0].child_axes[0].get_xlabel()


@pytest.fixture(scope="module")
def large() -> xr.Dataset:
    """100 classes, and more modes than a figure has room to name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_datasets, "CLASSES", 100)
        return store(4, 130, 140, ((0, "up"),))


@pytest.mark.parametrize("kind", ["classes", "response"])
def test_many_classes_and_modes_are_labelled_where_there_is_room(large: xr.Dataset, kind: str) -> None:
    figure = plots.KINDS[kind](large, l2=0.03)
    assert max(figure.get_size_inches()) <= 14
    axes = figure.get_axes()[0]
    height, width = axes.bbox.height / figure.dpi, axes.bbox.width / figure.dpi
    assert 10 <= len(axes.get_yticks()) <= height / 0.12
    assert 10 <= len(axes.child_axes[0].get_xticks()) <= width / 0.1


def test_legends_name_some_of_many_classes(large: xr.Dataset) -> None:
    legend = plots.accuracy(large).get_axes()[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 30
    assert legend.get_title().get_text() == "class (30 of 102)"
