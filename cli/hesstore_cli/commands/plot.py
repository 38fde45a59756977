"""``hesstore plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.options import Choice, store_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KINDS = (
    *("accuracy", "spectrum", "classes", "overlap", "tracks"),
    *("density", "gradient", "hysteresis", "response", "summary"),
)
ENDINGS = (".png", ".svg", ".pdf")


@click.command()
@click.argument("kind", type=Choice(KINDS), metavar="KIND")
@store_argument
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where to: .png, .svg or .pdf.",
    shell_complete=completion_values.files,
)
@click.option("--run", default=0, show_default=True, metavar="ID", help="Which run.")
@click.option("--l2", type=float, metavar="X", help="Which λ.  [default: the last before a class is lost; several]")
@click.option("--split", type=Choice(["train", "test"]), help="Part of the data.")
@click.option("--k", type=click.IntRange(1), metavar="N", help="Eigenvectors.  [default: classes − 1; tracks: all]")
@click.option(
    "--skill", is_flag=True, default=None, help="Skill instead of accuracy: 0 for guesses, 1 for a known class."
)
@click.option("--shift", is_flag=True, default=None, help="Eigenvalues of the objective: add those of the penalty.")
def plot(kind: str, store: str, output: str, run: int, **options: object) -> None:
    """Draw a picture of STORE.

    \b
    Against λ:
      accuracy    accuracy of each class  [--split, --skill]
      spectrum    eigenvalues  [--shift]
      tracks      eigenvalues joined by their vectors  [--k]
      gradient    gradients, stationarity  [--split]
      hysteresis  each class on the way up and down  [--split]
      overlap     of the top spaces, all pairs of λ  [--k]
    At one λ, or a few:
      classes     which classes curve what  [--l2, --split]
      response    what steps along them do to classes  [--l2]
      density     spectral density  [--l2]
    A page of them:
      summary     [--l2, --k]

    \b
    Examples:
      hesstore plot summary quickstart.zarr -o summary.svg
      hesstore plot classes quickstart.zarr --l2 0.006 -o classes.pdf
    """
    from pathlib import Path

    import hesstore
    from hesstore import plots
    from hesstore_cli.terminal.console import Bar

    path = Path(output)
    if path.suffix.lower() not in ENDINGS:
        raise click.BadParameter(f"{output!r} does not end in .png, .svg or .pdf", param_hint="--output")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {output!r} does not exist", param_hint="--output")
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(kind, given, plots.KINDS)
    with Bar("reading eigenvectors") as bar:
        if "progress" in _parameters(plots.KINDS[kind]):
            given["progress"] = bar.advance
        figure = plots.KINDS[kind](hesstore.open(store), run, **given)
    plots.save(figure, path)
    click.echo(f"{kind} of run {run} in {output}", err=True)


def _check_options(kind: str, given: Mapping[str, object], pictures: Mapping[str, Callable[..., Any]]) -> None:
    """An option that the picture does not have is an error, not ignored."""
    for name in given:
        having = [other for other, picture in pictures.items() if name in _parameters(picture)]
        if kind not in having:
            raise click.UsageError(f"--{name} is not an option of {kind}, but of {', '.join(having)}")


def _parameters(picture: Callable[..., Any]) -> set[str]:
    import inspect

    return set(inspect.signature(picture).parameters)
