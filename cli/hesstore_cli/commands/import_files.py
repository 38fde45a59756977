"""``hesstore import``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import setting_options, store_argument
from hesstore_cli.stop_request import StopRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.importing import Difference, ImportSummary


@click.command("import", cls=Command)
@click.argument(
    "sources",
    metavar="SOURCE…",
    nargs=-1,
    required=True,
    type=click.Path(path_type=str),
    shell_complete=completion_values.files,
)
@store_argument
@click.option(
    "--recompute",
    is_flag=True,
    help="Compute metrics, gradient, spectrum and class geometry from the weights, and say how far the files are off.",
)
@click.option("--l2-from-name", is_flag=True, help="SOURCEs are checkpoints with λ in their names.")
@setting_options
def import_(
    sources: tuple[str, ...], store: str, settings: dict[str, Any], *, recompute: bool, l2_from_name: bool
) -> int:
    """Make STORE of files that hesstore or the field's scripts wrote, or of checkpoints.

    SOURCE is a folder with Model-ID….csv, Hessian-eigenvalues-ID-L2.csv, Hessian-eigenvectors-…, gradients-… and
    model_weights-ID-L2.pth, or such files; any of them may be missing. Numbers are stored as they are. The settings say
    what the files were made with, where no manifest does.

    \b
    Examples:
      hesstore import test_data/ imported.zarr
      hesstore import test_data/ again.zarr --recompute --dataset mnist-5k
      hesstore import models/*.pth mine.zarr --l2-from-name --recompute --model mynet:build
    """
    from hesstore.importing import import_files
    from hesstore_cli.terminal.console import ByteBar, SweepReporter

    stop = StopRequest(None)
    with stop, ByteBar("reading") as bar, SweepReporter() as reporter:
        summary = import_files(
            sources,
            store,
            settings=settings,
            recompute=recompute,
            l2_from_name=l2_from_name,
            progress=bar.advance,
            observer=reporter,
            stop=stop,
        )
    for line in _table(summary.differences):
        click.echo(line)
    click.echo(_ending(summary, store, recompute=recompute), err=True)
    if summary.pending:
        return stop.status or ExitStatus.DONE
    return ExitStatus.SOME_FAILED if summary.failed else ExitStatus.DONE


def _table(differences: Sequence[Difference]) -> list[str]:
    """How far the files' numbers are from the computed ones, a quantity a line."""
    if not differences:
        return []
    rows = [("files against weights", "unit", "λ", "median", "largest", "at")]
    for each in differences:
        at = f"run {each.run}, λ = {each.l2:.10g}"
        rows.append((each.quantity, each.unit, str(each.count), f"{each.median:.2g}", f"{each.largest:.2g}", at))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _ending(summary: ImportSummary, store: str, *, recompute: bool) -> str:
    where = shlex.quote(store)
    message = f"{summary.files} files, {summary.points} λ, in {store}"
    if summary.ignored:
        names = ", ".join(path.name for path in summary.ignored[:3])
        message += f"; {len(summary.ignored)} other files were left alone, such as {names}"
    if summary.failed:
        message += f"; {summary.failed} λ failed (hesstore info {where} says why)"
    if summary.pending:
        return f"{message}; {summary.pending} λ are still to be computed: the same command goes on from there"
    if recompute:
        return message
    return f"{message}; what the files lack is NaN: --recompute, with another STORE, computes it from weights"
