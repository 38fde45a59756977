"""``hesstore plot``."""

from __future__ import annotations

import click

from hesstore_cli.options import store_argument


@click.command()
@click.argument("kind", type=click.Choice(["accuracy", "spectrum", "summary"]))
@store_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to: .png, .svg or .pdf.")
@click.option("--run", default=0, show_default=True, metavar="ID", help="Which run.")
def plot(kind: str, store: str, output: str, run: int) -> None:
    """Draw a picture of STORE: class accuracies, eigenvalues, or both against λ.

    \b
    Example:
      hesstore plot summary quickstart.zarr -o summary.svg
    """
    from pathlib import Path

    import hesstore
    from hesstore import plots

    if Path(output).suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise click.BadParameter(f"{output!r} does not end in .png, .svg or .pdf", param_hint="--output")
    if not Path(output).absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output!r} does not exist", param_hint="--output")
    figure = plots.KINDS[kind](hesstore.open(store), run)
    plots.save(figure, Path(output))
    click.echo(f"{kind} of run {run} in {output}", err=True)
