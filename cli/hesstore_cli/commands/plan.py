"""``hesstore plan``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hesstore.config import SweepConfig
from hesstore.config.networks import named_code
from hesstore.config.sources import merge
from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import json_option, layer_options, runs_option
from hesstore_cli.stored_config import stored_layer
from hesstore_cli.terminal.plan_text import as_text

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

    No results are computed, and nothing is written. If STORE exists, the plan covers the remaining work, with the
    config of STORE unless options give settings. Without STORE, the plan is for a new store.

    The time is that of one process on this machine. It is estimated from a short probe on the data and the network, or
    from finished grid points of STORE. It is a range because the numbers of epochs and Hessian products are not known
    in advance.

    \b
    Examples:
      hesstore plan --preset quickstart
      hesstore plan run.zarr --l2 0:0.1:1001 --grow
    """
    from hesstore.engine.sweep import plan_sweep
    from hesstore.store.places.location import locate

    if store is not None and not _gives_settings(context, layers) and not locate(store).is_new():
        layers = [_trusted_layer(store)]
    config = SweepConfig.from_mapping(merge(layers))
    planned = plan_sweep(config, store, retry_failed=retry_failed, grow=grow, runs=runs)
    click.echo(json.dumps(asdict(planned), indent=2, allow_nan=False) if as_json else as_text(planned))


def _gives_settings(context: click.Context, layers: list[Layer]) -> bool:
    """Whether an option gives a setting."""
    return len(layers) > 1 or context.get_parameter_source("preset") == ParameterSource.COMMANDLINE


def _trusted_layer(store: str) -> Layer:
    """Return the config of a store, unless it names code, which this command must not run without the user's word."""
    layer = stored_layer(store)
    for key, code in named_code(*(str(layer.values.get(each, "")) for each in ("dataset", "model"))).items():
        raise click.UsageError(
            f"the config of {store} names code, {key} = {code}, which is not run without your "
            f"consent: give the settings as options (`hesstore config --of {store}` prints them)"
        )
    return layer
