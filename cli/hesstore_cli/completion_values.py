"""What a shell completes an option or an argument to. Nothing here opens a store: a key was pressed."""

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
    """One of ``values``."""
    return lambda _context, _parameter, word: [value for value in values if value.startswith(word)]


def listed(*values: str) -> Completion:
    """A comma list of ``values``: its last part."""

    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
        before, comma, last = word.rpartition(",")
        return [before + comma + value for value in choices(*values)(context, parameter, last)]

    return complete


def assignments(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """``key=``, then ``key=value`` where a setting has choices."""
    key, equals, value = word.partition("=")
    if not equals:
        return [f"{setting.name}=" for setting in settings() if setting.name.startswith(key)]
    known = {setting.name: setting.metadata["type"].choices for setting in settings()}
    return [f"{key}={choice}" for choice in choices(*known.get(key, ()))(context, parameter, value)]


def stores(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Folders with a store, packed stores, and other folders, in which to look further."""
    return [
        f"{shown}/" if path.is_dir() and not (path / "zarr.json").exists() else shown
        for shown, path in _entries(word)
        if path.is_dir() or path.suffix.lower() == ".zip"
    ]


def toml_files(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """TOML files, and folders."""
    return [*_files(word, lambda path: path.suffix == ".toml")]


def files(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Any file, and folders."""
    return [*_files(word, lambda _: True)]


def folders(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Folders alone."""
    return [*_files(word, lambda _: False)]


def _files(word: str, wanted: Callable[[Path], bool]) -> Iterator[str]:
    for shown, path in _entries(word):
        if path.is_dir():
            yield f"{shown}/"
        elif wanted(path):
            yield shown


def _entries(word: str) -> Iterator[tuple[str, Path]]:
    """What a path that begins with ``word`` can go on to: as it would be typed, and where it is."""
    folder, slash, start = word.rpartition("/")
    where = Path(folder + slash).expanduser()
    try:
        names = sorted(os.listdir(where))  # noqa: PTH208 - names are what is asked for
    except (OSError, ValueError):
        return
    for name in names:
        hidden = name.startswith(".") and not start.startswith(".")
        if name.startswith(start) and name.isprintable() and not hidden:
            yield f"{folder}{slash}{name}", where / name
