"""Custom models and data sets: a setting ``module:factory`` names a callable that is imported and called."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hesstore.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.errors import HesstoreError


def call_factory(name: str, error: type[HesstoreError], *arguments: object) -> Any:
    """Call the factory that ``name`` names, and return its result.

    Parameters
    ----------
    name : str
        ``module:factory``.
    error : type
        The class of errors to raise.
    *arguments : object
        The arguments of the factory.

    Raises
    ------
    error
        If the factory does not exist or raises an exception, which is then the cause of the error.
    """
    factory = load_factory(name, error)
    try:
        return factory(*arguments)
    except Exception as cause:
        raise error(f"{name!r} raised {type(cause).__name__}: {first_line(cause)}") from cause


def load_factory(name: str, error: type[HesstoreError]) -> Callable[..., Any]:
    """Import the callable that ``name`` names; modules in the working folder are found too.

    Parameters
    ----------
    name : str
        ``module:factory``.
    error : type
        The class of errors to raise.

    Raises
    ------
    error
        If the module can't be imported, or has no such callable.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise error(f"{name!r} is not module:factory")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as cause:
        raise error(f"{name!r}: can't import {module_name!r} ({type(cause).__name__}: {first_line(cause)})") from cause
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise error(f"{name!r}: module {module_name!r} has no callable {attribute!r}")
    return factory  # type: ignore[no-any-return]  # callable() narrows Any to a bare Callable
