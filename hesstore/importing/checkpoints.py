"""``hesstore.analyse``: analyse checkpoints along the training step, or anything else that they differ in."""

from __future__ import annotations

import glob
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from hesstore.config import TRAINING_SETTINGS, SweepConfig
from hesstore.config.l2_grid import AXIS, parse_l2, round_l2
from hesstore.config.setting_types import as_list, parse_number
from hesstore.custom_code import calls_back
from hesstore.engine.collection import Collection
from hesstore.engine.sweep import run_sweep
from hesstore.errors import ConfigError, ImportFilesError
from hesstore.importing.file_names import CHECKPOINTS, is_checkpoint, parse_name, run_in_name
from hesstore.importing.sources import list_files
from hesstore.store.places.location import expand_home
from hesstore.store.schema import is_axis_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from hesstore.engine.events import SweepEvent
    from hesstore.engine.sweep import SweepPlan, SweepSummary

NUMBERED = "checkpoint"
"""The axis of a collection whose checkpoints are only numbered, in the order in which they are given."""


class PlacedCheckpoint(NamedTuple):
    """A checkpoint with the number of its run and its value on the axis."""

    run: int
    value: float
    path: Path


@calls_back("observer", "on_plan", "stop")
def analyse(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    axis: str | None = None,
    values: Sequence[float] | str | None = None,
    from_name: bool = False,
    settings: Mapping[str, Any] | None = None,
    observer: Callable[[SweepEvent], None] | None = None,
    on_plan: Callable[[SweepPlan], None] | None = None,
    stop: Callable[[], bool] | None = None,
    workers: int = 0,
    scheduler: str = "",
    retry_failed: bool = False,
    grow: bool = False,
) -> SweepSummary:
    """Compute for each checkpoint what a sweep computes at a grid point.

    These are accuracies, gradient, spectrum and class geometry. The store is like that of a sweep, but its grid has
    another name and other values, such as the training step. All analyses, figures, exports and checks work on it. If
    the same call was interrupted, it continues.

    Parameters
    ----------
    checkpoints : path or sequence of paths
        Files with the weights of the network (``.pth``, ``.pt``, ``.ckpt``, ``.safetensors``), folders with such
        files, or patterns such as ``"runs/*.pth"``.
    store : path, ``file://`` URL or ``s3://`` URL
        The location of the store.
    axis : str, optional
        What the checkpoints differ in: ``step``, ``epoch``, ``l2`` or a name of yours, which becomes the name of the
        grid's dimension. By default the checkpoints are numbered from 0 along ``checkpoint``, in the given order;
        those of a folder or pattern in the order of the numbers in their names.
    values : sequence of float, optional
        The value on that axis of each checkpoint, in the given order.
    from_name : bool
        Whether the names of the checkpoints contain these values, as in ``step_1000.pth`` or ``epoch=3-step=400.ckpt``.
        A number after ``run`` or ``seed`` makes the checkpoints of each such number a run of its own.
    settings : mapping, optional
        Settings by the names of :class:`hesstore.SweepConfig`: usually ``model``, ``dataset`` and ``k``. Those of
        training are not allowed. ``l2`` is one λ for all checkpoints, 0 by default, with which the penalty and what
        follows from it is computed.
    observer, on_plan, stop, workers, scheduler, retry_failed : optional
        As in :func:`hesstore.run_sweep`.
    grow : bool
        Whether an existing store first grows to fit: with the checkpoints that were written since, or with a larger k.

    Returns
    -------
    SweepSummary
        The number of checkpoints by status, and the duration.

    Raises
    ------
    ImportFilesError
        Before anything is written, if a checkpoint is damaged, does not fit the network, or has no value or the same
        one as another.
    HesstoreError
        As :func:`hesstore.run_sweep`.
    """
    axis, placed = place_checkpoints(checkpoints, axis, values, from_name=from_name)
    grid = tuple(sorted({value for _, value, _ in placed}))
    numbers = sorted({number for number, _, _ in placed})
    config = _config(dict(settings or {}), axis, grid, numbers)
    files = sorted((numbers.index(number), grid.index(value), str(path)) for number, value, path in placed)
    _refuse_duplicates(files)
    return run_sweep(
        config,
        store,
        observer=observer,
        on_plan=on_plan,
        stop=stop,
        workers=workers,
        scheduler=scheduler,
        retry_failed=retry_failed,
        grow=grow,
        collection=Collection(axis, grid, tuple(files)),
    )


def place_checkpoints(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    axis: str | None = None,
    values: Sequence[float] | str | None = None,
    *,
    from_name: bool = False,
) -> tuple[str, list[PlacedCheckpoint]]:
    """Find the checkpoints, and their places on the axis; the arguments are those of :func:`analyse`.

    Returns
    -------
    axis : str
        The name of the axis.
    placed : list of PlacedCheckpoint
        The checkpoints, in the order in which they are given.

    Raises
    ------
    ConfigError, ImportFilesError
        As :func:`analyse`.
    """
    given = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else list(checkpoints)
    axis = _choose_axis(axis, given_values=values is not None, from_name=from_name)
    return axis, [PlacedCheckpoint(*each) for each in _place(_find(given), axis, values, from_name=from_name)]


