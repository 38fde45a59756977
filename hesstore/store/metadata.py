"""The metadata files of a store: how they are sealed, and which of two copies is right when they differ.

The ``zarr.json`` of the root holds the store's attributes and a consolidated copy of every array's own ``zarr.json``.
The root attribute ``seal`` is a digest over both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zarr.core.buffer import default_buffer_prototype

from hesstore.config import SweepConfig, fingerprint
from hesstore.durable_files import write_file
from hesstore.errors import ConfigError, StoreError
from hesstore.store.identity import identity_of
from hesstore.store.import_origin import ORIGIN
from hesstore.store.places.zip_file import LEFT_OUT
from hesstore.store.root_group import check_version
from hesstore.store.schema import (
    COLLECTION,
    REFERENCES,
    SCHEMA_VERSION,
    Run,
    StoreSpec,
    coordinate_names,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import zarr

SEAL = "seal"

_ROOT = {"zarr_format": 3, "node_type": "group"}
_CONSOLIDATED = {"kind": "inline", "must_understand": False}


def document(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return the contents of the ``zarr.json`` of ``array``."""
    encoded = array.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"]
    parsed: dict[str, Any] = json.loads(encoded.to_bytes())
    return parsed


def seal(attributes: Mapping[str, Any], documents: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) over the root attributes, except the seal, and the metadata of every array by name."""
    sealed = {name: value for name, value in attributes.items() if name != SEAL}
    return fingerprint({"attributes": sealed, "arrays": documents})


@dataclass
class Metadata:
    """The metadata of a store, and what is wrong with its metadata files.

    Attributes
    ----------
    attributes : dict
        The root attributes.
    documents : dict
        The metadata of each array, from the copy that matches the seal; empty if neither copy does.
    consolidated : bool
        Whether that copy is the one in the root's ``zarr.json``.
    damage : dict of str to str
        What is wrong with each damaged file, by its path in the store.
    """

    attributes: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    consolidated: bool = True
    damage: dict[str, str] = field(default_factory=dict)

    @property
    def is_mendable(self) -> bool:
        """Whether one copy matches the seal, from which damaged files can be written again."""
        return bool(self.documents)


def read_metadata(path: Path) -> Metadata:
    """Read the metadata of the store at ``path`` and compare both copies with the seal.

    Raises
    ------
    StoreError
        If it is not a store of hesstore, or has another schema.
    """
    found = Metadata()
    root = _parsed(path / "zarr.json")
    if root is None:
        if not _looks_like_ours(path):
            raise StoreError(f"{path}: is not a Zarr store")
        found.damage["zarr.json"] = "is missing or is not JSON"
        return found
    attributes = root.get("attributes")
    if not isinstance(attributes, dict) or not isinstance(attributes.get("schema_version"), int):
        if not _looks_like_ours(path):
            raise StoreError(f"{path}: is a Zarr store, but not one of hesstore")
        found.damage["zarr.json"] = "has no schema_version among its attributes"
        return found
    found.attributes = attributes
    copies = _consolidated_copy(root)
    own = {file.parent.name: _parsed(file) for file in path.glob("*/zarr.json")}
    if not _was_flipped(attributes, copies or own):
        check_version(path, attributes["schema_version"])
    own |= dict.fromkeys((_names(attributes) if copies is None else copies.keys()) - own.keys())
    _trust_what_is_sealed(found, copies, own)
    return found


def _names(attributes: Mapping[str, Any]) -> set[str]:
    """Return the names of all arrays that the store must have; none if its identity is damaged."""
    try:
        identity = identity_of(attributes)
    except (KeyError, ValueError):
        return set()
    names = {*(variable.name for variable in variables(identity)), *coordinate_names(identity)}
    return names - set(str(attributes.get(LEFT_OUT, "")).split())


def _trust_what_is_sealed(found: Metadata, copies: dict[str, Any] | None, own: dict[str, Any]) -> None:
    expected = found.attributes.get(SEAL)
    if copies is not None and seal(found.attributes, copies) == expected:
        found.documents = copies
        for name in copies:
            if own.get(name) != copies[name]:
                found.damage[f"{name}/zarr.json"] = "is missing, or differs from the sealed copy of it"
    elif seal(found.attributes, own) == expected:
        found.documents, found.consolidated = own, False
        found.damage["zarr.json"] = "has a consolidated copy that differs from the arrays' sealed metadata"
    else:
        found.damage["zarr.json"] = "has attributes or metadata that do not match its seal"
        _name_those_that_differ(found, copies, own)


def _name_those_that_differ(found: Metadata, copies: dict[str, Any] | None, own: dict[str, Any]) -> None:
    for name, says in own.items():
        if says is None:
            found.damage[f"{name}/zarr.json"] = "is missing or is not JSON"
        elif copies is not None and says != copies.get(name):
            found.damage[f"{name}/zarr.json"] = "differs from the copy of it in the root's zarr.json"


def _consolidated_copy(root: dict[str, Any]) -> dict[str, Any] | None:
    """Return the root's copy of the arrays' metadata, if everything around it is right."""
    consolidated = root.get("consolidated_metadata")
    if not isinstance(consolidated, dict) or not isinstance(consolidated.get("metadata"), dict):
        return None
    copies: dict[str, Any] = consolidated["metadata"]
    bare = {"attributes": root["attributes"], **_ROOT, "consolidated_metadata": {**_CONSOLIDATED, "metadata": copies}}
    return copies if root == bare else None


def _was_flipped(attributes: dict[str, Any], documents: dict[str, Any]) -> bool:
    """Whether the seal proves that the store has this schema, so that only the version is damaged."""
    as_made = {**attributes, "schema_version": SCHEMA_VERSION}
    return seal(as_made, documents) == attributes.get(SEAL)


def _looks_like_ours(path: Path) -> bool:
    return all((path / name / "zarr.json").exists() for name in ("weights", "status", "digest"))


def _parsed(file: Path) -> dict[str, Any] | None:
    try:
        parsed = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def mend_metadata(path: Path, found: Metadata) -> list[str]:
    """Write the damaged metadata files again from the sealed copy, and return their names."""
    if not found.is_mendable:
        return []
    for file in found.damage:
        if file == "zarr.json":
            copy = {**_CONSOLIDATED, "metadata": found.documents}
            content = {"attributes": found.attributes, **_ROOT, "consolidated_metadata": copy}
        else:
            content = found.documents[file.split("/")[0]]
        write_file(path / file, json.dumps(content, indent=2).encode())
    return list(found.damage)


def rebuild_spec(found: Metadata) -> StoreSpec:
    """Return the description from which the store was made, according to its attributes.

    Raises
    ------
    StoreError
        If the attributes contradict each other or cannot be understood; the message names them.
    """
    attributes = found.attributes
    try:
        identity = json.loads(attributes["identity"])
        config = SweepConfig.from_mapping(json.loads(attributes["config"]))
        grid = tuple(float(value) for value in identity.get("values", config.l2))
        parameters = [(name, tuple(shape)) for name, shape in identity["parameters"]]
        environment, data_digest = json.loads(attributes["environment"]), identity["data_digest"]
        runs = [(seed, direction) for seed, direction in json.loads(attributes["runs"])]
        classes = int(found.documents["class_accuracy"]["shape"][3])
    except KeyError as error:
        raise StoreError(f"the attribute {error} is missing") from error
    except (ConfigError, ValueError, TypeError, IndexError) as error:
        raise StoreError(f"an attribute cannot be understood ({error})") from error
    of_config = config.identity()
    if sorted(runs) != sorted(config.runs()):
        raise StoreError(f"runs are {runs}, but those of the config are {list(config.runs())}")
    differing = [key for key in identity.keys() & of_config.keys() if identity[key] != of_config[key]]
    further = {"data_digest", "parameters", "buffers", "statistics", "imported", "distance", *COLLECTION, *REFERENCES}
    unknown = identity.keys() - of_config.keys() - further
    if differing or unknown:
        raise StoreError(f"identity and config disagree about {', '.join(sorted({*differing, *unknown}))}")
    if attributes["fingerprint"] != fingerprint(identity):
        raise StoreError("fingerprint does not match identity")
    if attributes["penalty_scale"] != config.penalty_scale:
        raise StoreError(
            f"penalty_scale is {attributes['penalty_scale']}, but that of the config is {config.penalty_scale}"
        )
    if not isinstance(environment, dict) or not isinstance(data_digest, str):
        raise StoreError("environment or the data digest has a wrong type")
    return StoreSpec(
        grid=grid,
        runs=tuple(Run(index, *run) for index, run in enumerate(runs)),
        k=config.k,
        num_classes=classes,
        parameters=parameters,
        identity=identity,
        attrs={
            name: attributes[name] for name in ("config", "penalty_scale", "environment", ORIGIN) if name in attributes
        },
    )
