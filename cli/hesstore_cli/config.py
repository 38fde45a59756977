"""``hesstore config``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hesstore_cli.help_pages import Command
from hesstore_cli.options import config_options

if TYPE_CHECKING:
    from hesstore.config import SweepConfig


@click.command(cls=Command)
@config_options
def config(config: SweepConfig) -> None:
    """Print the resolved config as TOML, without running anything.

    \b
    Example:
      hesstore config --preset quickstart --k 10 > my.toml
      hesstore sweep my.zarr --config my.toml
    """
    import tomli_w

    click.echo(tomli_w.dumps(config.to_mapping()), nl=False)