def _choose_axis(axis: str | None, *, given_values: bool, from_name: bool) -> str:
    if given_values and from_name:
        raise ConfigError("values: contradicts from-name: give only one of them")
    if axis is None:
        if from_name or given_values:
            raise ConfigError("axis: say what the values are, such as step, epoch or l2")
        return NUMBERED
    if not is_axis_name(axis):
        raise ConfigError(f"axis: {axis!r} can't be the name of the grid: give a word such as step, epoch or width")
    if axis != NUMBERED and not (given_values or from_name):
        raise ConfigError(f"axis: each checkpoint needs its value of {axis}: give --from-name, or --values A,B,…")
    return axis


def _find(given: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The checkpoints: single files in the given order, those of a folder or pattern by the numbers in their names."""
    found: list[Path] = []
    for each in given:
        path = expand_home(each)
        if path.is_dir():
            found += sorted((file for file in list_files([path]) if is_checkpoint(file)), key=_natural)
        elif path.exists():
            if not is_checkpoint(path):
                raise ImportFilesError(
                    f"{path}: not a checkpoint: the name must end in one of {', '.join(CHECKPOINTS)}"
                )
            found.append(path)
        else:
            matching = [expand_home(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - an absolute pattern
            if not matching:
                raise ImportFilesError(f"{path}: no such file or folder, and no file matches it as a pattern")
            found += sorted((file for file in matching if file.is_file() and is_checkpoint(file)), key=_natural)
    if not found:
        names = ", ".join(map(str, given))
        raise ImportFilesError(f"{names}: contains no checkpoints, files that end in {', '.join(CHECKPOINTS)}")
    return list(dict.fromkeys(found))


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key by which step_2 comes before step_10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _place(
    paths: Sequence[Path], axis: str, values: Sequence[float] | str | None, *, from_name: bool
) -> Iterator[tuple[int, float, Path]]:
    """The number of the run, the value on the grid, and the path of each checkpoint."""
    if from_name:
        for path in paths:
            name = parse_name(path, axis)
            yield name.run, _value(name.value, axis, path), path
        return
    if values is None:
        yield from ((0, float(index), path) for index, path in enumerate(paths))
        return
    try:
        numbers = [parse_number(value) for value in as_list(values if isinstance(values, str) else list(values))]
    except ValueError as error:
        raise ConfigError(f"values: {error}") from None
    if len(numbers) != len(paths):
        raise ConfigError(
            f"values: {len(numbers)} values for {len(paths)} checkpoints: give one per checkpoint, in their order"
        )
    for value, path in zip(numbers, paths, strict=True):
        yield run_in_name(path), _value(value, axis, path), path


def _value(value: float | str, axis: str, path: Path) -> float:
    """The value on the grid; λ is rounded."""
    if axis != AXIS:
        return float(value) + 0.0
    try:
        return round_l2(value)
    except ValueError as error:
        raise ImportFilesError(f"{path}: {error}") from None


def _config(settings: dict[str, Any], axis: str, grid: tuple[float, ...], numbers: Sequence[int]) -> SweepConfig:
    """The config of the collection, whose seeds are the numbers of the runs in the names."""
    training = [name for name in settings if name in {*TRAINING_SETTINGS, "direction"}]
    if training:
        raise ConfigError(f"{training[0]}: is a setting of training, which checkpoints do not need: leave it out")
    l2 = settings.pop("l2", None)
    if axis == AXIS:
        if l2 is not None:
            raise ConfigError("l2: is the axis, so each checkpoint has its own: leave it out")
        l2 = grid
    try:
        chosen = parse_l2([0.0] if l2 is None else l2)
    except ValueError as error:
        raise ConfigError(f"l2: {error}") from None
    if axis != AXIS and len(chosen) > 1:
        raise ConfigError(f"l2: {len(chosen)} values were given, but all checkpoints have the same λ: give one value")
    config = SweepConfig.from_mapping({"seeds": list(numbers), **settings, "l2": list(chosen)})
    if len(config.runs()) != len(numbers):
        raise ConfigError(f"seeds: {len(config.seeds)} were given, but the checkpoints make {len(numbers)} runs")
    return config


def _refuse_duplicates(files: Sequence[tuple[int, int, str]]) -> None:
    seen: dict[tuple[int, int], str] = {}
    for run, index, path in files:
        if (other := seen.setdefault((run, index), path)) != path:
            raise ImportFilesError(f"{path}: has the same run and value as {other}: give only one of them")
