"""Docstrings as Markdown: roles of Sphinx become links, and marks of literal blocks become fences."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([\w.]+)`")
_LITERAL = re.compile(r"^( *)(.*)::\n\n((?:\1 +\S.*\n|\n)+)", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites each docstring when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = _LITERAL.sub(_fence, _ROLE.sub(r"`\1`", obj.docstring.value) + "\n")


def _fence(found: re.Match[str]) -> str:
    indent, words, block = found.groups()
    lines = block.rstrip("\n").split("\n")
    depth = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    code = "\n".join(indent + line[depth:] if line.strip() else "" for line in lines)
    before = f"{indent}{words}:\n\n" if words else ""
    return f"{before}{indent}```python\n{code}\n{indent}```\n\n"
