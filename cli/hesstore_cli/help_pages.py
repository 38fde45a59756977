"""Help pages whose options stand in named groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDEST_TERM = 30
"""An option that is longer stands on a line of its own."""

KEPT = "\N{NO-BREAK SPACE}"
"""A space at which no line of a help page is broken."""


class GroupedOption(click.Option):
    """An option with the name of the group that it stands in.

    Parameters
    ----------
    group : str
        The heading.
    """

    def __init__(self, *arguments: Any, group: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.group = group


class Command(click.Command):
    """A command whose help page has a heading for each group of options.

    Its own options, which have no group, come first; then the groups, in the order of their first option.
    """

    def get_help(self, ctx: click.Context) -> str:
        """The page, in which any space is one that can be searched for."""
        return super().get_help(ctx).replace(KEPT, " ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, with all descriptions in one column."""
        own: list[tuple[str, str]] = []
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, GroupedOption) and record is not None:
                groups.setdefault(parameter.group, []).append(record)
            elif isinstance(parameter, click.Option) and record is not None:
                own.append(record)
        sections = {"This command" if groups else "Options": own, **groups}
        width = _term_width(sections.values())
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(term.ljust(width), text) for term, text in records], col_max=width)


def _term_width(groups: Iterable[list[tuple[str, str]]]) -> int:
    """The widest term that leaves its description room on the same line."""
    return max(width for records in groups for term, _ in records if (width := len(term)) <= WIDEST_TERM)
