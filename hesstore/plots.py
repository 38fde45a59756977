"""Pictures of a store: Dataset → Figure.

Colours are Petroff's ten, chosen to be told apart by people with any colour vision (arXiv 2107.02270); for print,
each class has a marker of its own as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from hesstore.errors import ExportError
from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr
    from matplotlib.axes import Axes

COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")


def accuracy(ds: xr.Dataset, run: int = 0) -> Figure:
    """Test accuracy of each class against λ, one run."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    _draw_accuracy(figure.subplots(), _complete(ds, run))
    return figure


def spectrum(ds: xr.Dataset, run: int = 0) -> Figure:
    """|μ| of the stored eigenvalues against λ on a logarithmic axis, one run; negative ones are open circles."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    _draw_spectrum(figure.subplots(), _complete(ds, run))
    return figure


def summary(ds: xr.Dataset, run: int = 0) -> Figure:
    """Class accuracies above, eigenvalues below, on one λ axis."""
    figure = Figure(figsize=(7, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    part = _complete(ds, run)
    _draw_accuracy(upper, part)
    _draw_spectrum(lower, part)
    upper.set_xlabel("")
    return figure


KINDS: dict[str, Callable[[xr.Dataset, int], Figure]] = {
    "accuracy": accuracy,
    "spectrum": spectrum,
    "summary": summary,
}


def _complete(ds: xr.Dataset, run: int) -> xr.Dataset:
    if run not in ds["run"].values:
        raise ExportError(f"run {run} is not in the store: it has {', '.join(map(str, ds['run'].values))}")
    part = ds.sel(run=run)
    part = part.isel(l2=np.flatnonzero(part["status"].values == Status.COMPLETE))
    if not part.sizes["l2"]:
        raise ExportError(f"no λ of run {run} is complete: run the sweep first")
    return part


def _draw_accuracy(axes: Axes, part: xr.Dataset) -> None:
    test = part.sel(split="test")
    for index, label in enumerate(test["label"].values):
        axes.plot(
            test["l2"],
            test["class_accuracy"].sel(label=label),
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            linewidth=1,
            label=str(label),
        )
    axes.plot(test["l2"], test["accuracy"], color="0.2", linewidth=4, alpha=0.35, label="all", zorder=0)
    axes.set(xlabel="L2 strength λ", ylabel="test accuracy of the class", ylim=(-0.03, 1.03))
    axes.legend(title="class", ncols=1, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(alpha=0.25)


def _draw_spectrum(axes: Axes, part: xr.Dataset) -> None:
    values = part["eigenvalues"].values
    l2 = np.broadcast_to(part["l2"].values[:, None], values.shape)
    for chosen, face, edge, label in (
        (values > 0, COLOURS[0], COLOURS[0], "positive"),
        (values < 0, "none", COLOURS[2], "negative (magnitude)"),
    ):
        axes.scatter(
            l2[chosen], np.abs(values[chosen]), s=14, facecolors=face, edgecolors=edge, linewidths=0.8, label=label
        )
    axes.set(xlabel="L2 strength λ", ylabel="eigenvalue |μ| of the Hessian (nat)", yscale="log")
    axes.legend(fontsize="small", loc="best")
    axes.grid(alpha=0.25)


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` (.png, .svg or .pdf); the same figure gives the same bytes."""
    with rc_context({"svg.hashsalt": "hesstore"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
