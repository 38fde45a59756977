"""``hesstore.import_files``: from files to a store, whole or not at all; then, if asked, computing what they lack."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zarr.storage import LocalStore

from hesstore.errors import ConfigMismatchError, ImportFilesError, StoreError
from hesstore.importing.differences import Difference, differences
from hesstore.importing.import_plan import Plan
from hesstore.importing.sources import find
from hesstore.importing.transfer import nothing, status_of, values_of, weights_of
from hesstore.store.group import open_group
from hesstore.store.origin import origin_of
from hesstore.store.places.folder import FolderPlace
from hesstore.store.places.location import locate
from hesstore.store.schema import Status
from hesstore.store.template import write_template
from hesstore.store.writing import SweepStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from zarr.abc.store import Store

    from hesstore.engine.driver import SweepEvent
    from hesstore.importing.import_plan import Cell
    from hesstore.importing.recompute import Recomputer
    from hesstore.store.schema import StoreSpec

LEAST_SHARE = 0.6
"""What compression leaves of the arrays at the least."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Attributes
    ----------
    files : int
        Files that were read.
    strengths : int
        λ, over all runs, that have any.
    complete, pending, failed : int
        Of those: λ that are complete, that are still to be computed, and of which the computation failed.
    ignored : tuple of Path
        Files beside them that are none of the known ones.
    differences : tuple of Difference
        How far the files' numbers are from those computed from the weights.
    """

    files: int
    strengths: int
    complete: int
    pending: int
    failed: int
    ignored: tuple[Path, ...]
    differences: tuple[Difference, ...]


def import_files(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    recompute: bool = False,
    l2_from_name: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
    observer: Callable[[SweepEvent], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> ImportSummary:
    """Make a store of files that hesstore or the field's scripts wrote, or of checkpoints.

    What is there is stored as it is, in the store's order and signs; what is not is NaN. A λ with any file is complete.

    Parameters
    ----------
    sources : path or sequence of paths
        Folders with ``Model-ID….csv``, ``Hessian-eigenvalues-ID-L2.csv`` and so on, or such files; or checkpoints,
        with ``l2_from_name`` or ``settings["l2"]``.
    store : path
        Where the store is to be. One that the same import left unfinished is finished.
    settings : mapping, optional
        What the files were made with, by the names of :class:`hesstore.SweepConfig`, where their manifest does not say.
    recompute : bool
        Whether metrics, gradient, spectrum and class geometry are computed from the weights, of all λ that have them,
        and take the place of what the files say.
    l2_from_name : bool
        Whether the files are checkpoints with λ in their names.
    progress : callable, optional
        Called with (bytes read, bytes in all).
    observer, stop : callable, optional
        Of the computation, as in :func:`hesstore.run_sweep`.

    Raises
    ------
    ImportFilesError
        For a file that is damaged, malformed or does not fit the others; it names the file and the line. No store is
        left then.
    HesstoreError
        If the store can't be made, or the settings can't be carried out.
    """
    settings = dict(settings or {})
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    l2 = settings.get("l2")
    found = find(given, l2_from_name=l2_from_name, l2=_grid(l2) if l2 is not None and not l2_from_name else None)
    plan = Plan(found, settings, recompute)
    place = locate(store)
    if not isinstance(place, FolderPlace):
        raise StoreError(f"{place}: files are imported into a folder: give a path")
    if place.is_new():
        place.check_creatable()
    else:
        _check_same_files(place, plan)
    recomputer = _recomputer(plan) if recompute else None
    spec = recomputer.spec(plan) if recomputer else plan.spec(_known_identity(plan), {})
    if place.is_new():
        place.check_space(int(LEAST_SHARE * spec.large_bytes) * len(plan.cells))
        place.create(lambda zarr_store: _fill(zarr_store, spec, plan, recomputer, progress))
    else:
        _check_same_settings(place, spec)
    writer = SweepStore.open(place)
    if recomputer:
        recomputer.compute(writer, observer, stop)
    statuses = [Status(int(writer.status(writer.runs[run])[spec.l2.index(l2)])) for run, l2 in plan.cells]
    return ImportSummary(
        files=len(found.all),
        strengths=len(plan.cells),
        complete=statuses.count(Status.COMPLETE),
        pending=statuses.count(Status.FITTED) + statuses.count(Status.PENDING),
        failed=statuses.count(Status.FAILED),
        ignored=tuple(found.ignored),
        differences=differences(plan, writer) if recompute else (),
    )


def _grid(l2: object) -> tuple[float, ...]:
    from hesstore.config.l2_grid import parse_l2  # noqa: PLC0415 - one use

    try:
        return parse_l2(l2)
    except ValueError as error:
        raise ImportFilesError(f"l2: {error}") from None


def _check_same_settings(place: FolderPlace, spec: StoreSpec) -> None:
    """Raise unless the import that was begun there is of the same settings, data and network."""
    stored = json.loads(str(open_group(place).attrs["identity"]))
    keys = [key for key in stored.keys() | spec.identity.keys() if stored.get(key) != spec.identity.get(key)]
    if keys:
        differences = {key: (str(stored.get(key)), str(spec.identity.get(key))) for key in sorted(keys)}
        described = "; ".join(f"{key} is {old} there, {new} here" for key, (old, new) in differences.items())
        raise ConfigMismatchError(
            f"{place}: was imported with other settings: {described}. Give the same, or another path", differences
        )


def _check_same_files(place: FolderPlace, plan: Plan) -> None:
    """Raise unless the store there is one that an import of these files has begun."""
    attributes = open_group(place).attrs.asdict()
    there = origin_of(attributes)
    if not there.is_import:
        raise StoreError(f"{place}: is a store that a sweep made: give another path")
    if there.source != plan.sources.digest():
        raise StoreError(f"{place}: was imported from other files: give another path")
    if there.recompute != plan.recompute:
        how = "with" if there.recompute else "without"
        raise StoreError(f"{place}: was imported {how} --recompute: give another path")


def _known_identity(plan: Plan) -> dict[str, str]:
    header = plan.sources.header or {}
    return {"data_digest": str(header.get("identity", {}).get("data_digest", ""))}


def _recomputer(plan: Plan) -> Recomputer:
    for name in ("dataset", "model"):
        code = str(getattr(plan.config, name))
        if ":" in code and name not in plan.settings:
            raise ImportFilesError(
                f"the files' manifest names code, {code!r}, that --recompute would run: pass --{name} {code} if you "
                "know where the files come from"
            )
    from hesstore.importing.recompute import Recomputer  # noqa: PLC0415 - needs torch and the data

    return Recomputer.prepare(plan)


def _fill(
    zarr_store: Store,
    spec: StoreSpec,
    plan: Plan,
    recomputer: Recomputer | None,
    progress: Callable[[int, int], None],
) -> None:
    write_template(zarr_store, spec)
    assert isinstance(zarr_store, LocalStore)  # noqa: S101 - what a folder's create() gives
    store = SweepStore.open(zarr_store.root)
    empty, position = nothing(spec), {l2: index for index, l2 in enumerate(spec.l2)}
    read, total = 0, plan.sources.bytes
    for run in store.runs:
        cells = [cell for cell in plan.cells if cell[0] == run.id]
        with store.claim(run):
            for cell in cells:
                values: dict[str, Any] = {**empty, **values_of(plan, cell)}
                status = status_of(plan, cell)
                if recomputer is not None and status == Status.FITTED:
                    values = recomputer.measured(weights_of(plan, plan.paths["weights"][cell]), cell[1])
                store.record(run, position[cell[1]], status, values)
                read += _bytes(plan, cell)
                progress(read, max(read, total))
    progress(total, total)


def _bytes(plan: Plan, cell: Cell) -> int:
    return sum(paths[cell].stat().st_size for paths in plan.paths.values() if cell in paths)
