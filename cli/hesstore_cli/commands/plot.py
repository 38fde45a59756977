"""``hesstore plot``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import Choice, output_file, store_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KINDS = (
    *("accuracy", "losses", "spectrum", "classes", "overlap", "tracks", "clusters", "alignment", "measures", "index"),
    *("density", "gradient", "hysteresis", "response", "summary"),
)
ENDINGS = (".png", ".svg", ".pdf")


@click.command(cls=Command)
@click.argument("kind", type=Choice(KINDS), metavar="KIND")
@store_argument
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Output file: .png, .svg or .pdf.",
    shell_complete=completion_values.files,
)
@click.option("--run", default=0, show_default=True, metavar="ID", help="Run to draw.")
@click.option(
    "--l2",
    type=float,
    metavar="X",
    help="Value of λ.  [default: the last one before a class is lost; density: several]",
)
@click.option("--split", type=Choice(["train", "test"]), help="Split of the data.")
@click.option(
    "--k",
    type=click.IntRange(1),
    metavar="N",
    help="Number of eigenvectors.  [default: classes − 1; tracks, clusters: all]",
)
@click.option(
    "--radius",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="Length of the step for the sharpness, in units of ‖θ‖.  [default: 0.01]",
)
@click.option(
    "--skill",
    is_flag=True,
    default=None,
    help="Draw skill instead of accuracy: 0 means guessing, 1 means always right.",
)
@click.option(
    "--shift", is_flag=True, default=None, help="Draw the eigenvalues of the objective, which includes the penalty."
)
def plot(kind: str, store: str, output: str, run: int, **options: object) -> None:
    """Draw a figure from STORE.

    \b
    Against λ:
      accuracy    accuracy of each class  [--split, --skill]
      losses      losses, and ‖θ‖ or the distance
      spectrum    eigenvalues  [--shift]
      tracks      eigenvalues, by eigenvector  [--k]
      clusters    clusters of eigenvalues, by span  [--k]
      alignment   top span and class gradients  [--split, --k]
      measures    effective dimension, entropy …  [--radius]
      index       negative eigenvalues of the objective
      gradient    gradients, stationarity  [--split]
      hysteresis  classes in up and down runs  [--split]
      overlap     overlap of the top spans  [--k]
    At one or several λ:
      classes     curvature by class  [--l2, --split]
      response    effect of steps on classes  [--l2]
      density     spectral density  [--l2]
    Several figures on one page:
      summary     the most important ones  [--l2, --k]

    \b
    Examples:
      hesstore plot summary quickstart.zarr -o summary.svg
      hesstore plot classes quickstart.zarr --l2 0.006 -o classes.pdf
    """
    import hesstore
    from hesstore import plots
    from hesstore_cli.terminal.bars import Bar

    path = output_file(output, *ENDINGS)
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(kind, given, plots.KINDS)
    with Bar("reading eigenvectors") as bar:
        if "progress" in _parameters(plots.KINDS[kind]):
            given["progress"] = bar.advance
        figure = plots.KINDS[kind](hesstore.open(store, check=True), run, **given)
    plots.save(figure, path)
    click.echo(f"{kind} of run {run} written to {output}", err=True)


def _check_options(kind: str, given: Mapping[str, object], figures: Mapping[str, Callable[..., Any]]) -> None:
    """Raise an error for an option that the figure does not have."""
    for name in given:
        having = [other for other, figure in figures.items() if name in _parameters(figure)]
        if kind not in having:
            raise click.UsageError(f"--{name} is not an option of {kind}, but of {', '.join(having)}")


def _parameters(figure: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(figure).parameters)
