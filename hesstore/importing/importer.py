"""``hesstore.import_files``: make a store from files, then compute what they lack if that is asked for.

The store appears only when all files have been read, so an error in any of them leaves nothing behind.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hesstore.config.l2_grid import AXIS
from hesstore.config.networks import named_code
from hesstore.custom_code import calls_back
from hesstore.errors import ConfigMismatchError, ImportFilesError, StoreError
from hesstore.exporting.original_csv import REG_LOSSES
from hesstore.importing.differences import Difference, compare_with_files
from hesstore.importing.file_index import FileIndex
from hesstore.importing.import_plan import ImportPlan
from hesstore.importing.point_values import read_flat_weights, read_values
from hesstore.importing.sources import find_sources
from hesstore.problem.state_dicts import buffer_entry
from hesstore.store import identity
from hesstore.store.import_origin import origin_of
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import locate
from hesstore.store.reading import open_store
from hesstore.store.root_group import open_group
from hesstore.store.schema import Status
from hesstore.store.template import template
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from hesstore.engine.events import SweepEvent
    from hesstore.importing.account import Account
    from hesstore.importing.recompute import Recomputer
    from hesstore.importing.sources import Sources
    from hesstore.store.schema import Point, Run, StoreSpec

LEAST_SHARE = 0.6
"""A lower limit of the size of compressed arrays, relative to their uncompressed size."""


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import.

    Attributes
    ----------
    files : int
        Number of files that were read.
    points : int
        Number of grid points that have at least one file.
    complete, pending, failed : int
        Number of these grid points that are complete, that are still to be computed, and whose computation failed.
    ignored : tuple of Path
        Files that were not read: those of no known kind, and tables that another one of the same run replaces.
    account : Account
        The run, λ and kind of each file, and how its values were converted.
    differences : tuple of Difference
        How much the numbers in the files differ from those computed from the weights.
    """

    files: int
    points: int
    complete: int
    pending: int
    failed: int
    ignored: tuple[Path, ...]
    account: Account
    differences: tuple[Difference, ...]


