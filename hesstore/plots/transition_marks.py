"""Marks at the λ where the network changes suddenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.plots.run_data import run_transitions

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def mark_transitions(axes: Axes, ds: xr.Dataset, run: int) -> None:
    """Shade the transitions of ``run`` (:func:`hesstore.analysis.transitions`) in ``axes`` along λ."""
    for l2_from, l2_to in run_transitions(ds, run):
        axes.axvspan(l2_from, l2_to, color="0.75", linewidth=0.8, alpha=0.6, zorder=0.5, label="_transition")
