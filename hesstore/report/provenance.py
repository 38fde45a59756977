"""Where a store's numbers come from, as texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hesstore.store.origin import origin_of

if TYPE_CHECKING:
    import xarray as xr


def provenance(ds: xr.Dataset) -> dict[str, dict[str, str]]:
    """Names and values of what the root attributes say, in sections; what a store does not say is not there."""
    attrs = ds.attrs
    identity, origin = json.loads(attrs.get("identity", "{}")), origin_of(attrs)
    store = {
        "fingerprint of the config": attrs.get("fingerprint"),
        "digest of the data": identity.get("data_digest"),
        "schema": attrs.get("schema_version"),
        "imported from": f"{origin.files} files" if origin.is_import else None,
        "computed again from the weights": ("yes" if origin.recompute else "no") if origin.is_import else None,
    }
    sections = {
        "Store": {name: str(value) for name, value in store.items() if value is not None},
        "Config": flat(json.loads(attrs.get("config", "{}"))),
        "Made with": flat(json.loads(attrs.get("environment", "{}"))),
    }
    return {name: rows for name, rows in sections.items() if rows}


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, with keys joined by dots; empty texts are left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif value != "":
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found