@calls_back("progress", "observer", "stop")
def import_files(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    recompute: bool = False,
    reg_loss: str | None = None,
    buffers: Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
    observer: Callable[[SweepEvent], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> ImportSummary:
    """Make a store from files that hesstore or the original scripts wrote.

    For checkpoints with any names, see :func:`hesstore.analyse`.

    Values are stored unchanged, in the order and with the signs of the store; values that no file has are NaN. A grid
    point with at least one file is complete.

    Parameters
    ----------
    sources : path or sequence of paths
        Folders with ``Model-ID….csv``, ``Hessian-eigenvalues-ID-L2.csv`` and so on, or such files.
    store : path
        Where to create the store. If the same import was interrupted there, it continues.
    settings : mapping, optional
        The settings that the files were made with, by the names of :class:`hesstore.SweepConfig`. They are needed
        where no manifest gives them.
    recompute : bool
        Whether to compute metrics, gradient, spectrum and class geometry from the weights at every grid point that has
        weights, and to store these results in place of the numbers in the files.
    reg_loss : str, optional
        What ``Train_Reg_Loss`` adds to ``Train_Loss`` in all tables: ``full`` for λ‖θ‖², or ``objective`` for the
        penalty of the objective. By default the manifest or the norms in the files show it; if they do not, it is
        λ‖θ‖², as in the published tables.
    buffers : sequence of str, optional
        The names of the tensors in the weight files that are buffers, hence no parameters. By default, these are the
        tensors without a gradient if there are files of gradients, and with ``recompute`` the buffers of the network.
    dry_run : bool
        Whether to read and check all files, but create no store.
    progress : callable, optional
        Called with (bytes read, bytes in total).
    observer, stop : callable, optional
        Used while results are computed, as in :func:`hesstore.run_sweep`.

    Raises
    ------
    ImportFilesError
        If a file is damaged, malformed or does not fit the others; the message names the file and the line. No store
        is created in this case.
    HesstoreError
        If the store cannot be created, or if the settings cannot be carried out.
    """
    settings = dict(settings or {})
    if reg_loss not in {None, *REG_LOSSES}:
        raise ImportFilesError(f"reg_loss: {reg_loss!r} is not one of {', '.join(REG_LOSSES)}")
    if "l2" in settings:
        raise ImportFilesError("l2: the names of the files give λ: leave it out")
    found = find_sources([sources] if isinstance(sources, (str, os.PathLike)) else list(sources))
    index = _index(found, None if buffers is None else tuple(buffers))
    plan = ImportPlan(index, settings, recompute, reg_loss)
    if not dry_run:
        place = _check_place(store, plan)
    with ExitStack() as device_settings:
        recomputer = _prepare_recomputer(plan, device_settings) if recompute else None
        if recomputer:
            plan = recomputer.with_network(plan)
        spec = recomputer.spec(plan) if recomputer else plan.spec(_known_identity(plan), {})
        if dry_run:
            for point in plan.points:
                read_values(plan, point)
            return _summary(plan, [plan.status(point) for point in plan.points], ())
        if place.is_new():
            place.check_space(int(LEAST_SHARE * spec.large_bytes) * len(plan.points))
            with place.creating() as new:
                _fill(new, spec, plan, recomputer, progress)
        else:
            _check_same_settings(place, spec)
            open_store(place, chunked=False, check=True)
        writer = SweepStore.open(place)
        if recomputer:
            recomputer.compute(writer, observer, stop)
    statuses = [Status(int(writer.status(point.run)[point.index])) for point in plan.points]
    return _summary(plan, statuses, compare_with_files(plan, writer) if recompute else ())


def _index(sources: Sources, buffers: tuple[str, ...] | None) -> FileIndex:
    """Return the files by run and λ, unless their manifest says that they are those of a collection of checkpoints."""
    axis = str((sources.header or {}).get("identity", {}).get("axis", AXIS))
    if axis != AXIS:
        raise ImportFilesError(
            f"the manifest says that the files lie along {axis}, not along λ: analyse their weights with "
            "`hesstore analyse`"
        )
    return FileIndex(sources, buffers)


def _check_place(store: str | os.PathLike[str], plan: ImportPlan) -> FolderPlace:
    """The folder of the store, which must be new or hold an import of the same files."""
    place = locate(store)
    if not isinstance(place, FolderPlace):
        raise StoreError(f"{place}: cannot hold an import, which needs a local folder: give a path")
    if place.is_new():
        place.check_creatable()
    else:
        _check_same_files(place, plan)
    return place


def _check_same_files(place: FolderPlace, plan: ImportPlan) -> None:
    """Raise :class:`StoreError` unless the existing store is an import of these files."""
    origin = origin_of(open_group(place).attrs.asdict())
    if not origin.is_import:
        raise StoreError(f"{place}: this store was made by a sweep: give another path")
    if origin.source != plan.index.sources.digest():
        raise StoreError(f"{place}: this store was imported from other files: give another path")
    if origin.recompute != plan.recompute:
        how = "with" if origin.recompute else "without"
        raise StoreError(f"{place}: this store was imported {how} --recompute: give another path")


def _check_same_settings(place: FolderPlace, spec: StoreSpec) -> None:
    """Raise :class:`ConfigMismatchError` unless the existing store has the same settings, data and network."""
    stored = json.loads(str(open_group(place).attrs["identity"]))
    found = identity.differences(stored, spec.identity, sorted(stored.keys() | spec.identity.keys()))
    if found:
        raise ConfigMismatchError(
            f"{place}: this store was imported with other settings: {identity.describe(found)}: "
            "give the same settings, or another path",
            found,
        )


def _known_identity(plan: ImportPlan) -> dict[str, Any]:
    header = plan.index.sources.header or {}
    buffers = [buffer_entry(name, values, with_values=True) for name, values in plan.statistics.items()]
    buffers += [buffer_entry(name, values, with_values=False) for name, values in plan.buffers.items()]
    return {
        "data_digest": str(header.get("identity", {}).get("data_digest", "")),
        **({"buffers": buffers} if buffers else {}),
    }


def _prepare_recomputer(plan: ImportPlan, device_settings: ExitStack) -> Recomputer:
    """Prepare to compute results; ``device_settings`` restores the settings of this process afterwards."""
    for name, code in named_code(plan.config.dataset, plan.config.model).items():
        if name not in plan.settings:
            raise ImportFilesError(
                f"the manifest of the files names code, {code!r}, which --recompute would run: pass --{name} {code} "
                "if you know where the files come from"
            )
    from hesstore.engine.devices import computing_on, resolve_device  # noqa: PLC0415 - needs torch
    from hesstore.importing.recompute import Recomputer  # noqa: PLC0415 - needs torch and the data

    device_settings.enter_context(computing_on(resolve_device(plan.config.device), plan.config.threads))
    return Recomputer.prepare(plan)


def _fill(
    place: FolderPlace,
    spec: StoreSpec,
    plan: ImportPlan,
    recomputer: Recomputer | None,
    progress: Callable[[int, int], None],
) -> None:
    """Make the store in an empty folder and record all grid points that have files."""
    place.fill(template(spec))
    store = SweepStore.open(place)
    done, total = 0, plan.index.sources.bytes

    def results(run: Run) -> Iterator[tuple[int, Status, dict[str, Any]]]:
        nonlocal done
        for point in (point for point in plan.points if point.run == run):
            yield point.index, plan.status(point), _values(plan, point, recomputer)
            done += _bytes(plan, point)
            progress(done, max(done, total))

    for run in store.runs:
        with store.claim(run):
            store.record_run(run, results(run))
    progress(total, total)


def _values(plan: ImportPlan, point: Point, recomputer: Recomputer | None) -> dict[str, Any]:
    """The values of a grid point from its files, or, with a recomputer, those of its fit from the weights."""
    values = read_values(plan, point)
    weights = plan.path("weights", point)
    if recomputer is None or weights is None:
        return values
    distance = {"distance": values["distance"]} if "distance" in values else {}
    theta = read_flat_weights(weights, plan)
    return {**distance, **recomputer.measure(theta, point)}


def _bytes(plan: ImportPlan, point: Point) -> int:
    paths = (plan.path(kind, point) for kind in plan.index.paths)
    return sum(path.stat().st_size for path in paths if path is not None)


def _summary(plan: ImportPlan, statuses: Sequence[Status], differences: tuple[Difference, ...]) -> ImportSummary:
    return ImportSummary(
        files=len(plan.index.sources.all),
        points=len(plan.points),
        complete=statuses.count(Status.COMPLETE),
        pending=statuses.count(Status.FITTED) + statuses.count(Status.PENDING),
        failed=statuses.count(Status.FAILED),
        ignored=(*plan.index.sources.ignored, *plan.index.sources.replaced.values()),
        account=plan.account,
        differences=differences,
    )
