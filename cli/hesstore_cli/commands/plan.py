"""``hesstore plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hesstore.config import SweepConfig
from hesstore.config.sources import merge
from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import layer_options, runs_option
from hesstore_cli.stored_config import stored_layer
from hesstore_cli.terminal.plan_text import as_text

if TYPE_CHECKING:
    from hesstore.config.sources import Layer
    from hesstore.engine.sweep import SweepPlan


@click.command(cls=Command)
@click.argument(
    "store", metavar="[STORE]", required=False, type=click.Path(path_type=str), shell_complete=completion_values.stores
)
@layer_options
@click.option("--grow", is_flag=True, help="Plan what sweep --grow would compute.")
@runs_option
@click.option("--retry-failed", is_flag=True, help="Count λ that failed as to be tried again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def plan(
    context: click.Context,
    store: str | None,
    found: list[Layer],
    runs: tuple[int, ...],
    *,
    grow: bool,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Say what a sweep would take: λ, Hessian products, time, disk and memory. Nothing is computed or written.

    Of STORE, if it is there, what is left; its own config holds if no setting is given. Without STORE: a new one,
    wherever it may lie. Time is that of one process on this machine: measured on the data and the network in a few
    seconds, or as the λ took that STORE has. How many epochs and products a λ needs shows only then, so it is a span.

    \b
    Examples:
      hesstore plan --preset quickstart
      hesstore plan run.zarr --l2 0:0.1:1001 --grow
    """
    from hesstore.engine.sweep import plan_sweep
    from hesstore.store.places.location import locate

    if store is not None and _says_nothing(context, found) and not locate(store).is_new():
        found = [_own(store)]
    config = SweepConfig.from_mapping(merge(found))
    planned = plan_sweep(config, store, retry_failed=retry_failed, grow=grow, runs=runs)
    click.echo(as_json_text(planned) if as_json else as_text(planned))


def _says_nothing(context: click.Context, found: list[Layer]) -> bool:
    """Whether no option names a setting."""
    return len(found) == 1 and context.get_parameter_source("preset") != ParameterSource.COMMANDLINE


def _own(store: str) -> Layer:
    """The config of the store itself, unless it names code: nobody runs that for having been handed a store."""
    layer = stored_layer(store)
    for key in ("dataset", "model"):
        if ":" in str(layer.values.get(key, "")):
            raise click.UsageError(
                f"{store} names code, {key} = {layer.values[key]}: give its settings yourself, "
                f"as `hesstore config --of {store}` prints them"
            )
    return layer


def as_json_text(plan: SweepPlan) -> str:
    """All of it; spans as objects with ``least`` and ``most``."""
    import json
    from dataclasses import asdict

    return json.dumps(asdict(plan), indent=2, allow_nan=False)
