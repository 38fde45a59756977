"""``hesstore plan``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import json_option, layer_options, runs_option
from hesstore_cli.stored_config import config_of_sweep
from hesstore_cli.terminal.plan_text import as_text
from hesstore_cli.terminal.widths import fitted

if TYPE_CHECKING:
    from hesstore.config.sources import Layer


@click.command(cls=Command)
@click.argument(
    "store", metavar="[STORE]", required=False, type=click.Path(path_type=str), shell_complete=completion_values.stores
)
@layer_options
@click.option("--grow", is_flag=True, help="Plan the work of sweep --grow.")
@runs_option
@click.option("--retry-failed", is_flag=True, help="Count failed grid points as work.")
@json_option
@click.pass_context
def plan(
    context: click.Context,
    store: str | None,
    layers: list[Layer],
    runs: tuple[int, ...],
    *,
    grow: bool,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Estimate the work, time, disk space and memory of a sweep.

    No results are computed, and nothing is written. If STORE exists, the plan covers the remaining work, and options
    change the config of STORE, as in a sweep. Without STORE, the plan is for a new store.

    The time is that of one process on this machine. It is estimated from a short probe on the data and the network, or
    from finished grid points of STORE. It is a range because the numbers of epochs and Hessian products are not known
    in advance.

    \b
    Examples:
      hesstore plan --preset quickstart
      hesstore plan run.zarr --seeds 0,1,2 --grow
    """
    config = config_of_sweep(context, store, layers)
    from hesstore.engine.sweep import plan_sweep

    planned = plan_sweep(config, store, retry_failed=retry_failed, grow=grow, runs=runs)
    click.echo(json.dumps(asdict(planned), indent=2, allow_nan=False) if as_json else fitted(as_text(planned)))
