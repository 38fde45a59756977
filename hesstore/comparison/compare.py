"""Two stores held against each other: config, environment, and the results at each λ that is complete in both.

λ by λ, so that no more than one of each is in memory. All is read and held against its digests: equal digests alone
say that the same was written once, not that it is still there.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore.comparison import distances
from hesstore.comparison.verified_reader import Reader, check, is_unset
from hesstore.errors import CorruptStoreError
from hesstore.store.environments import facts_by_group
from hesstore.store.identity import identity_of
from hesstore.store.schema import BY_NAME, VARIABLES, Status, promised_large

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr

    from hesstore.comparison.distances import Distance
    from hesstore.comparison.verified_reader import At

Values = dict[str, tuple[str, str]]
"""For each name the value in A and the one in B, as text; a dash where there is none."""

BY_VECTOR = frozenset(variable.name for variable in VARIABLES if "mode" in variable.dims and variable.by_l2)
"""What is told of single eigenvectors, which mean little where eigenvalues nearly coincide."""

_NOT_COMPARED = {"fit_seconds", "analysis_seconds", "digest", "entries_digest", "status", "failure"}
"""Times are never the same twice; the others follow from what is compared."""


@dataclass(frozen=True)
class Difference:
    """Of one variable, over the λ that are complete in both.

    Attributes
    ----------
    variable : str
        Its name.
    differing : int
        λ at which any value differs.
    absolute : float or None
        The largest difference; NaN if a number stands against none. None for eigenvectors, counts, flags and texts.
    relative : float or None
        The largest difference over the largest magnitude at the same λ. Of eigenvectors 1 − ‖V_A V_Bᵀ‖_F²/k, of the
        spans up to the last gap between eigenvalues. None for counts, flags and texts.
    run, l2 : int, float
        Where ``relative`` is largest, or else the first λ that differs: run ID in A, and λ.
    """

    variable: str
    differing: int
    absolute: float | None
    relative: float | None
    run: int
    l2: float


@dataclass(frozen=True)
class Comparison:
    """What differs between the stores A and B.

    Attributes
    ----------
    config : dict of str to (str, str)
        What decides the results: settings, the data's digest, the parameters.
    environment : dict of str to (str, str)
        What they were made on, and the settings that say where: no difference of results.
    recorded_only_a, recorded_only_b : tuple of str
        Facts of the environment that one of them alone recorded.
    imported : tuple of str
        Which of them, ``A`` or ``B``, was imported from files. Its config is what was said of the files.
    shapes : dict of str to (str, str)
        Variables that have other shapes.
    variables_only_a, variables_only_b : tuple of str
        Variables of which one of them alone has any values at the λ that are complete in both: no difference of
        results. An import has what its files had.
    gaps : tuple of str
        Variables of which an import lacks some values that the other store has; the others are compared.
    common, only_a, only_b : int
        λ of runs of the same seed and direction that are complete in both, and in one alone.
    identical : int or None
        λ whose weights, gradient, eigenvectors and other large arrays are the same to the byte; None if one store
        lacks some.
    differences : tuple of Difference
        One of each variable that was compared, in the schema's order.
    """

    config: Values
    environment: Values
    recorded_only_a: tuple[str, ...] = ()
    recorded_only_b: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    shapes: Values = field(default_factory=dict)
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
        """Whether nothing that decides the results differs."""
        return not self.config

    @property
    def same_results(self) -> bool:
        """Whether the same λ are complete in both, and the values that both have are the same, but for times."""
        return not (self.shapes or self.only_a or self.only_b or any(each.differing for each in self.differences))


def compare_configs(a: xr.Dataset, b: xr.Dataset) -> Comparison:
    """Config and environment alone; no array is read.

    Raises
    ------
    CorruptStoreError
        If the attributes of one can't be read.
    """
    first, second = _described(a), _described(b)
    both = first.facts.keys() & second.facts.keys()
    facts_a, facts_b = ({name: fact for name, fact in each.facts.items() if name in both} for each in (first, second))
    return Comparison(
        _differing(first.identity, second.identity),
        _differing(first.elsewhere, second.elsewhere) | _differing(facts_a, facts_b),
        recorded_only_a=tuple(name for name in first.facts if name not in both),
        recorded_only_b=tuple(name for name in second.facts if name not in both),
        imported=tuple(name for name, each in (("A", first), ("B", second)) if each.is_import),
    )


def compare(
    a: xr.Dataset, b: xr.Dataset, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Comparison:
    """All that differs between two stores.

    Parameters
    ----------
    a, b : Dataset
        Whole stores; opened with ``chunked=False`` they are read fastest.
    progress : callable, optional
        Is told (λ done, λ complete in both).

    Raises
    ------
    CorruptStoreError
        If the attributes or arrays of one can't be read, or are not what its digests say.
    """
    made = compare_configs(a, b)
    imports = tuple(side for side, called in enumerate("AB") if called in made.imported)
    readers = Reader(a, "A"), Reader(b, "B")
    identical = 0
    try:
        names, shapes = _names(a, b)
        cells, only_a, only_b = _cells(a, b)
        tallies = {name: _Tally() for name in names}
        has_same_large = _have_the_same_large(a, b)
        for done, cell in enumerate(cells, 1):
            values = readers[0].at(cell.places[0]), readers[1].at(cell.places[1])
            check(readers, cell.places, values)
            is_identical = has_same_large and cell.digests[0] == cell.digests[1]
            identical += is_identical
            for name, tally in tallies.items():
                tally.add(name, cell, values, imports, is_same=is_identical and BY_NAME[name].is_large)
            progress(done, len(cells))
    except (ValueError, RuntimeError, KeyError) as error:
        raise CorruptStoreError(f"arrays can't be read ({error}): hesstore verify names the damaged file") from error
    one_sided = [[name for name in names if tallies[name].is_only_in(side)] for side in (0, 1)]
    in_both = {name: tally for name, tally in tallies.items() if all(tally.there)}
    if any(BY_NAME[name].is_large for name in one_sided[0] + one_sided[1]):
        has_same_large = False
    return replace(
        made,
        shapes=shapes,
        variables_only_a=tuple(one_sided[0]),
        variables_only_b=tuple(one_sided[1]),
        gaps=tuple(name for name, tally in in_both.items() if tally.has_gaps),
        common=len(cells),
        only_a=only_a,
        only_b=only_b,
        identical=identical if has_same_large else None,
        differences=tuple(tally.difference(name) for name, tally in in_both.items()),
    )


# -- what they were made with -----------------------------------------------------------------------------


class _Described(NamedTuple):
    """What decides the results of a store, other settings, facts of its environment, and whether it was imported."""

    identity: dict[str, Any]
    elsewhere: dict[str, Any]
    facts: dict[str, Any]
    is_import: bool


def _described(ds: xr.Dataset) -> _Described:
    try:
        identity, config, made = (json.loads(ds.attrs[name]) for name in ("identity", "config", "environment"))
        layout = [f"{name} {'×'.join(map(str, shape))}" for name, shape in identity["parameters"]]
        groups = facts_by_group(made)
        facts = {f"{group}.{name}": fact for group, named in groups.items() for name, fact in named.items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CorruptStoreError(f"attributes can't be read ({error}): hesstore verify says more") from error
    elsewhere = {f"config.{key}": value for key, value in config.items() if key not in identity}
    is_import = identity.pop("imported", None) is not None  # from which files is no setting
    return _Described({**identity, "parameters": ", ".join(layout)}, elsewhere, facts, is_import)


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Values:
    texts = {key: (_text(a.get(key)), _text(b.get(key))) for key in dict.fromkeys([*a, *b])}
    return {key: pair for key, pair in texts.items() if pair[0] != pair[1]}


def _text(value: object) -> str:
    if value is None or value == "":
        return "–"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


# -- what can be compared ---------------------------------------------------------------------------------


class _Cell(NamedTuple):
    """A λ that is complete in both: its run in A, and where it is and its digest in each."""

    run: int
    l2: float
    places: tuple[tuple[int, int], tuple[int, int]]
    digests: tuple[int, int]


def _cells(a: xr.Dataset, b: xr.Dataset) -> tuple[list[_Cell], int, int]:
    """Those in both, in the order of A, and how many are complete in one alone."""
    there_a, there_b = _complete(a), _complete(b)
    digests_a, digests_b, runs = a["digest"].values, b["digest"].values, a["run"].values
    cells = []
    for key, place in there_a.items():
        if key in there_b:
            digests = int(digests_a[place]), int(digests_b[there_b[key]])
            cells.append(_Cell(int(runs[place[0]]), key[2], (place, there_b[key]), digests))
    return cells, len(there_a) - len(cells), len(there_b) - len(cells)


def _complete(ds: xr.Dataset) -> dict[tuple[int, str, float], tuple[int, int]]:
    """Where each complete λ is, by the seed and direction of its run."""
    status, strengths = ds["status"].values, ds["l2"].values
    return {
        (int(seed), str(direction), float(strengths[index])): (position, int(index))
        for position, (seed, direction) in enumerate(zip(ds["seed"].values, ds["direction"].values, strict=True))
        for index in np.flatnonzero(status[position] == Status.COMPLETE)
    }


def _names(a: xr.Dataset, b: xr.Dataset) -> tuple[list[str], Values]:
    """The variables to compare, and those that have other shapes, but for the number of modes."""
    names: list[str] = []
    shapes: Values = {}
    for name in BY_NAME:
        if name in _NOT_COMPARED or not (name in a or name in b):
            continue
        if name in a and name in b and _shape(a, name) != _shape(b, name):
            shapes[name] = _shape(a, name), _shape(b, name)
        else:
            names.append(name)
    return names, shapes


def _have_the_same_large(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether the digests of both cover the same arrays, and both have them all: a pack may lack some."""
    covered, other = (set(promised_large(identity_of(ds.attrs), Status.COMPLETE)) for ds in (a, b))
    return covered == other and all(name in a and name in b for name in covered)


