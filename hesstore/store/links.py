"""A store that came from elsewhere must not make its reader open, or its writer replace, files outside of it."""

from __future__ import annotations

import os
from pathlib import Path

from hesstore.errors import StoreError


def refuse_outward_links(path: Path) -> None:
    """Raise :class:`StoreError` if a file or folder in the store at ``path`` is a symbolic link that leads outside.

    The store itself may be reached through a link.
    """
    inside = path.resolve()
    for folder, folders, files in os.walk(path):  # does not follow links
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink() and not entry.resolve().is_relative_to(inside):
                raise StoreError(
                    f"{path}: {entry.relative_to(path)} is a link that leads outside of the store, to "
                    f"{entry.resolve()}: replace it by what it should hold"
                )
