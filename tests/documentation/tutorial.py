"""``docs/tutorial.ipynb``: read, run and written again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def read() -> Any:
    """The notebook as it is."""
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def run(store: Path) -> Any:
    """The notebook, run beside ``store``, the quickstart's; raises ``CellExecutionError`` if a cell fails."""
    notebook = read()
    where = {"metadata": {"path": str(store.parent)}}
    NotebookClient(notebook, resources=where, kernel_name="python3", record_timing=False, timeout=300).execute()
    return notebook


def write(notebook: Any) -> None:
    """Put ``notebook`` in the place of the one there is."""
    nbformat.write(notebook, NOTEBOOK)  # type: ignore[no-untyped-call]


def check(notebook: Any) -> None:
    """Raise ``ValidationError`` unless ``notebook`` is well-formed."""
    nbformat.validate(notebook)
