"""The card of a store on a data set hub: a README.md whose front matter the hub reads."""

from __future__ import annotations

import html
import json
import re
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

_SPECIAL = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
"""Characters that YAML takes for line breaks or does not allow, and those that change the direction of writing."""
_CONTROL = re.compile("[\x00-\x1f]")

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
        f"# {_one_line(name)}",
        "\n".join(_one_line(line.strip()) for line in headline(ds)),
        _CONTENTS.format(matrix=matrix_name(ds)),
        *(f"![{_stem(path)}]({path})" for path in figures),
        _opening(name, tables),
        "## Tables\n\n" + "\n".join(f"- `{path}`" for path in tables),
        f"## Origin\n\n{_origin(ds.attrs)}\n\nThe config of the sweep:\n\n```toml\n{_config(ds.attrs)}```",
        f"## Licence\n\n{f'`{licence}`' if licence else CHOOSE_LICENCE}",
    ]
    return front + "\n\n".join(sections) + "\n"


def front_matter(values: Mapping[str, Any]) -> str:
    """Return YAML front matter; values are written as JSON, which is a part of YAML but for a few characters."""
    lines = [f"{key}: {_json(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", "", ""])


def _json(value: Any) -> str:
    """The value as JSON that is also YAML, and a literal of Python unless it has a boolean or null."""
    return _escape(json.dumps(value, ensure_ascii=False))


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _one_line(text: str) -> str:
    """The text as one line of Markdown, in which nothing is HTML."""
    return html.escape(_escape(_CONTROL.sub(" ", text)), quote=False)


def _repository(name: str) -> str:
    """A name of a repository on the hub that is like the name of the store."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "store"


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]


def _size_category(ds: xr.Dataset) -> str:
    points = ds.sizes["run"] * ds.sizes[axis_of(ds)]
    return next(category for limit, category in _SIZES.items() if points < limit)


def _opening(name: str, tables: Sequence[str]) -> str:
    """Return how to open the store and the tables, and how to push the folder."""
    first, repository = _stem(tables[0]), _repository(name)
    file_name = _json(f"{name}.zarr.zip")
    return f"""## Open it

```python
from huggingface_hub import hf_hub_download

path = hf_hub_download("USER/{repository}", {file_name}, repo_type="dataset")

import hesstore

ds = hesstore.open(path)

# or without hesstore
import xarray as xr
from zarr.storage import ZipStore

ds = xr.open_zarr(ZipStore(path, mode="r"), zarr_format=3)
```

The tables, without the store: `datasets.load_dataset("USER/{repository}", "{first}")`, or
`pandas.read_parquet("tables/{first}.parquet")`. `hesstore verify` checks every number of the packed
store against its checksum.

This folder is ready to be pushed: `hf upload USER/{repository} . --repo-type dataset`."""


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
    return "\n".join(f"- {name}: `{_one_line(str(value)).replace('`', '′')}`" for name, value in facts.items() if value)


def _config(attrs: Mapping[Any, Any]) -> str:
    return _escape(tomli_w.dumps(json.loads(attrs.get("config", "{}"))))
