"""The provenance of a store's results, from its root attributes, as texts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hesstore.store.import_origin import origin_of

if TYPE_CHECKING:
    import xarray as xr


def provenance(ds: xr.Dataset) -> dict[str, dict[str, str]]:
    """Return names and values from the root attributes, in sections; what a store does not record is left out."""
    attrs = ds.attrs
    identity, origin = json.loads(attrs.get("identity", "{}")), origin_of(attrs)
    store = {
        "fingerprint of the config": attrs.get("fingerprint"),
        "digest of the data": identity.get("data_digest"),
        "schema version": attrs.get("schema_version"),
        "imported from": f"{origin.files} files" if origin.is_import else None,
        "results recomputed from the weights": ("yes" if origin.recompute else "no") if origin.is_import else None,
    }
    sections = {
        "Store": {name: str(value) for name, value in store.items() if value is not None},
        "Config": flatten(json.loads(attrs.get("config", "{}"))),
        "Environment": flatten(json.loads(attrs.get("environment", "{}"))),
    }
    return {name: rows for name, rows in sections.items() if rows}


def flatten(values: Any, prefix: str = "") -> dict[str, str]:
    """Return nested mappings as one mapping, with keys joined by dots; empty texts are left out."""
    result: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flatten(value, f"{prefix}{key}.")
        elif value != "":
            result[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return result
