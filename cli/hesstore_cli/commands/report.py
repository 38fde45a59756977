"""``hesstore report``."""

from __future__ import annotations

import click

from hesstore.errors import size_text
from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import default_output, open_in_browser, open_option, output_file, runs_option, stores_argument
from hesstore_cli.terminal.streams import write_line

ENDINGS = (".html", ".htm")


@click.command(cls=Command)
@stores_argument
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Output file: .html or .htm.  [default: from STORE's name; several: report.html]",
    shell_complete=completion_values.files,
)
@open_option
@runs_option
@click.option("--title", metavar="TEXT", help="Title of the page.  [default: the names of the stores]")
@click.option(
    "--no-overlap", is_flag=True, help="Leave out the overlap map, for which eigenvectors of up to 151 λ are read."
)
def report(
    *,
    stores: tuple[str, ...],
    output: str | None,
    opening: bool,
    runs: tuple[int, ...],
    title: str | None,
    no_overlap: bool,
) -> None:
    """Write an HTML report of one or several stores.

    The report contains figures, maps and tables of all runs and grid points. It is one file, which a browser opens
    without a network connection. Grid points that are not complete are listed but not drawn. The runs of several stores
    get new numbers, in the order of the stores.

    \b
    Examples:
      hesstore report quickstart.zarr --open
      hesstore report lr1.zarr lr2.zarr -o both.html
      hesstore report s3://bucket/run.zarr -o report.html --title "Fashion-MNIST, both ways"
    """
    import hesstore
    from hesstore.report import report as write_report
    from hesstore_cli.terminal.bars import Bar

    is_one = len(stores) == 1
    path = output_file(output or (default_output(stores[0], ".html") if is_one else "report.html"), *ENDINGS)
    source = stores[0] if is_one else hesstore.open(stores)
    names = title or (None if is_one else ", ".join(default_output(store, "") for store in stores))
    with Bar("reading grid points") as bar:
        write_report(source, path, runs=runs or None, title=names, progress=bar.advance, overlap=not no_overlap)
    write_line(f"report of {', '.join(stores)} written to {path}, {size_text(path.stat().st_size)}")
    if opening:
        open_in_browser(path)
