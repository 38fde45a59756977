"""``hesstore sweep``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from hesstore_cli.options import config_options, store_argument

if TYPE_CHECKING:
    from hesstore.config import SweepConfig

SOME_FAILED, INTERRUPTED = 4, 130


@click.command()
@store_argument
@config_options
def sweep(store: str, config: SweepConfig) -> int:
    """Compute every λ that STORE lacks; make STORE if it is not there.

    Run the same command again to go on where it stopped.

    \b
    Examples:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore sweep run.zarr --dataset fashion-mnist --l2 0:0.05:251 --seeds 0,1,2
    """
    from hesstore.sweep import run_sweep
    from hesstore_cli.console import SweepReporter, duration

    try:
        with SweepReporter() as reporter:
            summary = run_sweep(config, store, observer=reporter)
    except KeyboardInterrupt:
        click.echo(
            f"hesstore: interrupted; what is complete is in {store}: the same command goes on from there", err=True
        )
        return INTERRUPTED
    where = shlex.quote(store)
    click.echo(
        f"{summary.complete} λ complete in {store}"
        + (f", {summary.failed} failed (hesstore info {where} says why)" if summary.failed else "")
        + f"; {summary.computed} computed now, in {duration(summary.seconds)}. "
        f"Next: hesstore export {where} --format csv, or in Python xr.open_zarr({store!r})",
        err=True,
    )
    return SOME_FAILED if summary.failed else 0
