"""``hesstore config``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hesstore.config import SweepConfig
from hesstore.config.sources import as_toml, merge
from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command, GroupedOption
from hesstore_cli.options import SOURCES, layer_options
from hesstore_cli.stored_config import stored_layer

if TYPE_CHECKING:
    from hesstore.config.sources import Layer


@click.command(cls=Command)
@click.option(
    "--of",
    "store",
    cls=GroupedOption,
    group=SOURCES,
    metavar="STORE",
    help="Start from the config of a store instead of a preset.",
    shell_complete=completion_values.stores,
)
@layer_options
@click.pass_context
def config(context: click.Context, layers: list[Layer], store: str | None) -> None:
    """Print a config as TOML, with the origin of each value.

    Nothing is computed. Write the output to a file to use it with --config.

    \b
    Examples:
      hesstore config --preset quickstart --k 10 > my.toml
      hesstore sweep my.zarr --config my.toml
      hesstore config --of my.zarr --seeds 1 > other.toml
    """
    if store is not None:
        if context.get_parameter_source("preset") == ParameterSource.COMMANDLINE:
            raise click.UsageError("--of replaces --preset: give only one of them")
        layers = [stored_layer(store), *layers[1:]]
    click.echo(as_toml(SweepConfig.from_mapping(merge(layers)), layers), nl=False)
