"""``hesstore report``."""

from __future__ import annotations

import click

from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import default_output, open_in_browser, open_option, output_file, runs_option, store_argument
from hesstore_cli.terminal.amounts import size
from hesstore_cli.terminal.streams import write_line

ENDINGS = (".html", ".htm")


@click.command(cls=Command)
@store_argument
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Output file: .html or .htm.  [default: from STORE's name]",
    shell_complete=completion_values.files,
)
@open_option
@runs_option
@click.option("--title", metavar="TEXT", help="Title of the page.  [default: the name of STORE]")
def report(*, store: str, output: str | None, opening: bool, runs: tuple[int, ...], title: str | None) -> None:
    """Write an HTML report of STORE.

    The report contains figures, maps and tables of all runs and grid points. It is one file, which a browser opens
    without a network connection. Grid points that are not complete are listed but not drawn.

    \b
    Examples:
      hesstore report quickstart.zarr --open
      hesstore report s3://bucket/run.zarr -o report.html --title "Fashion-MNIST, both ways"
    """
    from hesstore.report import report as write_report
    from hesstore_cli.terminal.bars import Bar

    path = output_file(output or default_output(store, ".html"), *ENDINGS)
    with Bar("reading grid points") as bar:
        write_report(store, path, runs=runs or None, title=title, progress=bar.advance)
    write_line(f"report of {store} written to {path}, {size(path.stat().st_size)}")
    if opening:
        open_in_browser(path)
