"""``hesstore report``."""

from __future__ import annotations

import click

from hesstore_cli.options import store_argument
from hesstore_cli.terminal.amounts import size

ENDINGS = (".html", ".htm")


@click.command()
@store_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to: .html.")
@click.option("--run", "runs", multiple=True, type=int, metavar="ID", help="Only this run; repeatable.  [all]")
@click.option("--title", metavar="TEXT", help="Title of the page.  [default: STORE's name]")
def report(*, store: str, output: str, runs: tuple[int, ...], title: str | None) -> None:
    """Make a page of STORE to look at in a browser: plots, maps and tables, of all runs and λ.

    The page is one file that needs no network. λ that are not complete are named in it, not drawn.

    \b
    Examples:
      hesstore report quickstart.zarr -o report.html
      hesstore report s3://bucket/run.zarr -o report.html --title "Fashion-MNIST, both ways"
    """
    from pathlib import Path

    from hesstore.report import report as write_report
    from hesstore_cli.terminal.console import Bar

    path = Path(output)
    if path.suffix.lower() not in ENDINGS:
        raise click.BadParameter(f"{output!r} does not end in .html", param_hint="--output")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output!r} does not exist", param_hint="--output")
    if path.is_dir():
        raise click.BadParameter(f"{output!r} is a folder", param_hint="--output")
    with Bar("reading λ") as bar:
        write_report(store, path, runs=runs or None, title=title, progress=bar.advance)
    click.echo(f"report of {store} in {output}, {size(path.stat().st_size)}", err=True)
