"""Figures of a store: functions that take a Dataset and return a matplotlib Figure.

It imports ``analysis``, ``store`` and lower layers; it needs no torch.

::

    import hesstore
    from hesstore import plots

    ds = hesstore.open("run.zarr")
    figure = plots.classes(ds, l2=0.006)
    plots.save(figure, Path("classes.svg"))
    plots.accuracy("run.zarr", ax=ax)  # a path; drawn into the axes of a figure of yours
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.plots.accuracies import accuracy
from hesstore.plots.class_maps import classes, response
from hesstore.plots.cluster_tracks import clusters
from hesstore.plots.eigenvectors import overlap, tracks
from hesstore.plots.gradients import gradient
from hesstore.plots.hysteresis_loops import hysteresis
from hesstore.plots.layer_blocks import blocks
from hesstore.plots.loss_curves import losses
from hesstore.plots.loss_slices import loss_slice
from hesstore.plots.seed_bands import bands
from hesstore.plots.spectra import density, spectrum
from hesstore.plots.spectral_series import alignment, index, measures
from hesstore.plots.style import COLOURS, MARKERS, paper, save
from hesstore.plots.summary_figure import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "KINDS",
    "MARKERS",
    "accuracy",
    "alignment",
    "bands",
    "blocks",
    "classes",
    "clusters",
    "density",
    "gradient",
    "hysteresis",
    "index",
    "loss_slice",
    "losses",
    "measures",
    "overlap",
    "paper",
    "response",
    "save",
    "spectrum",
    "summary",
    "tracks",
]

KINDS: dict[str, Callable[..., Figure]] = {
    "accuracy": accuracy,
    "losses": losses,
    "spectrum": spectrum,
    "classes": classes,
    "overlap": overlap,
    "tracks": tracks,
    "clusters": clusters,
    "alignment": alignment,
    "measures": measures,
    "index": index,
    "density": density,
    "gradient": gradient,
    "hysteresis": hysteresis,
    "response": response,
    "blocks": blocks,
    "bands": bands,
    "summary": summary,
}
"""The functions by the name of their figure.

Each takes a store (a Dataset, a path or a URL) and the options in its signature; all but ``bands`` take a ``run``.
"""
