"""``hesstore slice``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hesstore.config.setting_types import integers
from hesstore.errors import ExportError
from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import output_file, store_argument
from hesstore_cli.terminal.bars import Bar

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr


@click.command("slice", cls=Command)
@store_argument
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE.nc",
    help="Output file, for `hesstore plot slice` and xarray.",
    shell_complete=completion_values.files,
)
@click.option("--run", default=0, show_default=True, metavar="ID", help="Run of the grid point.")
@click.option("--l2", type=float, required=True, metavar="X", help="Value of λ, or of the axis of a collection.")
@click.option("--modes", default="0", show_default=True, metavar="I[,J]", help="Eigenvectors that span the slice.")
@click.option(
    "--reach",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="Largest step in each direction, in units of ‖θ‖.  [default: 0.1]",
)
@click.option("--to", type=float, metavar="X", help="Instead: the line from the grid point to the one at X.")
@click.option("--to-run", type=int, metavar="ID", help="Run of the other grid point.  [default: that of --run]")
@click.option("--points", default=41, show_default=True, metavar="N", help="Number of steps along each direction.")
@click.option("--trust", is_flag=True, help="Run the custom code that the config of STORE names.")
def slice_(store: str, output: str, l2: float, modes: str, to: float | None, **options: Any) -> None:
    """Compute losses along eigenvectors, or between two grid points.

    The losses of both splits and of all classes are computed again from the weights, along one eigenvector, in the
    plane of two, or on the line between two grid points. Next to them stand those of the quadratic model.

    \b
    Examples:
      hesstore slice quickstart.zarr --l2 0.006 -o slice.nc
      hesstore slice quickstart.zarr --l2 0.006 --modes 0,1 --points 21 -o plane.nc
      hesstore slice quickstart.zarr --l2 0 --to 0.006 -o line.nc
      hesstore plot slice slice.nc -o slice.svg
    """
    import hesstore

    path = output_file(output, ".nc")
    given = {name: value for name, value in options.items() if value is not None}
    with Bar("evaluating losses") as bar:
        given["progress"] = bar.advance
        found = _compute(hesstore.open(store, chunked=False), l2, modes, to, given)
    _write(found, path)
    points = " × ".join(str(found.sizes[name]) for name in found["loss"].dims[1:])
    click.echo(f"losses at {points} points written to {output}", err=True)


def _compute(ds: xr.Dataset, l2: float, modes: str, to: float | None, given: dict[str, Any]) -> xr.Dataset:
    import hesstore

    run_b = given.pop("to_run", None)
    if to is not None:
        if "reach" in given or modes != "0":
            raise click.UsageError("--to asks for a line between grid points: leave out --modes and --reach")
        return hesstore.loss_path(ds, l2, to, run_b=run_b, **given)
    if run_b is not None:
        raise click.UsageError("--to-run needs --to: give the value at the other grid point")
    try:
        chosen = integers(0).parse(modes)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--modes") from None
    return hesstore.loss_slice(ds, l2, modes=chosen, **given)


def _write(found: xr.Dataset, path: Path) -> None:
    """Write a slice to a netCDF file, which appears complete or not at all.

    Raises
    ------
    ExportError
        If h5netcdf is not installed.
    """
    from hesstore.durable_files import whole_file

    try:
        with whole_file(path) as partial:
            found.to_netcdf(partial, engine="h5netcdf")
    except ModuleNotFoundError:
        raise ExportError('netCDF files need h5netcdf: pip install "hesstore[files]"') from None
