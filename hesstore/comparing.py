"""Two stores held against each other: config, environment, and the results at each λ that is complete in both.

λ by λ, so that no more than one of each is in memory; where their digests are the same, large arrays are the same to
the byte, and are not read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hesstore import distance
from hesstore.errors import CorruptStoreError
from hesstore.store.schema import BY_NAME, VARIABLES, Status
from hesstore.store.sessions import TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr
    from numpy.typing import NDArray

    from hesstore.distance import Distance

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
    missing : dict of str to (str, str)
        Variables that one of them lacks, or that have other shapes.
    common, only_a, only_b : int
        λ of runs of the same seed and direction that are complete in both, and in one alone.
    identical : int
        λ whose weights, gradient, eigenvectors and other large arrays are the same to the byte, by their digests.
    differences : tuple of Difference
        One of each variable that was compared, in the schema's order.
    """

    config: Values
    environment: Values
    missing: Values = field(default_factory=dict)
    common: int = 0
    only_a: int = 0
    only_b: int = 0
    identical: int = 0
    differences: tuple[Difference, ...] = ()

    @property
    def same_config(self) -> bool:
        """Whether nothing that decides the results differs."""
        return not self.config

    @property
    def same_results(self) -> bool:
        """Whether the same λ are complete in both, with the same values, but for times."""
        return not (self.missing or self.only_a or self.only_b or any(each.differing for each in self.differences))


def compare_configs(a: xr.Dataset, b: xr.Dataset) -> Comparison:
    """Config and environment alone; no array is read.

    Raises
    ------
    CorruptStoreError
        If the attributes of one can't be read.
    """
    (identity_a, elsewhere_a), (identity_b, elsewhere_b) = _described(a), _described(b)
    return Comparison(_differing(identity_a, identity_b), _differing(elsewhere_a, elsewhere_b))


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
        If the attributes or arrays of one can't be read.
    """
    made = compare_configs(a, b)
    try:
        names, missing = _names(a, b)
        cells, only_a, only_b = _cells(a, b)
        covers_the_same = a.attrs["schema_version"] == b.attrs["schema_version"]
        identical = [covers_the_same and cell.digests[0] == cell.digests[1] for cell in cells]
        tallies = {name: _Tally() for name in names}
        readers = _Reader(a, names), _Reader(b, names)
        for done, (cell, is_identical) in enumerate(zip(cells, identical, strict=True), 1):
            for name, tally in tallies.items():
                is_same = is_identical and BY_NAME[name].is_large
                tally.add(cell, distance.SAME if is_same else _distance(name, readers, cell))
            progress(done, len(cells))
    except (ValueError, RuntimeError, KeyError) as error:
        raise CorruptStoreError(f"arrays can't be read ({error}): hesstore verify names the damaged file") from error
    differences = tuple(tally.difference(name) for name, tally in tallies.items() if cells)
    return replace(
        made,
        missing=missing,
        common=len(cells),
        only_a=only_a,
        only_b=only_b,
        identical=sum(identical),
        differences=differences,
    )


# -- what they were made with -----------------------------------------------------------------------------


def _described(ds: xr.Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """What decides the results of a store, and what else is told of its making."""
    try:
        identity, config, made = (json.loads(ds.attrs[name]) for name in ("identity", "config", "environment"))
        layout = [f"{name} {'×'.join(map(str, shape))}" for name, shape in identity["parameters"]]
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptStoreError(f"attributes can't be read ({error}): hesstore verify says more") from error
    groups = {name: facts for name, facts in made.items() if isinstance(facts, dict)}
    groups["environment"] = {name: fact for name, fact in made.items() if name not in {*groups, TIME}}  # of old stores
    facts = {f"{group}.{name}": fact for group, named in groups.items() for name, fact in named.items()}
    elsewhere = {f"config.{key}": value for key, value in config.items() if key not in identity}
    return {**identity, "parameters": ", ".join(layout)}, {**elsewhere, **facts}


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
    """The variables that both have alike, but for the number of modes, and the others."""
    names: list[str] = []
    missing: Values = {}
    for name in BY_NAME:
        shapes = _shape(a, name), _shape(b, name)
        if name in _NOT_COMPARED or shapes == ("–", "–"):
            continue
        if shapes[0] == shapes[1]:
            names.append(name)
        else:
            missing[name] = shapes
    return names, missing


def _shape(ds: xr.Dataset, name: str) -> str:
    if name not in ds:
        return "–"
    sizes = [f"{length} {dim}" for dim, length in ds[name].sizes.items() if dim not in {"run", "l2", "mode"}]
    return " × ".join(sizes)


# -- values -----------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """The values of a store at one λ after the other; files that have all λ of a run are read once a run."""

    ds: xr.Dataset
    names: list[str]
    run: int = -1
    rows: dict[str, NDArray[Any]] = field(default_factory=dict)

    def at(self, name: str, run: int, index: int) -> NDArray[Any]:
        """In the order of the schema's dimensions."""
        if BY_NAME[name].is_large:
            values: NDArray[Any] = self.ds[name].isel(run=run, l2=index).transpose(*BY_NAME[name].dims[2:]).values
            return values
        if run != self.run:
            small = [each for each in self.names if not BY_NAME[each].is_large]
            part = self.ds[small].isel(run=run)
            self.run, self.rows = run, {each: part[each].transpose(*BY_NAME[each].dims[1:]).values for each in small}
        row: NDArray[Any] = np.asarray(self.rows[name][index])
        return row


def _distance(name: str, readers: tuple[_Reader, _Reader], cell: _Cell) -> Distance:
    variable = BY_NAME[name]
    a, b = (reader.at(name, *place) for reader, place in zip(readers, cell.places, strict=True))
    if "mode" in variable.dims:
        k = min(len(a), len(b))
        a, b = a[:k], b[:k]
    if name == "eigenvectors":
        eigenvalues = (reader.at("eigenvalues", *place) for reader, place in zip(readers, cell.places, strict=True))
        return distance.of_vectors(a, b, *(values[: len(a)] for values in eigenvalues))
    return distance.of_numbers(a, b) if variable.dtype.startswith("f") else distance.of_labels(a, b)


@dataclass
class _Tally:
    """The largest distance of a variable so far, and where."""

    differing: int = 0
    largest: Distance | None = None
    run: int = 0
    l2: float = 0.0

    def add(self, cell: _Cell, found: Distance) -> None:
        self.differing += found.differs
        if self.largest is None or _rank(found) > _rank(self.largest):
            self.largest, self.run, self.l2 = found, cell.run, cell.l2

    def difference(self, name: str) -> Difference:
        largest = self.largest or distance.SAME
        return Difference(name, self.differing, largest.absolute, largest.relative, self.run, self.l2)


def _rank(found: Distance) -> float:
    if found.relative is None:
        return float(found.differs)
    return math.inf if math.isnan(found.relative) else found.relative
