"""``hesstore config``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hesstore.config import SweepConfig
from hesstore.resolving import Layer, as_toml, merged
from hesstore_cli import completing
from hesstore_cli.help_pages import Command, GroupedOption
from hesstore_cli.options import SOURCES, layer_options

if TYPE_CHECKING:
    from typing import Any


@click.command(cls=Command)
@click.option(
    "--of",
    "store",
    cls=GroupedOption,
    group=SOURCES,
    metavar="STORE",
    help="The config of a store, instead of a preset.",
    shell_complete=completing.stores,
)
@layer_options
@click.pass_context
def config(context: click.Context, found: list[Layer], store: str | None) -> None:
    """Print a config as TOML, with where each value comes from, without running anything.

    What is printed runs as it is.

    \b
    Examples:
      hesstore config --preset quickstart --k 10 > my.toml
      hesstore sweep my.zarr --config my.toml
      hesstore config --of my.zarr --seeds 1 > other.toml
    """
    if store is not None:
        if context.get_parameter_source("preset") == ParameterSource.COMMANDLINE:
            raise click.UsageError("--of takes the place of --preset: give one of them")
        found = [_of(store), *found[1:]]
    click.echo(as_toml(SweepConfig.from_mapping(merged(found)), found), nl=False)


def _of(store: str) -> Layer:
    """What the config of a store has other than the defaults."""
    from hesstore.errors import CorruptStoreError
    from hesstore.store.paths import open_group

    try:
        values: dict[str, Any] = json.loads(str(open_group(store).attrs["config"]))
    except (KeyError, ValueError) as error:
        raise CorruptStoreError(f"{store}: has no config that can be read: hesstore verify says more") from error
    defaults = SweepConfig().to_mapping()
    return Layer(store, {key: value for key, value in values.items() if value != defaults.get(key)})
