"""The names of hesstore that Python code in the pages and in the tutorial uses."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from typing import Any

import hesstore
from hesstore import analysis, plots
from hesstore.analysis.accessor import Hess

MODULES: dict[str, Any] = {"hesstore": hesstore, "analysis": analysis, "plots": plots, "hess": Hess}
"""The modules by the name under which code uses them, and the class of ``ds.hess``."""


def check_names(source: str) -> None:
    """Raise an ``ImportError`` if ``source`` uses a name of hesstore that does not exist."""
    for module, name in _names(ast.parse(source)):
        if module is Hess:
            if not hasattr(Hess, name):
                raise ImportError(f"ds.hess has no {name}")
        elif name not in module.__all__:
            importlib.import_module(f"{module.__name__}.{name}")


def _names(tree: ast.AST) -> Iterator[tuple[Any, str]]:
    """Yield each attribute of hesstore's modules and of ``ds.hess``, with the module that must have it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name in MODULES and not (name == "hess" and isinstance(owner, ast.Name)):
                yield MODULES[name], node.attr
