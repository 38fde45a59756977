"""The card of a store on a data set hub: a README.md whose front matter the hub reads."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

import tomli_w

from hesstore.analysis.selection import matrix_name
from hesstore.dataset.opening import headline
from hesstore.errors import ExportError
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

TAGS = ("hessian", "loss-landscape", "regularization", "spectra", "zarr", "xarray", "hesstore")
CHOOSE_LICENCE = "No licence has been chosen: add one to the front matter, such as `license: cc-by-4.0`."
"""A card's sentence about the licence if none was given."""

_CONTENTS = """\
The {matrix} spectrum, gradient, weights and class accuracies of networks. Each grid point is one network: in a sweep,
`l2` is λ, the strength of the L2 penalty. Every variable has a `long_name`, and `units` unless it is a pure number."""

_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}
"""The size categories of the Hugging Face hub by their upper limits."""


def card(ds: xr.Dataset, name: str, tables: Sequence[str], figures: Sequence[str], licence: str | None) -> str:
    """Return the card as Markdown with front matter in YAML.

    Parameters
    ----------
    ds : Dataset
        The store.
    name : str
        Name of the store, without an ending.
    tables : sequence of str
        Paths of the Parquet tables in the folder.
    figures : sequence of str
        Paths of the figures in the folder.
    licence : str, optional
        Identifier of the licence, such as ``cc-by-4.0``.

    Raises
    ------
    ExportError
        If the licence is not an identifier.
    """
    if licence is not None and not licence.replace("-", "").replace(".", "").isalnum():
        raise ExportError(f"licence: {licence!r} is not an identifier such as cc-by-4.0 or mit")
    front = front_matter(
        {
            "pretty_name": name,
            **({"license": licence} if licence else {}),
            "tags": list(TAGS),
            "size_categories": [_size_category(ds)],
            "configs": [
                {"config_name": _stem(path), "data_files": path, **({} if at else {"default": True})}
                for at, path in enumerate(tables)
            ],
        }
    )
    sections = [
        f"# {name}",
        "\n".join(line.strip() for line in headline(ds)),
        _CONTENTS.format(matrix=matrix_name(ds)),
        *(f"![{_stem(path)}]({path})" for path in figures),
        _opening(name, tables),
        "## Tables\n\n" + "\n".join(f"- `{path}`" for path in tables),
        f"## Origin\n\n{_origin(ds.attrs)}\n\nThe config of the sweep:\n\n```toml\n{_config(ds.attrs)}```",
        f"## Licence\n\n{f'`{licence}`' if licence else CHOOSE_LICENCE}",
    ]
    return front + "\n\n".join(sections) + "\n"


def front_matter(values: Mapping[str, Any]) -> str:
    """Return YAML front matter; values are written as JSON, which is a part of YAML."""
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", "", ""])


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]


def _size_category(ds: xr.Dataset) -> str:
    points = ds.sizes["run"] * ds.sizes[axis_of(ds)]
    return next(category for limit, category in _SIZES.items() if points < limit)


def _opening(name: str, tables: Sequence[str]) -> str:
    """Return how to open the store and the tables, and how to push the folder."""
    first = _stem(tables[0])
    return f"""## Open it

```python
from huggingface_hub import hf_hub_download

path = hf_hub_download("USER/{name}", "{name}.zarr.zip", repo_type="dataset")

import hesstore

ds = hesstore.open(path)

# or without hesstore
import xarray as xr
from zarr.storage import ZipStore

ds = xr.open_zarr(ZipStore(path, mode="r"), zarr_format=3)
```

The tables, without the store: `datasets.load_dataset("USER/{name}", "{first}")`, or
`pandas.read_parquet("tables/{first}.parquet")`. `hesstore verify {name}.zarr.zip` checks every number
of the store against its checksum.

This folder is ready to be pushed: `hf upload USER/{name} . --repo-type dataset`."""


def _origin(attrs: Mapping[Any, Any]) -> str:
    identity = json.loads(attrs.get("identity", "{}"))
    versions = json.loads(attrs.get("environment", "{}")).get("versions", {})
    facts = {
        "fingerprint": attrs.get("fingerprint"),
        "digest of the data": identity.get("data_digest"),
        "schema version": attrs.get("schema_version"),
        "exported with hesstore": metadata.version("hesstore"),
        **{f"computed with {name}": versions[name] for name in ("python", "torch", "numpy") if name in versions},
    }
    return "\n".join(f"- {name}: `{value}`" for name, value in facts.items() if value)


def _config(attrs: Mapping[Any, Any]) -> str:
    return tomli_w.dumps(json.loads(attrs.get("config", "{}")))
