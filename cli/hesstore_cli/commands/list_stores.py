"""``hesstore list``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli import completion_values
from hesstore_cli.help_pages import Command
from hesstore_cli.options import json_option
from hesstore_cli.terminal.streams import write_line
from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hesstore.store.places.place import Place

DEPTH = 3
"""Levels of folders below DIR in which stores are found."""


@click.command("list", cls=Command)
@click.argument(
    "folder",
    metavar="[DIR]",
    default=".",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    shell_complete=completion_values.folders,
)
@json_option
def list_(folder: Path, *, as_json: bool) -> None:
    """List the stores in DIR and below it.

    DIR is the current folder by default; folders three levels below it are searched too. The output shows the data set
    and the network of each store, its size, and how many of its grid points are complete.

    \b
    Examples:
      hesstore list
      hesstore list results --json
    """
    found = [_facts(path) for path in stores_in(folder)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        write_line(f"no store in {folder}")
    else:
        headings = ("store", "complete", "state", "runs", "λ values", "k", "data", "network")
        for line in table(headings, [_row(facts) for facts in found], align="<><>>><<", width=width()):
            click.echo(line)


def stores_in(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the stores in a folder and below it, folders and zip files, in the order of their names."""
    if (folder / "zarr.json").is_file() and _is_store(folder):
        yield folder
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # not readable
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (path / "zarr.json").is_file() or (depth and not entry.is_symlink()):
                yield from stores_in(path, depth - 1)
        elif path.suffix.lower() == ".zip" and _is_store(path):
            yield path


def _is_store(path: Path) -> bool:
    """Whether a folder or a zip file contains a store of hesstore, which may be damaged."""
    from hesstore.errors import CorruptStoreError, HesstoreError
    from hesstore.store.root_group import open_group

    try:
        open_group(path)
    except CorruptStoreError:
        return True
    except (HesstoreError, OSError):
        return False
    return True


def _facts(path: Path) -> dict[str, Any]:
    """Return the facts of a store for ``--json``; those of a damaged store are null."""
    import numpy as np

    from hesstore.errors import HesstoreError
    from hesstore.store.arrays import Arrays
    from hesstore.store.decoding import decoding
    from hesstore.store.import_origin import origin_of
    from hesstore.store.places.location import locate
    from hesstore.store.root_group import open_group
    from hesstore.store.schema import Status

    place = locate(path)
    facts: dict[str, Any] = dict.fromkeys(
        ("dataset", "model", "runs", "l2", "k", "complete", "failed", "total", "is_driven")
    )
    try:
        group = open_group(place)
        arrays = Arrays(group, str(place))
        with decoding(str(place)):
            status = np.asarray(arrays["status"][:])
        config = json.loads(str(group.attrs["config"]))
        dataset = "imported" if origin_of(group.attrs).is_import else config["dataset"]
        facts |= {"dataset": dataset, "model": config["model"], "k": config["k"]}
        facts |= dict(zip(("runs", "l2"), status.shape, strict=True))
        facts |= {each.name.lower(): int((status == each).sum()) for each in (Status.COMPLETE, Status.FAILED)}
        facts |= {"total": status.size, "is_driven": _is_driven(place, len(status))}
    except (HesstoreError, OSError, KeyError, ValueError):
        pass
    return {"path": str(path), **facts}


def _is_driven(place: Place, runs: int) -> bool:
    return any(holder.alive is not False for run in range(runs) if (holder := place.holder(run)) is not None)


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    if facts["total"] is None:
        return (facts["path"], "–", "damaged", "–", "–", "–", "–", "–")
    left = facts["total"] - facts["complete"] - facts["failed"]
    state = ("running" if facts["is_driven"] else "stopped") if left else "finished"
    if facts["failed"]:
        state += f", {facts['failed']} failed"
    numbers = [str(facts[name]) for name in ("runs", "l2", "k")]
    return (facts["path"], f"{facts['complete']}/{facts['total']}", state, *numbers, facts["dataset"], facts["model"])
