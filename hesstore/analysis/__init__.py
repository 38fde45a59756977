"""Analyses of a store: functions that take a Dataset and return a Dataset.

It imports ``store`` and lower layers; it needs no torch.

::

    import hesstore
    from hesstore import analysis

    ds = hesstore.open("run.zarr")
    analysis.overlap(ds, 0.0, 0.01, k=9)  # overlap of two spans, and their principal angles
    ds.hess.transitions()  # the same functions as methods

Only complete grid points are used. The Dataset of a whole store is first compared with its digests, as by
``hesstore.open(…, check=True)``, unless it was before. Every variable of a result has a ``long_name``, and ``units``
unless it is a pure number, so that ``.plot()`` labels itself.
"""

from hesstore.analysis import accessor as accessor
from hesstore.analysis.alignment import alignment as _alignment
from hesstore.analysis.checked import checked
from hesstore.analysis.class_quantities import class_skill as _class_skill
from hesstore.analysis.clusters import clusters as _clusters
from hesstore.analysis.correlations import rank_correlations as _rank_correlations
from hesstore.analysis.hysteresis import hysteresis as _hysteresis
from hesstore.analysis.localisation import layer_mass as _layer_mass
from hesstore.analysis.localisation import participation_ratio as _participation_ratio
from hesstore.analysis.lost_classes import lost_classes as _lost_classes
from hesstore.analysis.saddles import objective_index as _objective_index
from hesstore.analysis.selection import complete as _complete
from hesstore.analysis.sensitivity import sensitivity as _sensitivity
from hesstore.analysis.sharpness import sharpness as _sharpness
from hesstore.analysis.spectral_measures import spectral_measures as _spectral_measures
from hesstore.analysis.subspaces import overlap as _overlap
from hesstore.analysis.subspaces import overlap_map as _overlap_map
from hesstore.analysis.subspaces import principal_angles as _principal_angles
from hesstore.analysis.tracking import track as _track
from hesstore.analysis.transitions import transitions as _transitions

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

alignment = checked(_alignment)
class_skill = checked(_class_skill)
clusters = checked(_clusters)
complete = checked(_complete)
hysteresis = checked(_hysteresis)
layer_mass = checked(_layer_mass)
lost_classes = checked(_lost_classes)
objective_index = checked(_objective_index)
overlap = checked(_overlap)
overlap_map = checked(_overlap_map)
participation_ratio = checked(_participation_ratio)
principal_angles = checked(_principal_angles)
rank_correlations = checked(_rank_correlations)
sensitivity = checked(_sensitivity)
sharpness = checked(_sharpness)
spectral_measures = checked(_spectral_measures)
track = checked(_track)
transitions = checked(_transitions)
