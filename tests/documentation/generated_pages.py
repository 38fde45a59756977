"""The parts of pages that are generated from the code.

Each lies between a comment ``<!-- made: NAME -->`` and a comment ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.documentation import api_reference, schema_tables
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = (DOCS / "api.md", DOCS / "schema.md")

PARTS: dict[str, Callable[[], str]] = {
    "variables": schema_tables.variables,
    "coordinates": schema_tables.coordinates,
    "promises": schema_tables.promises,
    "settings": schema_tables.settings,
    "hesstore": api_reference.library,
    "errors": api_reference.errors,
    "analysis": api_reference.analyses,
    "plots": api_reference.figures,
    "linalg": api_reference.eigensolvers,
}

_MARKED = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def regenerated(page: Path) -> str:
    """Return the text of ``page`` with all its marked parts generated again."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", page.read_text())
