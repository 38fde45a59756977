"""``hesstore export``."""

from __future__ import annotations

import click

from hesstore_cli.options import store_argument


@click.command()
@store_argument
@click.option(
    "--format", "format_", type=click.Choice(["csv"]), default="csv", show_default=True, help="Kind of files."
)
@click.option("-o", "--output", default="test_data", show_default=True, metavar="DIR", help="Folder of the files.")
@click.option("--l2", metavar="A,B,…", help="Only these λ.  [all complete ones]")
@click.option("--run", "runs", multiple=True, type=int, metavar="ID", help="Only this run; repeatable.  [all]")
@click.option(
    "--only", metavar="KIND,…", help="Some of accuracy, eigenvalues, eigenvectors, gradients, weights.  [all]"
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def export(
    *, store: str, format_: str, output: str, l2: str | None, runs: tuple[int, ...], only: str | None, force: bool
) -> None:
    """Write the CSV and .pth files of STORE's complete λ.

    \b
    Examples:
      hesstore export quickstart.zarr --format csv
      hesstore export quickstart.zarr -o out --l2 0,0.006 --only eigenvalues,gradients
    """
    from hesstore.config import parse_l2
    from hesstore.exporting import KINDS, export_csv
    from hesstore_cli.console import Bar, size

    del format_  # one kind so far
    try:
        chosen = None if l2 is None else parse_l2(l2)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--l2") from None
    kinds = KINDS if only is None else tuple(kind.strip() for kind in only.split(",") if kind.strip())
    with Bar("writing files") as bar:
        summary = export_csv(store, output, l2=chosen, runs=runs or None, only=kinds, force=force, progress=bar.advance)
    message = f"{summary.files} files, {size(summary.bytes)}, in {output}"
    if summary.skipped:
        message += f"; {len(summary.skipped)} λ that are not complete were left out"
    click.echo(message, err=True)
