from __future__ import annotations

import re
from typing import Any

import pytest

from tests.documentation import tutorial
from tests.documentation.code_names import check_names
from tests.support.quickstart import Quickstart


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> list[str]:
    """Return the kinds of output that a cell has."""
    return [
        "/".join([output.output_type, *sorted(output.get("data", {output.get("name"): 0}))]) for output in cell.outputs
    ]


def test_it_is_a_notebook_with_outputs() -> None:
    notebook = tutorial.read()
    tutorial.check(notebook)
    cells = code_cells(notebook)
    for cell in cells:
        check_names(cell.source)
    kinds = [kind for cell in cells for kind in shown(cell)]
    assert sum("image/png" in kind for kind in kinds) >= 5
    assert not [kind for kind in kinds if "stderr" in kind or "error" in kind]
    text = tutorial.NOTEBOOK.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"(?<![\w.])/(home|tmp|root|Users)/", text)  # it names no folder of the machine that ran it


@pytest.mark.slow
def test_it_runs(quickstart: Quickstart) -> None:
    """The kinds of output must be the same; numbers differ from machine to machine."""
    before, now = code_cells(tutorial.read()), code_cells(tutorial.run(quickstart.store))
    assert [shown(cell) for cell in now] == [shown(cell) for cell in before]
