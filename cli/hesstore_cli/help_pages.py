"""Help pages that list options and commands in named groups.

Summaries of commands are wrapped instead of being cut off, and no line breaks within a short default.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import click

from hesstore.config.suggestions import synonym_of
from hesstore_cli.terminal.widths import fit_line

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDEST_TERM = 30
"""The widest option that has its description on the same line."""

_KEPT_SPACE, _KEPT_HYPHEN = "\N{NO-BREAK SPACE}", "\N{NON-BREAKING HYPHEN}"
"""A space and a hyphen at which a help page does not break lines."""

_SHORT_DEFAULT = re.compile(r"\[[^\[\]]{,30}\]")


COMMAND_SYNONYMS = {
    "check": "verify",
    "compare": "diff",
    "continue": "sweep",
    "extend": "sweep",
    "figure": "plot",
    "fsck": "verify",
    "html": "report",
    "inspect": "info",
    "load": "import",
    "ls": "list",
    "open": "info",
    "pack": "export",
    "progress": "status",
    "repair": "verify",
    "resume": "sweep",
    "run": "sweep",
    "settings": "config",
    "show": "info",
    "start": "sweep",
    "stores": "list",
    "train": "sweep",
    "watch": "status",
}
"""Names that other programs give to a command, and its name here."""


class GroupedOption(click.Option):
    """An option that belongs to a group.

    Parameters
    ----------
    group : str
        The heading of the group.
    """

    def __init__(self, *arguments: Any, group: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.group = group


_PLAN = "hesstore plan takes the same options, and computes and writes nothing"
_CONTINUES = "a sweep computes only what STORE lacks: run it without this option"
_ANSWERS = {
    ("sweep", "--dry-run"): _PLAN,
    ("sweep", "--plan"): _PLAN,
    ("sweep", "--continue"): _CONTINUES,
    ("sweep", "--resume"): _CONTINUES,
}
"""What to do instead of an option that a command does not need."""


class Command(click.Command):
    """A command whose help page lists options in groups.

    Options without a group come first, under the heading Options. The groups follow in the order of their first option.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; the error for an unknown option names the option that other programs call so."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if answer := _ANSWERS.get((self.name or "", error.option_name)):
                raise click.UsageError(f"No such option {error.option_name!r}: {answer}", ctx) from None
            known = [name for parameter in self.get_params(ctx) for name in parameter.opts if name.startswith("--")]
            if meant := synonym_of(error.option_name, known):
                error.possibilities = [meant]  # type: ignore[misc]  # Click itself compares only the letters
            raise

    def get_help(self, ctx: click.Context) -> str:
        """Return the page with ordinary characters, so that a search in it finds every text."""
        return _fitted(super().get_help(ctx).replace(_KEPT_SPACE, " ").replace(_KEPT_HYPHEN, "-"))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, with all descriptions in one column."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                heading = parameter.group if isinstance(parameter, GroupedOption) else "Options"
                sections.setdefault(heading, []).append((record[0], record[1]))
        width = _term_width(sections.values())
        room = formatter.width - width - 4
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(term.ljust(width), _with_kept_parts(text, room)) for term, text in records], col_max=width
                )


class CommandGroup(click.Group):
    """A group of commands whose help page lists the commands under several headings."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.sections: dict[str, tuple[click.Command, ...]] = {}

    def add_section(self, heading: str, *commands: click.Command) -> None:
        """Add commands under a heading."""
        self.sections[heading] = commands
        for command in commands:
            self.add_command(command)

    def get_help(self, ctx: click.Context) -> str:
        """Return the page, in lines that fit the terminal."""
        return _fitted(super().get_help(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error for an unknown one names the command that other programs call so."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            meant = COMMAND_SYNONYMS.get(args[0].lower())
            if meant is not None:
                error.possibilities = [meant]  # type: ignore[misc]  # as for options
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click passes it
        """Write the first sentence of each command's help, with all sentences in one column."""
        width = max(map(len, self.commands))
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{each.name:<{width}}", each.get_short_help_str(limit=1000)) for each in commands]
                )


def _with_kept_parts(text: str, room: int) -> str:
    """Return a description in which short texts in brackets, such as defaults, and names like mnist-5k stay whole.

    Texts that need more than ``room`` characters can be broken.
    """

    def kept(found: re.Match[str]) -> str:
        return found[0].replace(" ", _KEPT_SPACE) if len(found[0]) <= room else found[0]

    return _SHORT_DEFAULT.sub(kept, text).replace("-", _KEPT_HYPHEN)


def _fitted(page: str) -> str:
    """Return a page whose fixed lines, such as lists of formats, fit the terminal; examples stay as they are."""
    columns = shutil.get_terminal_size().columns
    return "\n".join(
        part
        for line in page.split("\n")
        for part in ([line] if line.lstrip().startswith("hesstore ") else fit_line(line, columns))
    )


def _term_width(groups: Iterable[list[tuple[str, str]]]) -> int:
    """Return the width of the widest term that has its description on the same line."""
    return max(width for records in groups for term, _ in records if (width := len(term)) <= WIDEST_TERM)
