"""``hesstore export``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from hesstore.errors import size_text
from hesstore_cli import completion_values
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import Choice, runs_option, store_argument
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.streams import write_line

if TYPE_CHECKING:
    from hesstore.exporting import ExportSummary

NAMED = 8
"""Skipped grid points of a run that are named at most."""


@click.command(cls=Command)
@store_argument
@click.option(
    "--format",
    "format_",
    type=Choice(["csv", "parquet", "pth", "safetensors", "netcdf", "zip", "hub"]),
    default="csv",
    metavar="FORMAT",
    show_default=True,
    help="Format of the files; see below.",
)
@click.option(
    "--style",
    type=Choice(["classic", "tidy"]),
    default="classic",
    show_default=True,
    help="Layout of CSV: classic writes the files that the original scripts write; tidy writes one table per kind.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Output folder, or output file.  [default: test_data; tables: tables; pth: weights; else from STORE's name]",
    shell_complete=completion_values.files,
)
@click.option("--l2", metavar="A,B,…", help="Only these λ.  [default: all complete ones]")
@runs_option
@click.option(
    "--only",
    metavar="KIND,…",
    help="Only some of accuracy, eigenvalues, eigenvectors, gradients, weights (or the tables of tidy and parquet).  "
    "[default: all]",
    shell_complete=completion_values.comma_list("accuracy", "eigenvalues", "eigenvectors", "gradients", "weights"),
)
@click.option("--compress", type=Choice(["gz", "zst"]), help="Compress text files; gz also compresses netcdf.")
@click.option("--no-vectors", is_flag=True, help="Leave out eigenvectors, gradients and weights, for a small file.")
@click.option("--split-runs", is_flag=True, help="Write one netcdf file per run.")
@click.option(
    "--reg-loss",
    type=Choice(["full", "objective"]),
    default="full",
    show_default=True,
    help="What Train_Reg_Loss adds to Train_Loss: full is λ‖θ‖², as in the published tables; objective is the penalty "
    "of the objective.",
)
@click.option(
    "--licence", "--license", metavar="ID", help="Licence of the data for the card of a hub, such as cc-by-4.0."
)
@click.option("--force", is_flag=True, help="Write all files again and replace existing ones.")
def export(
    *,
    store: str,
    format_: str,
    style: str,
    output: str | None,
    l2: str | None,
    runs: tuple[int, ...],
    only: str | None,
    compress: str | None,
    no_vectors: bool,
    split_runs: bool,
    reg_loss: str,
    licence: str | None,
    force: bool,
) -> int:
    """Export complete grid points to files for other programs.

    If some of the files exist, only the missing ones are written. A manifest next to the files lists their checksums.

    \b
    Formats:
      csv      CSV files that the original scripts read, and
               weights as .pth; --style tidy: tables
      parquet  the same tables
      pth      weights only, for torch.load; also safetensors
      netcdf   one netCDF-4/HDF5 file
      zip      the whole store in one file, which hesstore
               and zarr open directly
      hub      a folder for a data set hub: card, figure,
               Parquet tables and the packed store

    \b
    Examples:
      hesstore export quickstart.zarr --format csv
      hesstore export quickstart.zarr -o out --l2 0,0.006 --only eigenvalues,gradients
      hesstore export quickstart.zarr --format netcdf --no-vectors -o small.nc
      hesstore export quickstart.zarr --format hub --licence cc-by-4.0
    """
    from hesstore.config.l2_grid import parse_l2
    from hesstore.exporting import export as export_files
    from hesstore_cli.terminal.bars import ByteBar

    try:
        chosen = None if l2 is None else parse_l2(l2)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--l2") from None
    kinds = None if only is None else tuple(kind.strip() for kind in only.split(",") if kind.strip())
    try:
        with ByteBar("writing") as bar:
            summary = export_files(
                store,
                output,
                format=format_,
                style=style,
                l2=chosen,
                runs=runs or None,
                only=kinds,
                compress=compress,
                vectors=not no_vectors,
                split_runs=split_runs,
                reg_loss=reg_loss,
                licence=licence,
                force=force,
                progress=bar.advance,
            )
    except KeyboardInterrupt:
        write_line("hesstore: stopped; existing files are complete: run the same command again to continue")
        return ExitStatus.INTERRUPTED
    write_line(_summary_text(summary, store, is_one_file=format_ in {"netcdf", "zip"}))
    return ExitStatus.DONE


def _summary_text(summary: ExportSummary, store: str, *, is_one_file: bool) -> str:
    """Return what was written and what was left out, in one or two lines."""
    message = f"{counted(summary.files, 'file')}, {size_text(summary.bytes)}, written to {summary.path}"
    if summary.present:
        message += f"; {counted(summary.present, 'complete file')} already existed (--force writes them again)"
    if summary.skipped:
        are = "grid point is" if len(summary.skipped) == 1 else "grid points are"
        included = "included unchanged" if is_one_file else "left out"
        where = f"hesstore info {shlex.quote(store)}"
        message += f"\n{len(summary.skipped)} {are} not complete, and {included}: {_named(summary.skipped)} ({where})"
    return message


def _named(skipped: tuple[tuple[int, float], ...]) -> str:
    """Return the first few skipped λ of each run."""
    by_run: dict[int, list[float]] = {}
    for run, l2 in skipped:
        by_run.setdefault(run, []).append(l2)
    parts = []
    for run, values in by_run.items():
        more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
        parts.append(f"run {run}: {', '.join(f'{l2:.10g}' for l2 in values[:NAMED])}{more}")
    return "; ".join(parts)
