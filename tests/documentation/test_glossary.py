"""Tests of docs/glossary.md: it is in order, and it covers the dimensions and statuses of a store."""

from __future__ import annotations

import itertools
import re

from hesstore.store.schema import VARIABLES, Status
from tests.documentation.generated_pages import DOCS

TEXT = (DOCS / "glossary.md").read_text()
ENTRIES = re.findall(r"^\*\*([^*]+)\*\*: (.+?)\n(?=\n|\Z)", TEXT, re.MULTILINE | re.DOTALL)
TERMS = [term for terms, _ in ENTRIES for term in terms.split(", ")]


def test_each_term_is_defined_once() -> None:
    assert len(ENTRIES) == TEXT.count("\n**")
    assert len(TERMS) == len(set(TERMS))


def test_entries_are_in_alphabetical_order() -> None:
    keys = [terms.replace("λ", "lambda").casefold() for terms, _ in ENTRIES]
    assert [(a, b) for a, b in itertools.pairwise(keys) if a > b] == []


def test_dimensions_and_statuses_are_defined() -> None:
    """A dimension whose name is an abbreviation is defined with the term that it stands for."""
    names = {term for terms, text in ENTRIES for term in (*terms.split(", "), *re.findall(r"`(\w+)`", text))}
    dimensions = {dim for variable in VARIABLES for dim in variable.dims}
    assert dimensions - names == set()
    assert {status.name.lower() for status in Status} - set(TERMS) == set()
