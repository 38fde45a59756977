"""The API reference in Markdown: the public names with their signatures and docstrings.

It is made without a documentation tool: griffe2md gives each attribute a separate heading, and pdoc writes HTML, while
a NumPy-style docstring is almost Markdown already.
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

MAX_DEFAULT_LENGTH = 40
"""The length above which a signature shows … instead of a default."""

_HEADING = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)
_LISTS = {"Parameters", "Attributes", "Returns", "Raises", "Warns"}


def library() -> str:
    """Return the reference of ``hesstore``."""
    return _listed(hesstore)


def analyses() -> str:
    """Return the reference of ``hesstore.analysis``."""
    return _listed(analysis)


def figures() -> str:
    """Return the reference of ``hesstore.plots``."""
    return _listed(plots)


def eigensolvers() -> str:
    """Return the reference of ``hesstore.linalg``."""
    return _listed(linalg)


def errors() -> str:
    """Return the tree of errors from the docstring of ``hesstore.errors``."""
    tree = (inspect.getdoc(errors_) or "").split("::\n\n")[1].split("\n\n")[0]
    return f"```text\n{inspect.cleandoc(tree)}\n```"


def _listed(module: ModuleType) -> str:
    """Return the entries of a module: functions, then classes, each under its full name."""
    named = {name: getattr(module, name) for name in module.__all__}
    callables = {name: each for name, each in named.items() if callable(each)}
    ordered = sorted(callables, key=lambda name: (inspect.isclass(callables[name]), name))
    return "\n\n".join(_entry(module, name, callables[name]) for name in ordered)


def _entry(module: ModuleType, name: str, item: Any) -> str:
    """Return the entry of a function or class; one that ``hesstore`` exports too is described there alone."""
    heading = f"### {module.__name__}.{name}"
    if module is not hesstore and getattr(hesstore, name, None) is item:
        return f"{heading}\n\nThis is the same as [hesstore.{name}](#hesstore{name.lower()})."
    parts = [heading, f"```text\n{_signature(name, item)}\n```", markdown(item)]
    if inspect.isclass(item) and (members := "\n".join(_members(item))):
        parts.append(f"*Methods and properties*\n\n{members}")
    return "\n\n".join(filter(None, parts))


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return ``name`` with its arguments, without types: on one line, or one argument per line if it is long."""
    try:
        parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    except ValueError:  # an exception has no signature
        return name
    shown = [_argument(each) for each in parameters]
    first = next((i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY), None)
    if first is not None:
        shown.insert(first, "*")
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= 100 else "\n".join([f"{name}(", *(f"    {each}," for each in shown), ")"])


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return str(parameter.replace(annotation=parameter.empty))
    default = repr(parameter.default)
    hidden = callable(parameter.default) or default == "<factory>" or len(default) > MAX_DEFAULT_LENGTH
    return f"{parameter.name}={'…' if hidden else default}"


def _members(cls: type) -> Iterator[str]:
    """Yield one line per public method or property that has a docstring, those of private base classes included."""
    bases = [base for base in cls.__mro__ if base is cls or base.__name__.startswith("_")]
    for name, member in (item for base in bases for item in vars(base).items()):
        found = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        doc = (inspect.getdoc(found) or "").partition("\n\n")[0]
        if name.startswith("_") or not doc or not (isinstance(found, property) or inspect.isfunction(found)):
            continue
        called = f".{name}" if isinstance(found, property) else f".{_signature(name, found)}"
        yield f"- `{called}`: {_inline(' '.join(doc.split()))}"


def markdown(item: Any) -> str:
    """Return the NumPy-style docstring of ``item`` as Markdown."""
    head, *sections = _HEADING.split(inspect.getdoc(item) or "")
    parts = [_prose(head)]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title == "Examples":
            parts.append(f"```pycon\n{body.strip()}\n```")
        else:
            parts.append(f"*{title}*\n\n{_list(body.strip()) if title in _LISTS else _prose(body)}")
    return "\n\n".join(filter(None, parts))


def _list(body: str) -> str:
    """Return entries of the form ``name : type``, with indented text below, as a Markdown list."""
    items = []
    for entry in re.split(r"\n(?=\S)", body):
        name, _, text = entry.partition("\n")
        name, _, kind = name.partition(" : ")
        text = " ".join(text.split())
        items.append(f"- `{name}`{f' ({_inline(kind)})' if kind else ''}{f': {_inline(text)}' if text else ''}")
    return "\n".join(items)


def _prose(text: str) -> str:
    """Return paragraphs and lists as Markdown; indented paragraphs are code."""
    parts = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(paragraph)}\n```")
        else:
            parts.append(_inline(paragraph))
    return "\n\n".join(parts)


def _inline(text: str) -> str:
    """Return ``text`` with references and literals as Markdown code."""
    text = re.sub(r":mod:`([\w.]+)`", r"`\1`", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("::", ":")
