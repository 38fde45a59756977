"""``hesstore diff``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hesstore.comparison.compare import Comparison

WIDEST = 40
"""Characters of a value that are shown."""


class Trouble(click.ClickException):
    """What keeps two stores from being compared: not 1, which says that they differ."""

    exit_code = ExitStatus.USAGE


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=str), shell_complete=completion_values.stores)
@click.argument("b", metavar="B", type=click.Path(path_type=str), shell_complete=completion_values.stores)
@click.option("--config-only", is_flag=True, help="Leave the results alone: no array is read.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def diff(a: str, b: str, *, config_only: bool, as_json: bool) -> int:
    """Say how the stores A and B differ: in config, environment and results.

    Results are compared at each λ that is complete in both, run by run of the same seed and direction; of each variable
    the largest difference is shown, also relative to the variable's largest magnitude at that λ. Of eigenvectors it is
    1 − overlap of their spans. Times are not compared, nor what one store has no values of. All is read, and held
    against its digests.

    \b
    Exit status:
      0  the same λ are complete, with the same results
      1  results differ, or λ are complete in one alone
      2  one can't be read
      3  the configs differ, whatever the results
      5  one is damaged

    \b
    Examples:
      hesstore diff run.zarr again.zarr
      hesstore diff run.zarr s3://bucket/run.zarr --json
      hesstore diff a.zarr b.zarr --config-only && echo the same
    """
    from hesstore.comparison.compare import compare, compare_configs
    from hesstore.errors import StoreUnreachableError
    from hesstore.store import open as open_store
    from hesstore_cli.terminal.console import Bar

    try:
        first, second = (open_store(name, chunked=False) for name in (a, b))
        if config_only:
            found = compare_configs(first, second)
        else:
            with Bar("comparing") as bar:
                found = compare(first, second, bar.advance)
    except (OSError, StoreUnreachableError) as error:
        raise Trouble(str(error)) from error
    if as_json:
        click.echo(json.dumps(_facts(found, config_only=config_only), indent=2, allow_nan=False))
    else:
        for line in _lines(found, config_only=config_only):
            click.echo(line)
    if not found.same_config:
        return ExitStatus.OTHER_CONFIG
    return ExitStatus.DONE if config_only or found.same_results else ExitStatus.FAILED


def _facts(found: Comparison, *, config_only: bool) -> dict[str, Any]:
    """The comparison for programs; null where a number stands against none, and for results that were left alone."""
    same_results = None if config_only else found.same_results
    facts: dict[str, Any] = {"same_config": found.same_config, "same_results": same_results, **asdict(found)}
    for difference in facts["differences"]:
        for name in ("absolute", "relative"):
            if difference[name] is not None and not math.isfinite(difference[name]):
                difference[name] = None
    return facts


def _lines(found: Comparison, *, config_only: bool) -> Iterator[str]:
    """The comparison for people."""
    for heading, values in (
        ("config", found.config),
        ("environment (no difference of results)", found.environment),
        ("variables that have another shape", found.shapes),
    ):
        if values:
            rows = [(name, _cut(first), _cut(second)) for name, (first, second) in values.items()]
            yield from (*_table((heading, "A", "B"), rows), "")
    remarks = list(_remarks(found))
    if remarks:
        yield from (*remarks, "")
    if config_only:
        yield "the configs differ" if found.config else "the configs are the same"
        return
    yield f"{found.common} λ are complete in both, {found.only_a} only in A, {found.only_b} only in B"
    if found.common and found.identical is not None:
        yield f"{found.identical} of them have the same large arrays (weights, eigenvectors, …), to the byte"
    if found.common:
        yield from _results(found)


def _remarks(found: Comparison) -> Iterator[str]:
    """What one store alone has, a line each."""
    if found.imported:
        yield f"{' and '.join(found.imported)} {'was' if len(found.imported) == 1 else 'were'} imported from files"
    for what, names in (
        ("recorded in A alone", found.recorded_only_a),
        ("recorded in B alone", found.recorded_only_b),
        ("results only in A", found.variables_only_a),
        ("results only in B", found.variables_only_b),
        ("compared as far as the import has values", found.gaps),
    ):
        if names:
            yield f"{what}: {', '.join(names)}"


def _results(found: Comparison) -> Iterator[str]:
    from hesstore.comparison.compare import BY_VECTOR

    rows = [
        (
            f"{each.variable}{' *' if each.variable in BY_VECTOR else ''}",
            f"{each.differing} of {found.common}",
            _amount(each.absolute),
            _amount(each.relative),
            f"run {each.run}, λ = {each.l2:.10g}",
        )
        for each in found.differences
        if each.differing
    ]
    if not rows:
        partial = found.variables_only_a or found.variables_only_b or found.gaps or found.shapes
        same = f"all values {'that can be compared ' if partial else ''}are the same"
        yield same if found.differences else "no variable has values that can be compared"
        return
    yield ""
    yield from _table(("results", "λ that differ", "largest", "relative", "at"), rows)
    if any(each.differing and each.variable in BY_VECTOR for each in found.differences):
        yield "* of single eigenvectors, which are arbitrary where eigenvalues nearly coincide"
    alike = [each.variable for each in found.differences if not each.differing]
    yield f"\nthe same everywhere: {', '.join(alike) or 'nothing'}"


def _amount(value: float | None) -> str:
    if value is None:
        return ""
    return "one has none" if math.isnan(value) else f"{value:.2g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cut(value: str) -> str:
    return value if len(value) <= WIDEST else f"{value[: WIDEST - 1]}…"
