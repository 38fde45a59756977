"""Pages of the site that are made when it is built: a page per task, per command and per package.

MkDocs calls :func:`on_files` and :func:`on_page_markdown`. The sources in ``docs`` stay readable as they are.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from mkdocs.structure.files import File
from pymdownx.slugs import slugify

import hesstore
import hesstore_cli.main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parents[1]
PACKAGES = {
    "hesstore": "The library: sweeps, stores, exports and imports.",
    "hesstore.analysis": "Functions that take a Dataset and return a Dataset.",
    "hesstore.plots": "Functions that take a Dataset and return a matplotlib Figure.",
    "hesstore.linalg": "The eigensolver, traces and densities.",
    "hesstore.errors": "The errors that hesstore raises.",
}
SETTINGS = "Settings of a sweep"
SPLIT = {"guide.md": "guide"}
"""Long pages, and the folders of the pages that their sections become."""
OUTSIDE = {
    "../README.md": "README.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../SECURITY.md": "security.md",
}
"""Pages outside of ``docs``, and the pages of the site to which links to them lead."""

WIDTH = 76
"""Number of columns of the help of commands."""

_slug = slugify(case="lower")
_LINK = re.compile(r"(?<=\]\()(?!https?://)([^)#\s]*)(#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace ``folder/*`` in the navigation by the generated pages of that folder."""
    config.nav = _expanded(config.nav)
    return config


def _expanded(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {title: _expanded(each) for title, each in entry.items()}
    if not isinstance(entry, list):
        return entry
    return [
        page for each in entry for page in (_pages_in(each[:-1]) if str(each).endswith("/*") else [_expanded(each)])
    ]


def _pages_in(folder: str) -> list[str]:
    return [name for name in _generated_pages() if name.startswith(folder) and not name.endswith("/index.md")]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in _generated_pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return the text of a page with links to the pages of the site."""
    name = page.file.src_uri
    if name in SPLIT:
        intro, sections = _sections(name)
        pages = "\n".join(f"- [{title}]({path})" for title, path, _ in sections)
        markdown = f"{intro}\n{pages}\n"
    source = next((long for long, folder in SPLIT.items() if name.startswith(f"{folder}/")), name)
    if name == "reference/settings.md":
        source = "api.md"
    if name in OUTSIDE.values() and name != "README.md":
        source = f"../{name.upper().replace('.MD', '.md')}"
    return _LINK.sub(lambda link: _target(name, source, link[1], link[2] or ""), markdown)


@cache
def _generated_pages() -> dict[str, str]:
    pages = {path: text for long in SPLIT for _, path, text in _sections(long)[1]}
    pages |= dict(_command_pages())
    pages |= dict(_package_pages())
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        pages[OUTSIDE[f"../{name}"]] = (DOCS.parent / name).read_text(encoding="utf-8")
    settings = (DOCS / "api.md").read_text(encoding="utf-8").partition(f"### {SETTINGS}\n")[2]
    pages["reference/settings.md"] = f"# {SETTINGS}\n{re.split(r'^#', settings, maxsplit=1, flags=re.MULTILINE)[0]}"
    return pages


# -- long pages -------------------------------------------------------------------------------------------


def _split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return what stands before the first heading of level 2, and the title and text of each section."""
    parts: list[list[str]] = [[]]
    in_code = False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        if line.startswith("## ") and not in_code:
            parts.append([])
        parts[-1].append(line)
    return "\n".join(parts[0]), [(part[0].removeprefix("## "), "\n".join(part[1:]) + "\n") for part in parts[1:]]


@cache
def _sections(name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the beginning of a long page, and the title, path and text of the pages of its sections."""
    intro, sections = _split((DOCS / name).read_text(encoding="utf-8"))
    pages = []
    for title, text in sections:
        raised = re.sub(r"^###", "##", text, flags=re.MULTILINE)
        pages.append((title, f"{SPLIT[name]}/{_slug(title, '-')}.md", f"# {title}\n{raised}"))
    return intro, pages


@cache
def _page_of_anchor(name: str) -> dict[str, str]:
    """Return the page of each heading of a long page."""
    return {
        _slug(heading, "-"): path
        for _, path, text in _sections(name)[1]
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def _target(page: str, source: str, path: str, anchor: str) -> str:
    """Return a link of ``source``, which ``page`` is made from, so that it leads to the right page of the site."""
    folder = source.rpartition("/")[0]
    there = _normal(f"{folder}/{path}" if folder else path) if path else source
    if there in SPLIT and anchor:
        there = _page_of_anchor(there)[anchor[1:]]
        anchor = "" if there.endswith(f"/{anchor[1:]}.md") else anchor
    elif there == "api.md":
        there, anchor = (
            ("reference/settings.md", "") if anchor == f"#{_slug(SETTINGS, '-')}" else ("reference/index.md", "")
        )
    elif there.startswith("../docs/"):
        there = there.removeprefix("../docs/")
    there = OUTSIDE.get(there, there)
    if there == page and anchor:
        return anchor
    return "../" * page.count("/") + there + anchor


def _normal(path: str) -> str:
    """Return a relative path without ``x/..``."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


# -- commands and packages --------------------------------------------------------------------------------


def _command_pages() -> Iterator[tuple[str, str]]:
    group = hesstore_cli.main.cli
    parent = click.Context(group, info_name="hesstore", terminal_width=WIDTH, max_content_width=WIDTH)
    names = group.list_commands(parent)
    rows = []
    for name in names:
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        rows.append(f"| [{name}]({name}.md) | {command.get_short_help_str(90)} |")
        context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
        yield f"commands/{name}.md", f"# hesstore {name}\n\n```text\n{click.unstyle(command.get_help(context))}\n```\n"
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    yield "commands/index.md", f"# Commands\n\n{table}\n\n```text\n{click.unstyle(group.get_help(parent))}\n```\n"


def _package_pages() -> Iterator[tuple[str, str]]:
    rows = [f"| [{name}]({name}.md) | {text} |" for name, text in PACKAGES.items()]
    table = "\n".join(["| package | contents |", "|---|---|", *rows, f"| [{SETTINGS}](settings.md) | all of them |"])
    yield "reference/index.md", f"# API\n\nAll other names may change without notice.\n\n{table}\n"
    for name, text in PACKAGES.items():
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None) or [
            each for each, kind in vars(module).items() if isinstance(kind, type)
        ]
        entries = "\n\n".join(_entry(module, each) for each in sorted(names) if callable(getattr(module, each)))
        yield f"reference/{name}.md", f"# {name}\n\n{text}\n\n{entries}\n"


def _entry(module: ModuleType, name: str) -> str:
    """Return the entry of a function or class; one that ``hesstore`` exports too is described there alone."""
    item, title = getattr(module, name), f"{module.__name__}.{name}"
    if module is not hesstore and getattr(hesstore, name, None) is item:
        return f"## {title}\n\nThis is the same as [hesstore.{name}][{item.__module__}.{item.__qualname__}]."
    return f"::: {item.__module__}.{item.__qualname__}\n    options:\n      heading: {title}"
