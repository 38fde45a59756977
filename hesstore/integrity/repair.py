"""Repair: bring a damaged store into a state from which the next sweep completes it."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zarr

from hesstore.custom_code import calls_back
from hesstore.durable_files import sync_folder
from hesstore.errors import StoreError
from hesstore.integrity.verify import Verifier
from hesstore.store.metadata import mend_metadata, read_metadata, rebuild_spec
from hesstore.store.places.claims import Claim
from hesstore.store.places.durable_store import DurableLocalStore
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.links import refuse_outward_links
from hesstore.store.places.location import local_path
from hesstore.store.schema import coordinate_names
from hesstore.store.template import coordinates
from hesstore.store.writing import PROMISES, SweepStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from hesstore.integrity.findings import Findings, Problem
    from hesstore.store.metadata import Metadata


@dataclass
class Repair:
    """The result of :func:`repair`.

    Attributes
    ----------
    before, after : Findings
        The findings before and after the repair.
    withdrawn : list of (int, int)
        The (run ID, index) of each grid point that was marked as pending.
    removed, rewritten : list of str
        The files that were removed, and the metadata files and coordinates that were written again.
    """

    before: Findings
    after: Findings
    withdrawn: list[tuple[int, int]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)


@calls_back("progress")
def repair(
    location: str | os.PathLike[str],
    *,
    condemned: Iterable[Problem] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Repair:
    """Mark every bad grid point as pending, and remove damaged chunk files and temporary files of killed processes.

    Metadata are written again from the copy that matches the seal, and coordinates from the config.

    Parameters
    ----------
    location : path or ``file://`` URL
        The store.
    condemned : iterable of Problem, optional
        Bad grid points that another check found, which are marked as pending too.
    progress : callable, optional
        Called with (grid points checked, grid points in total), in each of two passes over the store.

    Raises
    ------
    StoreBusyError
        If a live sweep holds one of the runs; nothing is changed.
    StoreError
        If it is not a store, or cannot be written.
    """
    path = local_path(location)
    if not path.is_dir():
        raise StoreError(f"{path}: no such store")
    refuse_outward_links(path)
    FolderPlace(path).check_writable()
    report_progress = progress or (lambda *_: None)
    with ExitStack() as claims:
        metadata = read_metadata(path)
        for run in _runs(path, metadata):
            claims.enter_context(Claim(path / "status", run))
        # Not lenient, because the claims that are taken here replace those that a killed driver left.
        before = Verifier(path, metadata, lenient=False).run(report_progress)
        before.problems += condemned
        done = Repair(before, before)
        _remove_leftovers(done)
        if not before.ok:
            done.rewritten += mend_metadata(path, metadata)
            metadata = read_metadata(path)
            if not metadata.damage and metadata.documents:
                _repair_values(path, metadata, done)
        if not before.ok or before.leftovers:
            done.after = Verifier(path, metadata, lenient=False).run(report_progress)
    return done


def _runs(path: Path, metadata: Metadata) -> list[int]:
    """Return the IDs of the runs; if the metadata are damaged, of those that were ever claimed."""
    (path / "status").mkdir(exist_ok=True)  # for the claims; this folder may be the damage
    try:
        return [run.id for run in rebuild_spec(metadata).runs]
    except StoreError:
        names = (file.name.removeprefix(".claim-") for file in (path / "status").glob(".claim-*"))
        return sorted(int(name) for name in names if name.isdecimal())


def _remove_leftovers(done: Repair) -> None:
    for leftover in done.before.leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
        done.removed.append(str(leftover))


def _repair_values(path: Path, metadata: Metadata, done: Repair) -> None:
    """Write coordinates again, withdraw bad grid points, and remove damaged chunk files; the metadata are intact."""
    checks = Verifier(path, metadata)
    try:
        spec, damaged = checks.spec, checks.damaged_coordinates()
    except StoreError:
        return
    if damaged:
        group = zarr.open_group(DurableLocalStore(path), mode="r+", zarr_format=3)
        for name in damaged:
            group[name][...] = coordinates(spec)[name][1]  # type: ignore[index]
        done.rewritten += [f"{name}/c/0" for name in damaged]
    labels = {f"{name}/c/0" for name in coordinate_names(spec.identity)}
    chunks = [file for file in done.before.damaged_files if "/c/" in file and file not in labels]
    store = SweepStore.open(path)
    bad = sorted(done.before.bad)
    for run in store.runs:  # first the promises are withdrawn, then the files are removed
        indices = [index for run_id, index in bad if run_id == run.id]
        if indices or any(file.startswith(tuple(f"{name}/c/{run.id}/" for name in PROMISES)) for file in chunks):
            store.withdraw(run, indices)
    done.withdrawn += bad
    for file in chunks:
        if file.split("/")[0] not in PROMISES and (path / file).exists():
            (path / file).unlink()
            sync_folder((path / file).parent)
            done.removed.append(file)
