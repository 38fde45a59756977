"""Growing a store: more grid points, more runs, or new analyses of the same weights.

The larger store is made in an empty place next to the old one, takes over its large files, and then replaces it. If the
process is killed, either the old one or the new one is left; see :meth:`hesstore.store.places.place.Place.replacing`.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config.l2_grid import value_text
from hesstore.errors import ConfigMismatchError
from hesstore.store.chunk_files import chunk_file
from hesstore.store.digest import digest
from hesstore.store.environments import environments, record_environment
from hesstore.store.identity import describe, differences
from hesstore.store.schema import (
    AT_FIT,
    GRID_SETTINGS,
    REFERENCES,
    SPECTRUM_SETTINGS,
    Run,
    Status,
    StoreSpec,
    promised_large,
    variables,
)
from hesstore.store.template import template
from hesstore.store.writing import PROMISES, SweepStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hesstore.store.places.place import Place
    from hesstore.store.variable import Variable


def check_growing(store: SweepStore, wanted: Mapping[str, Any]) -> None:
    """Raise an error unless ``store`` can grow into one with the identity ``wanted``, which may be incomplete.

    Raises
    ------
    ConfigMismatchError
        If another setting differs, or ``k`` or ``lowest`` is smaller.
    StoreError
        If the store was imported, or cannot be written.
    """
    store.require_same_kind(wanted)
    store.place.check_writable()
    path, stored = store.path, store.identity
    others = differences(stored, wanted, [key for key in wanted if key not in GRID_SETTINGS | SPECTRUM_SETTINGS])
    if others:
        raise ConfigMismatchError(
            f"{path}: cannot grow into a config with other fits: {describe(others)}: give another path", others
        )
    for name in ("k", "lowest") if stored["k"] else ():
        before, after = stored.get(name, 0), wanted.get(name, 0)
        if after < before:
            raise ConfigMismatchError(
                f"{path}: has {name} = {before}, which {name} = {after} would reduce: give at least {before}",
                {name: (str(before), str(after))},
            )


def grow_store(old: SweepStore, spec: StoreSpec) -> SweepStore:
    """Extend a store to all grid points and runs of ``spec``, and open it again.

    Its runs keep their IDs, and new ones follow. Complete grid points stay complete, unless a setting of the analysis
    differs: then they become fitted.

    Raises
    ------
    ConfigMismatchError
        If the store has grid points or runs that ``spec`` does not have, or as :func:`check_growing`.
    StoreBusyError
        If a run of it is being computed.
    """
    check_growing(old, spec.identity)
    if old.identity == json.loads(json.dumps(spec.identity)):
        return old
    _check_same_fits(old, spec)
    with ExitStack() as claims:
        for run in old.runs:
            claims.enter_context(old.claim(run))
        with old.place.replacing() as place:
            _fill(place, old, _with_runs_of(old, spec), reanalyse=_changes_spectra(old, spec))
    return SweepStore.open(old.place)


def statuses_after_growth(old: SweepStore, spec: StoreSpec) -> dict[Run, NDArray[np.int8]]:
    """Return the status of each grid point of each run, (L,), that :func:`grow_store` would leave.

    Raises
    ------
    ConfigMismatchError
        As :func:`grow_store`.
    """
    check_growing(old, spec.identity)
    _check_same_fits(old, spec)
    wanted, places = _with_runs_of(old, spec), _places(old, spec)
    reanalyse = _changes_spectra(old, spec)
    statuses = {}
    for run in wanted.runs:
        statuses[run] = np.full(len(spec.grid), Status.PENDING, np.int8)
        if run in old.runs:
            statuses[run][places] = _status(old, run, reanalyse=reanalyse)
    return statuses


def _check_same_fits(old: SweepStore, spec: StoreSpec) -> None:
    """Compare buffers and references, which are part of an identity only if the network or the config has some."""
    found = differences(old.identity, spec.identity, ["buffers", "statistics", *REFERENCES])
    if found.keys() & {"buffers", "statistics"}:
        raise ConfigMismatchError(
            f"{old.place}: cannot grow into a config with another network: its buffers differ: give another path", found
        )
    if found:
        raise ConfigMismatchError(
            f"{old.place}: cannot grow into a config with other fits: {describe(found)}: give another path", found
        )


def _changes_spectra(old: SweepStore, spec: StoreSpec) -> bool:
    return spec.k > 0 and bool(differences(old.identity, spec.identity, SPECTRUM_SETTINGS))


def _status(old: SweepStore, run: Run, *, reanalyse: bool) -> NDArray[np.int8]:
    """Return the status of each grid point of a run, which may have to be analysed again."""
    status = old.status(run)
    return np.where(reanalyse & (status == Status.COMPLETE), Status.FITTED, status).astype(status.dtype)


def _fill(place: Place, old: SweepStore, spec: StoreSpec, *, reanalyse: bool) -> None:
    """Make the larger store in an empty place."""
    places = _places(old, spec)
    place.fill(template(spec))
    new = SweepStore.open(place)
    kept = [variable for variable in variables(old.identity) if variable.name in AT_FIT or not reanalyse]
    for run in old.runs:
        _copy_entries(old, new, run, places, kept)
        if reanalyse:
            _withdraw_analyses(old, new, run, places)
    large = [variable for variable in kept if variable.is_large]
    place.adopt(old.place, _new_names(old, places, large))
    for environment in environments(old.place, old.group.attrs):
        record_environment(new, environment)


def _with_runs_of(old: SweepStore, spec: StoreSpec) -> StoreSpec:
    wanted = [(run.seed, run.direction) for run in spec.runs]
    there = [(run.seed, run.direction) for run in old.runs]
    missing = [f"seed {seed}, {direction}" for seed, direction in there if (seed, direction) not in wanted]
    if missing:
        raise ConfigMismatchError(
            f"{old.path}: has a run that the config does not have ({missing[0]}): growing keeps all runs; add it",
            {"seeds": (str(there), str(wanted))},
        )
    runs = there + [run for run in wanted if run not in there]
    return replace(spec, runs=tuple(Run(index, *run) for index, run in enumerate(runs)))


def _places(old: SweepStore, spec: StoreSpec) -> list[int]:
    """Return the index on the new grid of each grid point of the old store."""
    position = {value: index for index, value in enumerate(spec.grid)}
    missing = [float(value) for value in old.grid if float(value) not in position]
    if missing:
        raise ConfigMismatchError(
            f"{old.path}: has {value_text(old.axis, missing[0])}, which the config does not have: growing keeps "
            "all grid points; add it",
            {old.axis: (str(old.grid.tolist()), str(list(spec.grid)))},
        )
    return [position[float(value)] for value in old.grid]


def _copy_entries(old: SweepStore, new: SweepStore, run: Run, places: list[int], kept: list[Variable]) -> None:
    for name in (*(variable.name for variable in kept if not variable.is_large), *PROMISES):
        grown = new.entries(name, run)
        grown[places] = old.entries(name, run)
        new.put_all(name, run, grown)


def _withdraw_analyses(old: SweepStore, new: SweepStore, run: Run, places: list[int]) -> None:
    """Set the status and the digests of a run to those of its fits."""
    status, digests = new.status(run), new.entries("digest", run)
    status[places] = _status(old, run, reanalyse=True)
    digests[places] = [_digest_of_fit(old, run, index) for index in range(len(old.grid))]
    new.put_all("status", run, status)
    new.put_all("digest", run, digests)
    new.seal_entries(run)


def _digest_of_fit(old: SweepStore, run: Run, index: int) -> int:
    if old.status(run)[index] not in {Status.FITTED, Status.COMPLETE}:
        return 0
    names = promised_large(old.identity, Status.FITTED)
    return digest(run, float(old.grid[index]), {name: old.read(name, run, index) for name in names})


def _new_names(old: SweepStore, places: list[int], large: list[Variable]) -> dict[str, str]:
    """Return the name in the larger store of each file of some large variables, by its name in the old one."""
    names = {
        chunk_file(variable, run.id, index): chunk_file(variable, run.id, place)
        for variable in large
        for run in old.runs
        for index, place in enumerate(places)
    }
    for name in old.place.missing(names):
        del names[name]
    return names
