"""Suggestions for mistyped words, for error messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown ``word``: the most similar known word, or an empty string.

    Examples
    --------
    >>> did_you_mean("quickstrat", ["paper", "quickstart"])
    '; did you mean quickstart?'
    >>> did_you_mean("fast", ["paper", "quickstart"])
    ''
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word).lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
