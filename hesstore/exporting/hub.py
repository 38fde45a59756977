"""A folder that is ready to be pushed to a data set hub: card, figure, Parquet tables and the packed store."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hesstore import plots
from hesstore.dataset.opening import headline
from hesstore.durable_files import encode_text, write_file
from hesstore.exporting import research_object, tidy_tables
from hesstore.exporting.hub_card import card
from hesstore.exporting.manifest import Entry, Manifest, checksum, header_of
from hesstore.exporting.output_folder import File, WriteSummary, write_files
from hesstore.exporting.zip_archive import pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hesstore.dataset.point_selection import PointSelection
    from hesstore.store.places.location import Location

CARD = "README.md"
FIGURE = "figures/summary.png"


def export_hub(
    store: Location,
    folder: Path,
    name: str,
    selection: PointSelection,
    *,
    vectors: bool,
    licence: str | None,
    force: bool,
    progress: Callable[[int, int], None],
) -> WriteSummary:
    """Write the folder; files that exist already and are up to date are left alone.

    Parameters
    ----------
    store : path or URL
        The store.
    folder : Path
        The folder.
    name : str
        Name of the store, without an ending.
    selection : PointSelection
        Its complete grid points.
    vectors : bool
        Whether the packed store includes eigenvectors, gradients and weights.
    licence : str, optional
        Identifier of the licence of the data.
    force : bool
        Whether to write all files again.
    progress : callable
        Called with (bytes of the store packed, all of its bytes).

    Raises
    ------
    ExportError
        If a file of another origin is in the way, there is not enough space, or the licence is not an identifier.
    """
    ds, run = selection.ds, selection.points[0].run.id
    tables = [
        replace(file, name=f"tables/{file.name}")
        for file in tidy_tables.tidy_files(selection, tuple(tidy_tables.TABLES), "parquet", None)
    ]
    text = card(ds, name, [table.name for table in tables], [FIGURE], licence)
    source = selection.source(selection.points)
    files = [
        *tables,
        File(name=CARD, kind="card", source=f"{source}|{licence}", estimate=len(text), write=partial(_write, text)),
        File(
            name=FIGURE,
            kind="figure",
            source=source,
            estimate=2e5,
            write=lambda path: plots.summary(ds, run).savefig(path, format="png", dpi=150),
        ),
    ]
    manifest = Manifest(folder, header_of(ds.attrs))
    done = write_files(folder, files, manifest, force=force, progress=lambda *_: None)
    archive = folder / f"{name}.zarr.zip"
    packed = pack(store, archive, vectors=vectors, force=force, progress=progress)
    entries = [manifest.entries[file.name] for file in files]
    crate = research_object.ro_crate(
        name, " ".join(headline(ds)), _date(ds.attrs), licence, [*entries, _entry_of(archive, entries[0])]
    )
    write_file(folder / research_object.NAME, encode_text(crate))
    if packed is None:
        return WriteSummary(done.files, done.bytes, done.present + 1)
    return WriteSummary(done.files + 1, done.bytes + archive.stat().st_size, done.present)


def _write(text: str, path: Path) -> None:
    path.write_bytes(encode_text(text))


def _entry_of(archive: Path, other: Entry) -> Entry:
    facts = archive.stat()
    return replace(
        other,
        name=archive.name,
        kind="store",
        bytes=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        sha256=checksum(archive),
    )


def _date(attrs: dict[str, object]) -> str:
    """Return when the sweep was started, which is the only date that a store has."""
    environment = json.loads(str(attrs.get("environment", "{}")))
    return str(environment.get("time", "1970-01-01"))[:10]
