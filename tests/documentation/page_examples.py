"""The examples in the pages: code blocks, and the command lines in them and in the text.

A block that tests cannot run has ``<!-- not run: reason -->`` above it, or a language other than ``python`` and ``sh``.
A Python block that begins with ``# NAME.py`` is the content of a file, which later examples import.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"(?<!`)`(hesstore [^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes
    ----------
    place : str
        Its page and the line where it begins.
    language, text : str
        Its language, as its first line names it, and its content.
    not_run : str
        The reason why tests do not run it; empty if they do.
    """

    place: str
    language: str
    text: str
    not_run: str

    @property
    def file(self) -> str:
        """The name of the Python file that the block contains; empty if it contains none."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else ""

    @property
    def commands(self) -> list[Command]:
        """The command lines of hesstore in the block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [command for line in lines for command in _commands(self.place, line)]


@dataclass(frozen=True)
class Command:
    """A command line: the arguments after ``hesstore``, and the file to which its output is redirected."""

    place: str
    arguments: tuple[str, ...]
    output: str = ""

    def __str__(self) -> str:
        return f"{self.place}: hesstore {' '.join(self.arguments)}"


def pages() -> list[Path]:
    """Return all pages; the first one is the README."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        place = f"{page.relative_to(ROOT)}:{text[: found.start('language')].count(chr(10)) + 1}"
        yield Block(place, found["language"], found["text"], found["reason"] or "")


def inline(page: Path) -> Iterator[Command]:
    """Yield the command lines in the text of a page, without the ellipses that stand for arguments."""
    text = page.read_text()
    for found in _INLINE.finditer(text):
        yield from _commands(
            f"{page.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}", found[1].replace("…", "")
        )


def _commands(place: str, line: str) -> Iterator[Command]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    while words:
        end = next((i for i, word in enumerate(words) if set(word) <= set("&|;()")), len(words))
        part, words = words[:end], words[end + 1 :]
        output = part[part.index(">") + 1] if ">" in part else ""
        part = part[: part.index(">")] if ">" in part else part
        part = part[1:] if part[:1] in (["until"], ["while"], ["if"]) else part
        if part[:1] == ["hesstore"]:
            yield Command(place, tuple("1" if word.startswith("$") else word for word in part[1:]), output)
