"""``hesstore import``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import Choice, setting_options, store_argument
from hesstore_cli.stop_request import StopRequest
from hesstore_cli.terminal.account import account_lines
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.point_text import point_text
from hesstore_cli.terminal.streams import write_line
from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import fitted, width

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
    help="Compute metrics, gradient, spectrum and class geometry from the weights, and print how much the files "
    "differ from them.",
)
@click.option(
    "--reg-loss",
    type=Choice(["full", "objective"]),
    help="What Train_Reg_Loss adds to Train_Loss: full is λ‖θ‖², objective is the penalty of the objective.  "
    "[default: what the files show, or else full]",
)
@click.option(
    "--buffers",
    metavar="NAMES",
    help="Names of the tensors in the weight files that are buffers, not parameters, such as mask,pos; or none.  "
    "[default: those without a gradient, or an error if a name is doubtful]",
)
@click.option("--dry-run", is_flag=True, help="Read and check all files, print what they are read as, and stop.")
@setting_options
def import_(
    sources: tuple[str, ...],
    store: str,
    settings: dict[str, Any],
    *,
    recompute: bool,
    reg_loss: str | None,
    buffers: str | None,
    dry_run: bool,
) -> int:
    """Create STORE from files of an export or the original scripts.

    SOURCE is a folder with such files, or such a file. The numbers are stored unchanged. If no manifest describes how
    the files were made, give the settings as options. `hesstore analyse` computes everything from other checkpoints.

    \b
    Files in the folder (any of them may be missing):
      Model-ID….csv, or any table with a column L2_strength
      Hessian-eigenvalues-ID-L2.csv, Hessian-eigenvectors-…
      gradients-…, model_weights-ID-L2.pth

    \b
    Examples:
      hesstore import test_data/ imported.zarr
      hesstore import test_data/ imported.zarr --dry-run
      hesstore import "lr=0.0015_1.csv" eigenvalues/ published.zarr
      hesstore import test_data/ again.zarr --recompute --dataset mnist-5k
    """
    from hesstore.importing import import_files
    from hesstore_cli.terminal.bars import ByteBar
    from hesstore_cli.terminal.sweep_reporter import SweepReporter

    stop = StopRequest(None)
    with stop, ByteBar("reading") as bar, SweepReporter() as reporter:
        summary = import_files(
            sources,
            store,
            settings=settings,
            recompute=recompute,
            reg_loss=reg_loss,
            buffers=None if buffers is None else [] if buffers == "none" else buffers.split(","),
            dry_run=dry_run,
            progress=bar.advance,
            observer=reporter,
            stop=stop,
        )
    for line in account_lines(summary.account, complete=dry_run, width=width(None if dry_run else sys.stderr)):
        click.echo(fitted(line, None if dry_run else sys.stderr), err=not dry_run)
    for line in _difference_lines(summary.differences):
        click.echo(fitted(line))
    if dry_run:
        write_line(_dry_run_line(summary, store))
        return ExitStatus.DONE
    write_line(_summary_line(summary, store, recompute=recompute))
    if summary.pending:
        return stop.status or ExitStatus.DONE
    return ExitStatus.SOME_FAILED if summary.failed else ExitStatus.DONE


def _difference_lines(differences: Sequence[Difference]) -> list[str]:
    """Return how much the numbers in the files differ from the computed ones, one quantity per line."""
    rows = [
        (
            each.quantity,
            each.unit,
            str(each.count),
            f"{each.median:.2g}",
            f"{each.largest:.2g}",
            point_text(each.run, each.l2),
        )
        for each in differences
    ]
    headings = ("files against weights", "unit", "grid points", "median", "largest", "at")
    return table(headings, rows, width=width()) if rows else []


def _dry_run_line(summary: ImportSummary, store: str) -> str:
    """Return what an import would do, in one line."""
    files, points = counted(summary.files, "file"), counted(summary.points, "grid point")
    message = f"{files} can be imported, {points}; nothing was written"
    if summary.ignored:
        message += _ignored(summary)
    return f"{message}: leave out --dry-run to create {store}"


def _ignored(summary: ImportSummary) -> str:
    names = ", ".join(path.name for path in summary.ignored[:3])
    return f"; {counted(len(summary.ignored), 'other file')} ignored, such as {names}"


def _summary_line(summary: ImportSummary, store: str, *, recompute: bool) -> str:
    """Return what was imported and what to do next, in one line."""
    where = shlex.quote(store)
    files, points = counted(summary.files, "file"), counted(summary.points, "grid point")
    message = f"{files} imported into {store}, {points}"
    if summary.ignored:
        message += _ignored(summary)
    if summary.failed:
        message += f"; {counted(summary.failed, 'grid point')} failed (hesstore info {where} shows why)"
    if summary.pending:
        pending = counted(summary.pending, "grid point")
        return f"{message}; {pending} not computed yet: run the same command again to continue"
    if recompute:
        return message
    return f"{message}; missing values are NaN: --recompute, with another STORE, computes them from the weights"
