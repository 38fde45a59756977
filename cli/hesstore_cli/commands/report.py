"""``hesstore report``."""

from __future__ import annotations

import click

from hesstore_cli.help_pages import Command
from hesstore_cli.options import output_file, runs_option, store_argument
from hesstore_cli.terminal.amounts import size

ENDINGS = (".html", ".htm")


@click.command(cls=Command)
@store_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="Output file: .html or .htm.")
@runs_option
@click.option("--title", metavar="TEXT", help="Title of the page.  [default: the name of STORE]")
@click.option(
    "--no-overlap", is_flag=True, help="Leave out the overlap map, for which eigenvectors of up to 151 λ are read."
)
def report(*, store: str, output: str, runs: tuple[int, ...], title: str | None, no_overlap: bool) -> None:
    """Write an HTML report of STORE.

    The report contains figures, maps and tables of all runs and grid points. It is one file, which a browser opens
    without a network connection. Grid points that are not complete are listed but not drawn.

    \b
    Examples:
      hesstore report quickstart.zarr -o report.html
      hesstore report s3://bucket/run.zarr -o report.html --title "Fashion-MNIST, both ways"
    """
    from hesstore.report import report as write_report
    from hesstore_cli.terminal.bars import Bar

    path = output_file(output, *ENDINGS)
    with Bar("reading grid points") as bar:
        write_report(store, path, runs=runs or None, title=title, progress=bar.advance, overlap=not no_overlap)
    click.echo(f"report of {store} written to {output}, {size(path.stat().st_size)}", err=True)
