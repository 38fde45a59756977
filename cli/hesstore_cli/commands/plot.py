"""``hesstore plot``."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hesstore.errors import first_line
from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import Choice, default_output, open_in_browser, open_option, output_file, stores_argument
from hesstore_cli.terminal.streams import write_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import xarray as xr
    from matplotlib.figure import Figure

KINDS = (
    *("accuracy", "losses", "spectrum", "classes", "overlap", "tracks", "clusters", "alignment", "measures", "index"),
    *("density", "gradient", "hysteresis", "response", "slice", "blocks", "bands", "summary"),
)
ENDINGS = (".png", ".svg", ".pdf")
ENDING_OF = {"screen": ".png", "paper": ".pdf"}
"""The ending of a file without a given name, by style."""


@click.command(cls=Command)
@click.argument("kind", type=Choice(KINDS), metavar="KIND")
@stores_argument
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Output file: .png, .svg or .pdf.  [default: .png, or .pdf for a paper, from the names of STORE and KIND]",
    shell_complete=completion_values.files,
)
@open_option
@click.option("--run", type=int, metavar="ID", help="Run to draw.  [default: 0]")
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
@click.option(
    "--style",
    type=Choice(["screen", "paper"]),
    default="screen",
    show_default=True,
    help="paper: a vector file with a width in mm, small texts and embedded fonts.",
)
@click.option(
    "--width",
    type=click.FloatRange(60, 400),
    metavar="MM",
    help="Width of a figure for a paper: 89 for one column of most journals.  [default: 183]",
)
def plot(
    kind: str,
    stores: tuple[str, ...],
    output: str | None,
    *,
    opening: bool,
    style: str,
    width: float | None,
    **options: object,
) -> None:
    """Draw a figure of one or several stores.

    The runs of several stores get new numbers, in the order of the stores.

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
      blocks      diagonal block of each layer
      bands       means and ranges over seeds  [--split]
    At one or several λ:
      classes     curvature by class  [--l2, --split]
      response    effect of steps on classes  [--l2]
      density     spectral density  [--l2]
    From a file of `hesstore slice`, in place of STORE:
      slice       losses along eigenvectors  [--split]
    Several figures on one page:
      summary     the most important ones  [--l2, --k]

    \b
    Examples:
      hesstore plot summary quickstart.zarr --open
      hesstore plot classes quickstart.zarr --l2 0.006 --style paper --width 89
    """
    import hesstore
    from hesstore import plots
    from hesstore_cli.terminal.bars import Bar

    path = output_file(output or default_output(stores[0], f"-{kind}{ENDING_OF[style]}"), *ENDINGS)
    look = _look(style, width, path)
    given = {name: value for name, value in options.items() if value is not None}
    if kind == "slice":
        if len(stores) > 1:
            raise click.UsageError(f"slice draws one file of `hesstore slice`, not {len(stores)}")
        with look:
            figure = _slice_figure(stores[0], given)
        plots.save(figure, path)
        write_line(f"slice written to {path}")
        if opening:
            open_in_browser(path)
        return
    _check_options(kind, given, plots.KINDS)
    with Bar("reading eigenvectors") as bar:
        if "progress" in _parameters(plots.KINDS[kind]):
            given["progress"] = bar.advance
        with look:
            ds = hesstore.open(stores[0] if len(stores) == 1 else stores, check=True)
            figure = plots.KINDS[kind](ds, **given)
    plots.save(figure, path)
    of_run = f" of run {given.get('run', 0)}" if "run" in _parameters(plots.KINDS[kind]) else ""
    write_line(f"{kind}{of_run} written to {path}")
    if opening:
        open_in_browser(path)


def _look(style: str, width: float | None, path: Path) -> AbstractContextManager[None]:
    """Return the context in which the figure is drawn."""
    from hesstore import plots

    if style != "paper":
        if width is not None:
            raise click.UsageError("--width applies to --style paper only")
        return nullcontext()
    if path.suffix.lower() == ".png":
        raise click.UsageError(f"--style paper writes a vector file: name it .pdf or .svg, not {path.name!r}")
    return plots.paper() if width is None else plots.paper(width)


def _slice_figure(file: str, given: Mapping[str, Any]) -> Figure:
    """Return the figure of a slice in a netCDF file."""
    from hesstore import plots

    _check_options("slice", given, {**plots.KINDS, "slice": plots.loss_slice})
    return plots.loss_slice(_read_slice(file), **given)


def _read_slice(file: str) -> xr.Dataset:
    """Read a slice from a netCDF file.

    Raises
    ------
    click.UsageError
        If the file does not exist or is not a netCDF file.
    """
    import xarray as xr

    if not Path(file).is_file():
        raise click.UsageError(f"{file}: no such file: give one that `hesstore slice` has written")
    try:
        found: xr.Dataset = xr.load_dataset(file, engine="h5netcdf")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{file}: is not a file of `hesstore slice` ({first_line(error)})") from None
    return found


def _check_options(kind: str, given: Mapping[str, object], figures: Mapping[str, Callable[..., Any]]) -> None:
    """Raise an error for an option that the figure does not have."""
    for name in given:
        having = [other for other, figure in figures.items() if name in _parameters(figure)]
        if kind not in having:
            raise click.UsageError(f"--{name} is not an option of {kind}, but of {', '.join(having)}")


def _parameters(figure: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(figure).parameters)
