"""Analyses of a store: functions that take a Dataset and return a Dataset.

It imports ``store`` and lower layers; it needs no torch.

::

    import hesstore
    from hesstore import analysis

    ds = hesstore.open("run.zarr")
    analysis.overlap(ds, 0.0, 0.01, k=9)  # overlap of two spans, and their principal angles
    ds.hess.transitions()  # the same functions as methods

Only complete grid points are used. Every variable of a result has a ``long_name``, and ``units`` unless it is a pure
number, so that ``.plot()`` labels itself.
"""

from hesstore.analysis import accessor as accessor
from hesstore.analysis.alignment import alignment
from hesstore.analysis.class_quantities import class_skill
from hesstore.analysis.clusters import clusters
from hesstore.analysis.correlations import rank_correlations
from hesstore.analysis.hysteresis import hysteresis
from hesstore.analysis.localisation import layer_mass, participation_ratio
from hesstore.analysis.lost_classes import lost_classes
from hesstore.analysis.saddles import objective_index
from hesstore.analysis.selection import complete
from hesstore.analysis.sensitivity import sensitivity
from hesstore.analysis.sharpness import sharpness
from hesstore.analysis.spectral_measures import spectral_measures
from hesstore.analysis.subspaces import overlap, overlap_map, principal_angles
from hesstore.analysis.tracking import track
from hesstore.analysis.transitions import transitions

__all__ = [
    "alignment",
    "class_skill",
    "clusters",
    "complete",
    "hysteresis",
    "layer_mass",
    "lost_classes",
    "objective_index",
    "overlap",
    "overlap_map",
    "participation_ratio",
    "principal_angles",
    "rank_correlations",
    "sensitivity",
    "sharpness",
    "spectral_measures",
    "track",
    "transitions",
]
