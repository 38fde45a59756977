"""``module:factory``: how users' own models and data sets are named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.errors import HesstoreError


def load_factory(name: str, error: type[HesstoreError]) -> Callable[..., Any]:
    """The callable that ``module:factory`` names; modules in the working directory are found too.

    Raises
    ------
    error
        If the module can't be imported or has no such callable.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as cause:
        raise error(f"{name!r}: can't import {module_name!r} ({cause})") from cause
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise error(f"{name!r}: module {module_name!r} has no callable {attribute!r}")
    return factory  # type: ignore[no-any-return]  # callable() narrows Any to a bare Callable
