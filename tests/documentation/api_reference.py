"""The API page: public names with their signatures and docstrings, in Markdown.

griffe2md repeats every attribute as a heading of its own, and pdoc writes HTML; a docstring in NumPy's style is nearly
Markdown as it is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import hesstore
from hesstore import analysis, linalg, plots
from hesstore import errors as errors_

LONGEST = 40
"""Letters of a default that a signature shows."""

_HEADING = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)
_LISTS = {"Parameters", "Attributes", "Returns", "Raises", "Warns"}


def library() -> str:
    """The names of ``hesstore`` itself."""
    return _listed(hesstore)


def analyses() -> str:
    """The analyses, functions and methods alike."""
    return _listed(analysis)


def pictures() -> str:
    """The pictures."""
    return _listed(plots)


def eigensolvers() -> str:
    """Eigensolvers and operators."""
    return _listed(linalg)


def errors() -> str:
    """The tree of errors."""
    tree = (inspect.getdoc(errors_) or "").split("::\n\n")[1].split("\n\n")[0]
    return f"```text\n{inspect.cleandoc(tree)}\n```"


def _listed(module: ModuleType) -> str:
    """Functions, then classes; what the code calls them by is in their headings."""
    named = {name: getattr(module, name) for name in module.__all__}
    callables = {name: each for name, each in named.items() if callable(each)}
    ordered = sorted(callables, key=lambda name: (inspect.isclass(callables[name]), name))
    return "\n\n".join(_entry(f"{module.__name__}.{name}", callables[name]) for name in ordered)


def _entry(name: str, of: Any) -> str:
    parts = [f"### {name}", f"```text\n{_signature(name.rpartition('.')[2], of)}\n```", markdown(of)]
    if inspect.isclass(of):
        parts.append("\n".join(_members(of)))
    return "\n\n".join(filter(None, parts))


def _signature(name: str, of: Callable[..., Any]) -> str:
    """``name`` with its arguments, on one line or one a line; types are in the docstring."""
    try:
        parameters = list(inspect.signature(of).parameters.values())
    except ValueError:  # an exception has none
        return name
    shown = [_argument(each) for each in parameters if each.name != "self"]
    first = next((i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY), None)
    if first is not None:
        shown.insert(first, "*")
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= 100 else "\n".join([f"{name}(", *(f"    {each}," for each in shown), ")"])


def _argument(of: inspect.Parameter) -> str:
    if of.default is of.empty:
        return str(of.replace(annotation=of.empty))
    default = repr(of.default)
    return f"{of.name}={'…' if callable(of.default) or len(default) > LONGEST else default}"


def _members(of: type) -> Iterator[str]:
    """Public methods and properties that have a docstring, one a line."""
    for name, member in vars(of).items():
        found = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        doc = (inspect.getdoc(found) or "").partition("\n\n")[0]
        if name.startswith("_") or not doc or not (isinstance(found, property) or inspect.isfunction(found)):
            continue
        called = f".{name}" if isinstance(found, property) else f".{_signature(name, found)}"
        yield f"- `{called}`: {_inline(' '.join(doc.split()))}"


def markdown(of: Any) -> str:
    """The docstring of ``of``, NumPy's style, as Markdown."""
    head, *sections = _HEADING.split(inspect.getdoc(of) or "")
    parts = [_prose(head)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title == "Examples":
            parts.append(f"```pycon\n{body.strip()}\n```")
        else:
            parts.append(f"*{title}*\n\n{_list(body.strip()) if title in _LISTS else _prose(body)}")
    return "\n\n".join(filter(None, parts))


def _list(body: str) -> str:
    """``name : type`` with indented text below, as a list."""
    items = []
    for entry in re.split(r"\n(?=\S)", body):
        name, _, text = entry.partition("\n")
        name, _, kind = name.partition(" : ")
        text = " ".join(text.split())
        items.append(f"- `{name}`{f' ({_inline(kind)})' if kind else ''}{f': {_inline(text)}' if text else ''}")
    return "\n".join(items)


def _prose(text: str) -> str:
    """Paragraphs and lists; what follows ``::`` is code."""
    parts = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(paragraph)}\n```")
        else:
            parts.append(_inline(paragraph))
    return "\n\n".join(parts)


def _inline(text: str) -> str:
    """References and literals as Markdown's code."""
    text = re.sub(r":mod:`([\w.]+)`", r"`\1`", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("::", ":")