def _shape(ds: xr.Dataset, name: str) -> str:
    sizes = [f"{length} {dim}" for dim, length in ds[name].sizes.items() if dim not in {"run", "l2", "mode"}]
    return " × ".join(sizes)


# -- values -----------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """The largest distance of a variable so far, and where; and at how many λ each store has any values of it."""

    differing: int = 0
    largest: Distance | None = None
    run: int = 0
    l2: float = 0.0
    there: list[int] = field(default_factory=lambda: [0, 0])
    has_gaps: bool = False

    def add(self, name: str, cell: _Cell, values: tuple[At, At], imports: tuple[int, ...], *, is_same: bool) -> None:
        for side, each in enumerate(values):
            self.there[side] += not is_unset(name, each)
        if any(name not in each for each in values):
            return
        found, has_gaps = (distances.SAME, False) if is_same else distances.of_variable(name, values, imports)
        self.has_gaps |= has_gaps
        self.differing += found.differs
        if self.largest is None or _rank(found) > _rank(self.largest):
            self.largest, self.run, self.l2 = found, cell.run, cell.l2

    def is_only_in(self, side: int) -> bool:
        return self.there[side] > 0 and not self.there[1 - side]

    def difference(self, name: str) -> Difference:
        largest = self.largest or distances.SAME
        return Difference(name, self.differing, largest.absolute, largest.relative, self.run, self.l2)


def _rank(found: Distance) -> float:
    if found.relative is None:
        return float(found.differs)
    return math.inf if math.isnan(found.relative) else found.relative
