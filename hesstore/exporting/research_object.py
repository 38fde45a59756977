"""RO-Crate metadata: a machine-readable description of a folder of research data (version 1.1 of the specification)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hesstore.exporting.manifest import Entry

NAME = "ro-crate-metadata.json"

_FORMATS = {
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".zip": "application/zip",
}


def ro_crate(name: str, description: str, date: str, licence: str | None, files: Sequence[Entry]) -> str:
    """Return the metadata as JSON-LD.

    Parameters
    ----------
    name, description : str
        Name and description of the data.
    date : str
        Date of the data, in ISO 8601.
    licence : str, optional
        Identifier of the licence.
    files : sequence of Entry
        The files of the folder.
    """
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": name,
        "description": description,
        "datePublished": date,
        "hasPart": [{"@id": file.name} for file in files],
    }
    terms = [{"@id": "#licence", "@type": "CreativeWork", "name": licence}] if licence else []
    if terms:
        root["license"] = {"@id": "#licence"}
    descriptor = {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    parts = [
        {
            "@id": file.name,
            "@type": "File",
            "contentSize": str(file.bytes),
            "encodingFormat": next((kind for end, kind in _FORMATS.items() if file.name.endswith(end)), "text/plain"),
            "sha256": file.sha256,
        }
        for file in files
    ]
    graph = [descriptor, root, *terms, *parts]
    return json.dumps({"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}, indent=2) + "\n"
