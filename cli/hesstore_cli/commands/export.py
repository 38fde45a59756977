"""``hesstore export``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from hesstore_cli import completion_values
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.options import Choice, store_argument
from hesstore_cli.terminal.amounts import size

if TYPE_CHECKING:
    from hesstore.exporting import ExportSummary

NAMED = 8


@click.command()
@store_argument
@click.option(
    "--format",
    "format_",
    type=Choice(["csv", "parquet", "pth", "safetensors", "netcdf", "zip"]),
    default="csv",
    show_default=True,
    help="Kind of files.",
)
@click.option(
    "--style",
    type=Choice(["classic", "tidy"]),
    default="classic",
    show_default=True,
    help="Of CSV: the field's scripts' files, or a table a kind.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Folder of the files, or the file.  [csv: test_data; tables: tables; pth: weights; else by STORE's name]",
    shell_complete=completion_values.files,
)
@click.option("--l2", metavar="A,B,…", help="Only these λ.  [all complete ones]")
@click.option("--run", "runs", multiple=True, type=int, metavar="ID", help="Only this run; repeatable.  [all]")
@click.option(
    "--only",
    metavar="KIND,…",
    help="Some of accuracy, eigenvalues, eigenvectors, gradients, weights (or the tables of tidy and parquet).  [all]",
    shell_complete=completion_values.listed("accuracy", "eigenvalues", "eigenvectors", "gradients", "weights"),
)
@click.option("--compress", type=Choice(["gz", "zst"]), help="Compress text; gz also netcdf.")
@click.option("--no-vectors", is_flag=True, help="Leave out eigenvectors, gradients and weights: a small file.")
@click.option("--split-runs", is_flag=True, help="netcdf: a file a run.")
@click.option("--force", is_flag=True, help="Write all files anew, over any that are there.")
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
    force: bool,
) -> int:
    """Write files of STORE's complete λ, for other programs.

    A second run writes what is missing; a manifest beside the files has their checksums.

    \b
    Formats:
      csv      files of the field's scripts, weights as .pth;
               --style tidy: tables
      parquet  the same tables
      pth      weights alone, for torch.load; safetensors too
      netcdf   one netCDF-4/HDF5 file
      zip      the store in one file, which hesstore and zarr
               open as it is

    \b
    Examples:
      hesstore export quickstart.zarr --format csv
      hesstore export quickstart.zarr -o out --l2 0,0.006 --only eigenvalues,gradients
      hesstore export quickstart.zarr --format netcdf --no-vectors -o small.nc
    """
    from hesstore.config.l2_grid import parse_l2
    from hesstore.exporting import export as export_files
    from hesstore_cli.terminal.console import ByteBar

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
                force=force,
                progress=bar.advance,
            )
    except KeyboardInterrupt:
        click.echo("hesstore: stopped; files that are there are whole: the same command goes on from there", err=True)
        return ExitStatus.INTERRUPTED
    click.echo(_ending(summary, store, in_one_file=format_ in {"netcdf", "zip"}), err=True)
    return ExitStatus.DONE


def _ending(summary: ExportSummary, store: str, *, in_one_file: bool) -> str:
    """What was written and what was not, in a line or two."""
    files = "1 file" if summary.files == 1 else f"{summary.files} files"
    message = f"{files}, {size(summary.bytes)}, in {summary.path}"
    if summary.present:
        message += f"; {summary.present} were there already, complete (--force writes them anew)"
    if summary.skipped:
        kept = "not complete, and in it as they are" if in_one_file else "not complete, and left out"
        message += (
            f"\n{len(summary.skipped)} λ are {kept}: {_named(summary.skipped)} (hesstore info {shlex.quote(store)})"
        )
    return message


def _named(skipped: tuple[tuple[int, float], ...]) -> str:
    """Each run with its λ, the first few of them."""
    by_run: dict[int, list[float]] = {}
    for run, l2 in skipped:
        by_run.setdefault(run, []).append(l2)
    parts = []
    for run, strengths in by_run.items():
        more = f" and {len(strengths) - NAMED} more" if len(strengths) > NAMED else ""
        parts.append(f"run {run}: {', '.join(f'{l2:.10g}' for l2 in strengths[:NAMED])}{more}")
    return "; ".join(parts)
