"""The config of a store, as a layer of settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hesstore.config import SweepConfig
from hesstore.config.sources import Layer

if TYPE_CHECKING:
    from typing import Any


def stored_layer(store: str) -> Layer:
    """Return the settings of a store that differ from the defaults."""
    from hesstore.errors import CorruptStoreError
    from hesstore.store.root_group import open_group

    try:
        values: dict[str, Any] = json.loads(str(open_group(store).attrs["config"]))
    except (KeyError, ValueError) as error:
        raise CorruptStoreError(
            f"{store}: its config is missing or damaged: `hesstore verify` gives the details"
        ) from error
    defaults = SweepConfig().to_mapping()
    return Layer(store, {key: value for key, value in values.items() if value != defaults.get(key)})
