"""The tutorial notebook ``docs/tutorial.ipynb``: functions that read, run, write and check it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.support.paths import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def read() -> Any:
    """Return the current notebook."""
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def run(store: Path) -> Any:
    """Return the notebook, executed in the folder of ``store``, the quickstart store.

    Raises
    ------
    CellExecutionError
        If a cell fails.
    """
    notebook = read()
    where = {"metadata": {"path": str(store.parent)}}
    NotebookClient(notebook, resources=where, kernel_name="python3", record_timing=False, timeout=300).execute()
    return notebook


def write(notebook: Any) -> None:
    """Replace the current notebook by ``notebook``."""
    nbformat.write(notebook, NOTEBOOK)  # type: ignore[no-untyped-call]


def check(notebook: Any) -> None:
    """Raise a ``ValidationError`` unless ``notebook`` is well-formed."""
    nbformat.validate(notebook)
