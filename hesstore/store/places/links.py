"""Protection against symbolic links that lead out of a store.

A store that somebody else made must not cause its reader to open, or its writer to replace, files outside of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hesstore.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


def refuse_outward_links(path: Path) -> None:
    """Raise :class:`StoreError` if the store at ``path`` contains a symbolic link to a target outside of it.

    The store itself may be reached through a link.
    """
    inside = path.resolve()
    for link in _links(path):
        target = link.resolve()
        if not target.is_relative_to(inside):
            raise StoreError(
                f"{path}: {link.relative_to(path)} is a link that leads outside of the store, to {target}: "
                "replace it with a copy of its target"
            )


def _links(folder: Path) -> Iterator[Path]:
    """All symbolic links in ``folder`` and its subfolders.

    Links are not followed, and ``scandir`` needs no further system call for each file.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield Path(entry.path)
                elif entry.is_dir():
                    waiting.append(entry.path)
