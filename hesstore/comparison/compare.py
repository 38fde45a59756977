"""Compares two stores: their configs, their environments, and their results at common complete grid points.

The results are compared grid point by grid point, so that only one grid point of each store is in memory. All values
are read and checked against their digests: equal digests in both stores only show that the same values were written,
not that the files still contain them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore.comparison import distances
from hesstore.comparison.verified_reader import Reader, check_digests, is_unset
from hesstore.config.l2_grid import AXIS
from hesstore.custom_code import calls_back
from hesstore.errors import CorruptStoreError
from hesstore.store.decoding import decoding
from hesstore.store.environments import facts_by_group
from hesstore.store.identity import identity_of
from hesstore.store.schema import BY_NAME, VARIABLES, Point, Run, Status, axis_of, promised_large

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr

    from hesstore.comparison.distances import Distance
    from hesstore.comparison.verified_reader import PointValues

TextPairs = dict[str, tuple[str, str]]
"""For each name the value in A and the value in B, as text; a dash stands for a missing value."""

BY_VECTOR = frozenset(variable.name for variable in VARIABLES if "mode" in variable.dims and variable.by_l2)
"""Variables that belong to single eigenvectors, which are nearly arbitrary where eigenvalues nearly coincide."""

_NOT_COMPARED = {"fit_seconds", "analysis_seconds", "digest", "entries_digest", "status", "failure"}
"""Variables that are not compared: times always differ, and the others follow from variables that are compared."""


@dataclass(frozen=True)
class Difference:
    """The difference of one variable, over the grid points that are complete in both stores.

    Attributes
    ----------
    variable : str
        Its name.
    differing : int
        Number of grid points at which any value differs.
    absolute : float or None
        The largest difference; NaN if only one store has a number. None for eigenvectors, counts, flags and texts.
    relative : float or None
        The largest difference over the largest magnitude at the same grid point. For eigenvectors it is
        1 − ‖V_A V_Bᵀ‖_F²/k for the spans up to the last gap between eigenvalues. None for counts, flags and texts.
    run, value : int, float
        Run ID in A and value on the grid (λ in a sweep) of the grid point where ``relative`` is largest, or else of the
        first one that differs.
    axis : str
        The name of the grid's dimension.
    """

    variable: str
    differing: int
    absolute: float | None
    relative: float | None
    run: int
    value: float
    axis: str = AXIS


@dataclass(frozen=True)
class Comparison:
    """The differences between two stores, A and B.

    Attributes
    ----------
    config : dict of str to (str, str)
        Differences in the identity, which decides the results: settings, digest of the data, parameters.
    environment : dict of str to (str, str)
        Differences in the environment and in the settings that do not affect the results.
    recorded_only_a, recorded_only_b : tuple of str
        Facts about the environment that only one of the stores records.
    imported : tuple of str
        The stores, ``A`` or ``B``, that were imported from files. Their config is the one given for the import.
    shapes : dict of str to (str, str)
        Variables whose shapes differ.
    variables_only_a, variables_only_b : tuple of str
        Variables that have values at the common grid points in only one of the stores. This does not count as a
        difference of results: an import has only the values that its files had.
    gaps : tuple of str
        Variables that lack some values in an import and not in the other store; the other values are compared.
    common, only_a, only_b : int
        Number of grid points that are complete in both stores, and in only one of them. Runs with the same seed and
        direction correspond to each other.
    identical : int or None
        Number of common grid points at which the large arrays (weights, gradient, eigenvectors, …) are equal byte by
        byte; None if a store lacks some of them.
    differences : tuple of Difference
        One for each variable that was compared, in the order of the schema.
    """

    config: TextPairs
    environment: TextPairs
    recorded_only_a: tuple[str, ...] = ()
    recorded_only_b: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    shapes: TextPairs = field(default_factory=dict)
    variables_only_a: tuple[str, ...] = ()
    variables_only_b: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    common: int = 0
    only_a: int = 0
    only_b: int = 0
    identical: int | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def same_config(self) -> bool:
        """Whether the identities, which decide the results, are equal."""
        return not self.config

    @property
    def same_results(self) -> bool:
        """Whether the same grid points are complete in both, and all values that both have are equal except times."""
        return not (self.shapes or self.only_a or self.only_b or any(each.differing for each in self.differences))


def compare_configs(a: xr.Dataset, b: xr.Dataset) -> Comparison:
    """Compare only config and environment; no array is read.

    Parameters
    ----------
    a, b : Dataset
        Whole stores.

    Raises
    ------
    CorruptStoreError
        If the attributes of a store can't be read.
    """
    first, second = _describe(a), _describe(b)
    both = first.facts.keys() & second.facts.keys()
    facts_a, facts_b = ({name: fact for name, fact in each.facts.items() if name in both} for each in (first, second))
    return Comparison(
        _differences(first.identity, second.identity),
        _differences(first.other_settings, second.other_settings) | _differences(facts_a, facts_b),
        recorded_only_a=tuple(name for name in first.facts if name not in both),
        recorded_only_b=tuple(name for name in second.facts if name not in both),
        imported=tuple(name for name, each in (("A", first), ("B", second)) if each.is_import),
    )


@calls_back("progress")
def compare(
    a: xr.Dataset, b: xr.Dataset, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Comparison:
    """Compare two stores: their configs, their environments and their results.

    Parameters
    ----------
    a, b : Dataset
        Whole stores. They are read fastest if they were opened with ``chunked=False``.
    progress : callable, optional
        Called with (grid points compared, grid points that are complete in both).

    Raises
    ------
    CorruptStoreError
        If the attributes or arrays of a store can't be read, or contradict its digests.
    """
    found = compare_configs(a, b)
    imports = tuple(side for side, name in enumerate("AB") if name in found.imported)
    readers = Reader(a, "A"), Reader(b, "B")
    identical = 0
    with decoding("one of the stores"):
        names, shapes = _comparable_variables(a, b)
        common, only_a, only_b = _common_points(a, b)
        tallies = {name: _Tally() for name in names}
        has_same_large = _have_the_same_large(a, b)
        for done, each in enumerate(common, 1):
            values = readers[0].read(each.points[0]), readers[1].read(each.points[1])
            check_digests(readers, each.points, values)
            is_identical = has_same_large and each.digests[0] == each.digests[1]
            identical += is_identical
            for name, tally in tallies.items():
                tally.add(name, each.points[0], values, imports, is_same=is_identical and BY_NAME[name].is_large)
            progress(done, len(common))
    one_sided = [[name for name in names if tallies[name].is_only_in(side)] for side in (0, 1)]
    in_both = {name: tally for name, tally in tallies.items() if all(tally.points_with_values)}
    if any(BY_NAME[name].is_large for name in one_sided[0] + one_sided[1]):
        has_same_large = False
    return replace(
        found,
        shapes=shapes,
        variables_only_a=tuple(one_sided[0]),
        variables_only_b=tuple(one_sided[1]),
        gaps=tuple(name for name, tally in in_both.items() if tally.has_gaps),
        common=len(common),
        only_a=only_a,
        only_b=only_b,
        identical=identical if has_same_large else None,
        differences=tuple(tally.difference(name) for name, tally in in_both.items()),
    )


# -- config and environment ---------------------------------------------------------------------------------


class _Description(NamedTuple):
    """The identity of a store, its other settings, the facts of its environment, and whether it was imported."""

    identity: dict[str, Any]
    other_settings: dict[str, Any]
    facts: dict[str, Any]
    is_import: bool


def _describe(ds: xr.Dataset) -> _Description:
    try:
        identity, config, made = (json.loads(ds.attrs[name]) for name in ("identity", "config", "environment"))
        layout = [f"{name} {'×'.join(map(str, shape))}" for name, shape in identity["parameters"]]
        groups = facts_by_group(made)
        facts = {f"{group}.{name}": fact for group, named in groups.items() for name, fact in named.items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorruptStoreError(f"attributes can't be read ({error}): run hesstore verify for details") from error
    other_settings = {f"config.{key}": value for key, value in config.items() if key not in identity}
    is_import = identity.pop("imported", None) is not None  # the digest of the imported files is not a setting
    return _Description({**identity, "parameters": ", ".join(layout)}, other_settings, facts, is_import)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> TextPairs:
    texts = {key: (_text(a.get(key)), _text(b.get(key))) for key in dict.fromkeys([*a, *b])}
    return {key: pair for key, pair in texts.items() if pair[0] != pair[1]}


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


# -- grid points and variables ----------------------------------------------------------------------------


class _CommonPoint(NamedTuple):
    """A grid point that is complete in both stores, and the digest of its large arrays, in A and in B."""

    points: tuple[Point, Point]
    digests: tuple[int, int]


def _common_points(a: xr.Dataset, b: xr.Dataset) -> tuple[list[_CommonPoint], int, int]:
    """The common grid points, in the order of A, and the number of those that are complete in only A or only B."""
    complete_a, complete_b = _complete_points(a), _complete_points(b)
    common = [
        _CommonPoint((point_a, complete_b[key][0]), (digest_a, complete_b[key][1]))
        for key, (point_a, digest_a) in complete_a.items()
        if key in complete_b
    ]
    return common, len(complete_a) - len(common), len(complete_b) - len(common)


def _complete_points(ds: xr.Dataset) -> dict[tuple[int, str, str, float], tuple[Point, int]]:
    """Each complete grid point and its digest, by seed, direction, axis and value."""
    axis = axis_of(ds)
    status, digests, grid = ds["status"].values, ds["digest"].values, ds[axis].values
    found = {}
    for row, facts in enumerate(zip(*(ds[name].values for name in ("run", "seed", "direction")), strict=True)):
        run = Run(int(facts[0]), int(facts[1]), str(facts[2]))
        for index in np.flatnonzero(status[row] == Status.COMPLETE):
            point = Point(run, int(index), float(grid[index]), axis)
            found[run.seed, run.direction, axis, point.value] = (point, int(digests[row, index]))
    return found


def _comparable_variables(a: xr.Dataset, b: xr.Dataset) -> tuple[list[str], TextPairs]:
    """The variables to compare, and those whose shapes differ in more than the number of eigenpairs."""
    names: list[str] = []
    shapes: TextPairs = {}
    for name in BY_NAME:
        if name in _NOT_COMPARED or not (name in a or name in b):
            continue
        if name in a and name in b and _shape(a, name) != _shape(b, name):
            shapes[name] = _shape(a, name), _shape(b, name)
        else:
            names.append(name)
    return names, shapes


def _have_the_same_large(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether the digests of both stores cover the same arrays, and both have all of them: a pack may lack some."""
    covered, other = (set(promised_large(identity_of(ds.attrs), Status.COMPLETE)) for ds in (a, b))
    return covered == other and all(name in a and name in b for name in covered)


