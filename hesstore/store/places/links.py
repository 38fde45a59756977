"""A store that came from elsewhere must not make its reader open, or its writer replace, files outside of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hesstore.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


def refuse_outward_links(path: Path) -> None:
    """Raise :class:`StoreError` if a file or folder in the store at ``path`` is a symbolic link that leads outside.

    The store itself may be reached through a link.
    """
    inside = path.resolve()
    for link in _links(path):
        target = link.resolve()
        if not target.is_relative_to(inside):
            raise StoreError(
                f"{path}: {link.relative_to(path)} is a link that leads outside of the store, to {target}: "
                "replace it by what it should hold"
            )


def _links(folder: Path) -> Iterator[Path]:
    """Every symbolic link in ``folder`` and its folders, without following any; no system call a file."""
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield Path(entry.path)
                elif entry.is_dir():
                    waiting.append(entry.path)
