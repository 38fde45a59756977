"""``hesstore diff``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import json_option
from hesstore_cli.terminal.point_text import point_text
from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import fitted, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hesstore.comparison.compare import Comparison

WIDEST = 40
"""Characters of a value that are shown at most."""


class CannotCompareError(click.ClickException):
    """Two stores cannot be compared; its exit status is not 1, which means that they differ."""

    exit_code = ExitStatus.USAGE


@click.command(cls=Command)
@click.argument("a", metavar="A", type=click.Path(path_type=str), shell_complete=completion_values.stores)
@click.argument("b", metavar="B", type=click.Path(path_type=str), shell_complete=completion_values.stores)
@click.option("--config-only", is_flag=True, help="Compare only configs and environments; read no arrays.")
@json_option
def diff(a: str, b: str, *, config_only: bool, as_json: bool) -> int:
    """Compare two stores: configs, environments and results.

    Results are compared at each grid point that is complete in both stores, between runs with the same seed and
    direction. For each variable, the output shows the largest difference, also relative to the largest magnitude of
    the variable at that grid point. For eigenvectors, it is one minus the overlap of their spans.

    Times are not compared, and neither are values that only one store has. All data is read and checked against its
    digests.

    \b
    Exit status:
      0  the same grid points are complete; equal results
      1  results differ, or a grid point is complete in one
         store only
      2  a store cannot be read
      3  the configs differ (the results may be equal)
      5  a store is damaged

    \b
    Examples:
      hesstore diff run.zarr again.zarr
      hesstore diff run.zarr s3://bucket/run.zarr --json
      hesstore diff a.zarr b.zarr --config-only && echo the same
    """
    from hesstore.comparison.compare import compare, compare_configs
    from hesstore.errors import StoreUnreachableError
    from hesstore.store import open as open_store
    from hesstore_cli.terminal.bars import Bar

    try:
        first, second = (open_store(name, chunked=False, check=not config_only) for name in (a, b))
        if config_only:
            found = compare_configs(first, second)
        else:
            with Bar("comparing") as bar:
                found = compare(first, second, bar.advance)
    except (OSError, StoreUnreachableError) as error:
        raise CannotCompareError(str(error)) from error
    if as_json:
        click.echo(json.dumps(_facts(found, config_only=config_only), indent=2, allow_nan=False))
    else:
        for line in _lines(found, config_only=config_only):
            click.echo(fitted(line))
    if not found.same_config:
        return ExitStatus.OTHER_CONFIG
    return ExitStatus.DONE if config_only or found.same_results else ExitStatus.FAILED


def _facts(found: Comparison, *, config_only: bool) -> dict[str, Any]:
    """Return the facts for ``--json``; null stands for an infinite difference and for results not compared."""
    same_results = None if config_only else found.same_results
    facts: dict[str, Any] = {"same_config": found.same_config, "same_results": same_results, **asdict(found)}
    for difference in facts["differences"]:
        for name in ("absolute", "relative"):
            if difference[name] is not None and not math.isfinite(difference[name]):
                difference[name] = None
    return facts


def _lines(found: Comparison, *, config_only: bool) -> Iterator[str]:
    """Yield the lines of the comparison."""
    for heading, values in (
        ("config", found.config),
        ("environment (does not count as a difference)", found.environment),
        ("shapes of variables", found.shapes),
    ):
        if values:
            rows = [(name, _cut(first), _cut(second)) for name, (first, second) in values.items()]
            yield from (*table((heading, "A", "B"), rows, width=width()), "")
    remarks = list(_remarks(found))
    if remarks:
        yield from (*remarks, "")
    if config_only:
        yield "the configs differ" if found.config else "the configs are the same"
        return
    yield f"grid points complete in both stores: {found.common}, only in A: {found.only_a}, only in B: {found.only_b}"
    if found.common and found.identical is not None:
        yield f"{found.identical} of {found.common} have identical bytes in all large arrays (weights, eigenvectors, …)"
    if found.common:
        yield from _result_lines(found)


def _remarks(found: Comparison) -> Iterator[str]:
    """Yield what only one of the stores has, one line each."""
    if found.imported:
        yield f"{' and '.join(found.imported)} {'was' if len(found.imported) == 1 else 'were'} imported from files"
    for what, names in (
        ("recorded only in A", found.recorded_only_a),
        ("recorded only in B", found.recorded_only_b),
        ("results only in A", found.variables_only_a),
        ("results only in B", found.variables_only_b),
        ("compared only where the import has values", found.gaps),
    ):
        if names:
            yield f"{what}: {', '.join(names)}"


def _result_lines(found: Comparison) -> Iterator[str]:
    """Yield the variables that differ as a table, and the names of the others."""
    from hesstore.comparison.compare import BY_VECTOR

    rows = [
        (
            f"{each.variable}{' *' if each.variable in BY_VECTOR else ''}",
            f"{each.differing} of {found.common}",
            _amount(each.absolute),
            _amount(each.relative),
            point_text(each.run, each.value, each.axis),
        )
        for each in found.differences
        if each.differing
    ]
    if not rows:
        is_partial = found.variables_only_a or found.variables_only_b or found.gaps or found.shapes
        same = f"all values {'that can be compared ' if is_partial else ''}are the same"
        yield same if found.differences else "no variable has values that can be compared"
        return
    yield ""
    yield from table(("results", "grid points", "largest difference", "relative", "at"), rows, width=width())
    if any(each.differing and each.variable in BY_VECTOR for each in found.differences):
        yield "* from single eigenvectors, which are arbitrary where eigenvalues are nearly equal"
    same_names = [each.variable for each in found.differences if not each.differing]
    yield f"\nthe same in both stores: {', '.join(same_names) or 'nothing'}"


def _amount(value: float | None) -> str:
    if value is None:
        return ""
    return "missing in one" if math.isnan(value) else f"{value:.2g}"


def _cut(value: str) -> str:
    return value if len(value) <= WIDEST else f"{value[: WIDEST - 1]}…"
