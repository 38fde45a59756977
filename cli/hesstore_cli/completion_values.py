"""The values that a shell offers for an option or an argument. No function here opens a store, which takes too long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hesstore.config import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click

    Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def choices(*values: str) -> Completion:
    """Return a completion to one of ``values``."""
    return lambda _context, _parameter, word: [value for value in values if value.startswith(word)]


def comma_list(*values: str) -> Completion:
    """Return a completion of the last item in a comma-separated list of ``values``."""

    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
        before, comma, last = word.rpartition(",")
        return [before + comma + value for value in choices(*values)(context, parameter, last)]

    return complete


def assignments(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Complete ``key=``, and then ``key=value`` for settings that have choices."""
    key, equals, value = word.partition("=")
    if not equals:
        return [f"{setting.name}=" for setting in settings() if setting.name.startswith(key)]
    known = {setting.name: setting.metadata["type"].choices for setting in settings()}
    return [f"{key}={choice}" for choice in choices(*known.get(key, ()))(context, parameter, value)]


def stores(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Complete to stores (folders and zip files), and to other folders, which may contain stores."""
    return [
        f"{typed}/" if path.is_dir() and not (path / "zarr.json").exists() else typed
        for typed, path in _entries(word)
        if path.is_dir() or path.suffix.lower() == ".zip"
    ]


def toml_files(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Complete to TOML files and folders."""
    return [*_files(word, lambda path: path.suffix == ".toml")]


def files(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Complete to files and folders."""
    return [*_files(word, lambda _: True)]


def folders(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Complete to folders."""
    return [*_files(word, lambda _: False)]


def _files(word: str, wanted: Callable[[Path], bool]) -> Iterator[str]:
    for typed, path in _entries(word):
        if path.is_dir():
            yield f"{typed}/"
        elif wanted(path):
            yield typed


def _entries(word: str) -> Iterator[tuple[str, Path]]:
    """Yield the paths that begin with ``word``: as the user would type each one, and as a path."""
    folder, slash, start = word.rpartition("/")
    try:
        where = Path(folder + slash).expanduser()
        names = sorted(os.listdir(where))  # noqa: PTH208 - only names are needed
    except (OSError, RuntimeError, ValueError):  # RuntimeError: there is no such user
        return
    for name in names:
        hidden = name.startswith(".") and not start.startswith(".")
        if name.startswith(start) and name.isprintable() and not hidden:
            yield f"{folder}{slash}{name}", where / name
