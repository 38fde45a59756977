"""Making a store larger: more λ, more runs, or other spectra of the same weights.

The larger store is built beside the old one, from hard links to its files, and then takes its place: a kill leaves the
old one or the new one. Files of a store are replaced, never changed, so a link is as good as a copy.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.errors import ConfigMismatchError, StoreError
from hesstore.files import sync_folder
from hesstore.store.digest import digest
from hesstore.store.environments import environments, record_environment
from hesstore.store.group import open_group
from hesstore.store.places.durable_store import DurableLocalStore
from hesstore.store.places.folder import leftover_folders
from hesstore.store.places.location import local_path
from hesstore.store.schema import AT_FIT, GRID_SETTINGS, SPECTRUM_SETTINGS, VARIABLES, Run, Status, StoreSpec
from hesstore.store.template import write_template
from hesstore.store.writing import SweepStore, check_swept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


def check_growing(path: Path, wanted: Mapping[str, Any]) -> None:
    """Raise unless the store can grow into one with the identity ``wanted``, of which parts may still be unknown.

    Raises
    ------
    ConfigMismatchError
        If another setting differs, or k is lower.
    StoreError
        If it is not a store.
    """
    attributes = open_group(path).attrs.asdict()
    check_swept(path, attributes)
    stored: dict[str, Any] = json.loads(str(attributes["identity"]))
    others = [key for key in wanted if stored.get(key) != wanted[key] and key not in GRID_SETTINGS | SPECTRUM_SETTINGS]
    if others:
        differences = {key: (str(stored.get(key)), str(wanted[key])) for key in others}
        described = "; ".join(f"{key} is {old} there, {new} here" for key, (old, new) in differences.items())
        raise ConfigMismatchError(f"{path}: can't grow into a config with other training: {described}", differences)
    if wanted["k"] < stored["k"]:
        raise ConfigMismatchError(
            f"{path}: has k = {stored['k']}, and k = {wanted['k']} would make it smaller: give at least {stored['k']}",
            {"k": (str(stored["k"]), str(wanted["k"]))},
        )


def grow_store(path: Path, spec: StoreSpec) -> SweepStore:
    """The store at ``path``, with all λ and runs of ``spec``; what is complete stays so, unless spectra are to change.

    Runs that it has keep their IDs; new ones follow. Where a setting of the spectrum differs, complete λ become fitted.

    Raises
    ------
    ConfigMismatchError
        If the store has λ or runs that ``spec`` lacks, or see :func:`check_growing`.
    StoreBusyError
        If a run of it is being computed.
    """
    check_growing(path, spec.identity)
    old = SweepStore(path)
    if old.group.attrs["identity"] == json.dumps(spec.identity):
        return old
    _check_same_network(old, spec)
    reanalyse = _changes_spectra(old, spec)
    with ExitStack() as claims:
        for run in old.runs:
            claims.enter_context(old.claim(run))
        _replace(path, old, _with_runs_of(old, spec), reanalyse=reanalyse)
    return SweepStore(path)


def statuses_after_growth(path: Path, spec: StoreSpec) -> dict[Run, NDArray[np.int8]]:
    """(L,) the status of each λ of each run of the store that :func:`grow_store` would make; nothing is changed.

    Raises
    ------
    ConfigMismatchError
        As :func:`grow_store`.
    """
    check_growing(path, spec.identity)
    old = SweepStore(path)
    _check_same_network(old, spec)
    wanted, places = _with_runs_of(old, spec), _places(old, spec)
    reanalyse = _changes_spectra(old, spec)
    statuses = {}
    for run in wanted.runs:
        statuses[run] = np.full(len(spec.l2), Status.PENDING, np.int8)
        if run in old.runs:
            statuses[run][places] = _status(old, run, reanalyse=reanalyse)
    return statuses


def _check_same_network(old: SweepStore, spec: StoreSpec) -> None:
    """A store of a network without buffers has no such key."""
    stored = json.loads(old.group.attrs["identity"])  # type: ignore[arg-type]
    there, wanted = stored.get("buffers"), spec.identity.get("buffers")
    if there != wanted:
        raise ConfigMismatchError(
            f"{old.place}: can't grow into a config with another network: its buffers differ",
            {"buffers": (str(there), str(wanted))},
        )


def _changes_spectra(old: SweepStore, spec: StoreSpec) -> bool:
    stored = json.loads(old.group.attrs["identity"])  # type: ignore[arg-type]
    return any(stored.get(key) != spec.identity.get(key) for key in SPECTRUM_SETTINGS)


def _status(old: SweepStore, run: Run, *, reanalyse: bool) -> NDArray[np.int8]:
    """The status of each λ of a run, whose spectra may have to be computed again."""
    status = old.status(run)
    return np.where(reanalyse & (status == Status.COMPLETE), Status.FITTED, status).astype(status.dtype)


def _replace(path: Path, old: SweepStore, spec: StoreSpec, *, reanalyse: bool) -> None:
    places = _places(old, spec)
    template = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent))
    try:
        template.chmod(path.stat().st_mode & 0o777)
        write_template(DurableLocalStore(template), spec)
        new = SweepStore(template)
        names = {variable.name for variable in VARIABLES if variable.name in AT_FIT or not reanalyse}
        for run in old.runs:
            _copy_entries(old, new, run, places, names, reanalyse=reanalyse)
            if reanalyse or "entries_digest" not in old.group:
                new.seal_entries(run)
        _link_arrays(old, new, places, names)
        for environment in environments(old.place, old.group.attrs):
            record_environment(new, environment)
        _exchange(path, template)
    finally:
        shutil.rmtree(template, ignore_errors=True)


def recover_store(path: Path) -> None:
    """Put a store back that a kill in the middle of :func:`grow` left under its temporary name."""
    aside = leftover_folders(path, "old")
    if aside and not path.exists():
        aside[-1].rename(path)
        sync_folder(path.absolute().parent)
    for folder in aside:
        shutil.rmtree(folder, ignore_errors=True)


def _with_runs_of(old: SweepStore, spec: StoreSpec) -> StoreSpec:
    wanted = [(run.seed, run.direction) for run in spec.runs]
    there = [(run.seed, run.direction) for run in old.runs]
    missing = [f"seed {seed}, {direction}" for seed, direction in there if (seed, direction) not in wanted]
    if missing:
        raise ConfigMismatchError(
            f"{old.path}: has a run that the config lacks ({missing[0]}): growing keeps what is there",
            {"seeds": (str(there), str(wanted))},
        )
    runs = there + [run for run in wanted if run not in there]
    return replace(spec, runs=tuple(Run(index, *run) for index, run in enumerate(runs)))


def _places(old: SweepStore, spec: StoreSpec) -> list[int]:
    """Where each λ of the old store lies on the new grid."""
    position = {value: index for index, value in enumerate(spec.l2)}
    missing = [float(value) for value in old.l2 if float(value) not in position]
    if missing:
        raise ConfigMismatchError(
            f"{old.path}: has λ = {missing[0]:.10g}, which the config lacks: growing keeps what is there",
            {"l2": (str(old.l2.tolist()), str(list(spec.l2)))},
        )
    return [position[float(value)] for value in old.l2]


def _copy_entries(
    old: SweepStore, new: SweepStore, run: Run, places: list[int], names: set[str], *, reanalyse: bool
) -> None:
    for variable in VARIABLES:
        if variable.is_large or variable.name not in names | {"status", "digest"} or variable.name not in old.group:
            continue
        values = old.entries(variable.name, run)
        if variable.name == "status":
            values = _status(old, run, reanalyse=reanalyse)
        if variable.name == "digest" and reanalyse:
            values = np.array([_digest_of_weights(old, run, index) for index in range(len(old.l2))], dtype=values.dtype)
        grown = new.entries(variable.name, run)
        grown[places] = values
        new.put_all(variable.name, run, grown)


def _digest_of_weights(old: SweepStore, run: Run, index: int) -> int:
    if old.status(run)[index] not in {Status.FITTED, Status.COMPLETE}:
        return 0
    return digest(run, float(old.l2[index]), {"weights": old.read("weights", run, index)})


def _link_arrays(old: SweepStore, new: SweepStore, places: list[int], names: set[str]) -> None:
    folders: set[Path] = set()
    large = (variable.name for variable in VARIABLES if variable.is_large and variable.name in names)
    for name in sorted(name for name in large if name in old.group):
        for run in old.runs:
            for index, place in enumerate(places):
                source, target = old.file_of(name, run, index), new.file_of(name, run, place)
                if source.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(source, target)
                    folders |= {target.parent, *_between(local_path(new.path), target.parent)}
    for folder in folders:
        sync_folder(folder)


def _between(top: Path, folder: Path) -> Iterator[Path]:
    return (parent for parent in folder.parents if parent.is_relative_to(top))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP}:
            raise
        shutil.copyfile(source, target)  # a file system without links
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _exchange(path: Path, template: Path) -> None:
    """Two renames: between them :func:`recover_store` finds the old store."""
    aside = template.with_suffix(".old")
    path.rename(aside)
    try:
        template.rename(path)
    except OSError as error:
        aside.rename(path)
        raise StoreError(f"{path}: could not be replaced ({error.strerror}): it is as it was") from error
    sync_folder(path.absolute().parent)
    shutil.rmtree(aside, ignore_errors=True)