def _shape(ds: xr.Dataset, name: str) -> str:
    sizes = [
        f"{length} {dim}" for dim, length in ds[name].sizes.items() if dim not in {"run", axis_of(ds), "mode", "lowest"}
    ]
    return " × ".join(sizes)


# -- values -----------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """Collects the distances of one variable: the largest one, where it is, and at how many grid points it differs."""

    differing: int = 0
    largest: Distance | None = None
    point: Point = field(default_factory=lambda: Point(Run(0, 0, "up"), 0, 0.0))
    points_with_values: list[int] = field(default_factory=lambda: [0, 0])
    has_gaps: bool = False

    def add(
        self,
        name: str,
        point: Point,
        values: tuple[PointValues, PointValues],
        imports: tuple[int, ...],
        *,
        is_same: bool,
    ) -> None:
        for side, each in enumerate(values):
            self.points_with_values[side] += not is_unset(name, each)
        if any(name not in each for each in values):
            return
        found, has_gaps = (distances.SAME, False) if is_same else distances.distance_of(name, values, imports)
        self.has_gaps |= has_gaps
        self.differing += found.differs
        if self.largest is None or _rank(found) > _rank(self.largest):
            self.largest, self.point = found, point

    def is_only_in(self, side: int) -> bool:
        return self.points_with_values[side] > 0 and not self.points_with_values[1 - side]

    def difference(self, name: str) -> Difference:
        largest = self.largest or distances.SAME
        run, value, axis = self.point.run.id, self.point.value, self.point.axis
        return Difference(name, self.differing, largest.absolute, largest.relative, run, value, axis)


def _rank(found: Distance) -> float:
    if found.relative is None:
        return float(found.differs)
    return math.inf if math.isnan(found.relative) else found.relative
