"""The config of a store, as a layer of settings."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hesstore.config import SweepConfig
from hesstore.config.networks import named_code
from hesstore.config.sources import Layer, merge
from hesstore.errors import CorruptStoreError

if TYPE_CHECKING:
    from typing import Any


def stored_layer(store: str) -> Layer:
    """Return the settings of a store that differ from the defaults."""
    from hesstore.store.root_group import open_group

    try:
        values: dict[str, Any] = json.loads(str(open_group(store).attrs["config"]))
    except (KeyError, ValueError) as error:
        raise CorruptStoreError(
            f"{store}: its config is missing or damaged: `hesstore verify` gives the details"
        ) from error
    defaults = SweepConfig().to_mapping()
    return Layer(store, {key: value for key, value in values.items() if value != defaults.get(key)})


def config_of_sweep(
    context: click.Context, store: str | None, layers: list[Layer], *, overwrite: bool = False
) -> SweepConfig:
    """Return the config of a sweep of ``store``, from the ``layers`` that the command line gives.

    If the store exists, options change its own config, unless --preset or --config gives another one to start from. A
    damaged store that the sweep is to ``overwrite`` counts as a new one.

    Raises
    ------
    click.UsageError
        If the store's config names code that the command line does not name: it is not run without the user's consent.
    """
    from hesstore.store.places.location import locate

    given = layers[1:]
    has_base = context.params["config_file"] or context.get_parameter_source("preset") == ParameterSource.COMMANDLINE
    if store is None or has_base or locate(store).is_new():
        return SweepConfig.from_mapping(merge(layers))
    try:
        own = stored_layer(store)
    except CorruptStoreError:
        if not overwrite:
            raise
        return SweepConfig.from_mapping(merge(layers))
    named = merge(given)
    for key, code in named_code(*(str(own.values.get(each, "")) for each in ("dataset", "model"))).items():
        if key not in named:
            raise click.UsageError(
                f"the config of {store} names code, {code}, which is not run without your consent: "
                f"add --{key} {shlex.quote(code)}"
            )
    return SweepConfig.from_mapping(merge([own, *given]))
