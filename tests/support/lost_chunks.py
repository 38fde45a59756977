"""Damage to every kind of chunk of a store, and what commands must do about it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hesstore.store.schema import BY_NAME
from tests.support.command_line import RunHesstore
from tests.support.toy import TOY

SETTINGS = {**TOY, "l2": "0,0.001", "k": 9, "epochs": 1, "lowest": 2, "response": 0.1, "probes": 4, "density": ""}
OPTIONS = [part for key, value in SETTINGS.items() for part in (f"--{key.replace('_', '-')}", str(value)) if part]
COMMANDS = {
    "info": ["info", "s.zarr"],
    "status": ["status", "s.zarr"],
    "plan": ["plan", "s.zarr", *OPTIONS],
    "sweep": ["sweep", "s.zarr", *OPTIONS],
    "grow": ["sweep", "s.zarr", *OPTIONS, "--l2", "0,0.001,0.002", "--grow"],
    "csv": ["export", "s.zarr", "-o", "out"],
    "gradients": ["export", "s.zarr", "--only", "gradients", "-o", "out"],
    "tidy": ["export", "s.zarr", "--style", "tidy", "-o", "out"],
    "parquet": ["export", "s.zarr", "--format", "parquet", "-o", "out"],
    "pth": ["export", "s.zarr", "--format", "pth", "-o", "out"],
    "netcdf": ["export", "s.zarr", "--format", "netcdf", "-o", "out.nc"],
    "zip": ["export", "s.zarr", "--format", "zip", "-o", "out.zarr.zip"],
    "spectrum": ["plot", "spectrum", "s.zarr", "-o", "out.svg"],
    "classes": ["plot", "classes", "s.zarr", "-o", "out.svg"],
    "overlap": ["plot", "overlap", "s.zarr", "-o", "out.svg"],
    "report": ["report", "s.zarr", "-o", "out.html"],
    "transitions": ["transitions", "s.zarr"],
    "diff": ["diff", "s.zarr", "s.zarr"],
}
NEED_ALL = {"netcdf", "zip", "diff", "csv", "tidy", "parquet", "gradients"}
"""Commands that read all large variables."""

SOME = ("eigenvalues", "converged", "status", "entries_digest", "digest", "l2", "layer", "eigenvectors", "class_slope")


def deleted(file: Path) -> None:
    file.unlink()


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def truncated(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)


Damage = Callable[[Path], None]
DAMAGES: tuple[Damage, ...] = (deleted, truncated, flipped, emptied)


def chunks(store: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """The last file of each kind of chunk."""
    for folder in sorted(store.glob("*/c")):
        if not names or folder.parent.name in names:
            yield max(file for file in folder.rglob("*") if file.is_file())


def is_silent(name: str, damage: Damage, command: str) -> bool:
    """Whether a command need not notice: it does not read this large variable, whose file exists."""
    is_large = name in BY_NAME and BY_NAME[name].is_large
    return is_large and damage in {truncated, flipped} and command not in NEED_ALL


def outputs(folder: Path) -> dict[str, bytes]:
    found = (file for top in folder.glob("out*") for file in (top.rglob("*") if top.is_dir() else [top]))
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in found if file.suffix != ".jsonl" and file.is_file()
    }


def remove_outputs(folder: Path) -> None:
    for top in folder.glob("out*"):
        shutil.rmtree(top) if top.is_dir() else top.unlink()


def hold(run_hesstore: RunHesstore, folder: Path, file: Path, damage: Damage, command: str) -> None:
    """A command on a damaged store ends with status 5 and the file's name, or writes what it writes for a whole one."""
    name = file.relative_to(folder / "s.zarr").parts[0]
    done = run_hesstore(*COMMANDS[command])
    if done.returncode == 5:
        assert str(file.relative_to(folder / "s.zarr")) in done.stderr, (name, damage, command, done.stderr)
        assert len([line for line in done.stderr.splitlines() if not line.startswith("plan: ")]) == 1
    else:
        assert done.returncode == 0, (name, damage, command, done.stderr)
        assert is_silent(name, damage, command), (name, damage, command)


def hold_all(run_hesstore: RunHesstore, swept: Path, folder: Path, command: str, names: Sequence[str] = ()) -> int:
    """Run a command on copies of a store with one damaged chunk each, with the damages in turn; return their number.

    What it writes is what it writes for the whole store, or nothing.
    """
    store = folder / "s.zarr"
    shutil.copytree(swept, store)
    assert run_hesstore(*COMMANDS[command]).returncode == 0
    expected = outputs(folder)
    remove_outputs(folder)
    if command == "grow":
        shutil.rmtree(store)
        shutil.copytree(swept, store)
    count = 0
    for damage, file in zip(itertools.cycle(DAMAGES), chunks(store, names), strict=False):
        whole = file.read_bytes()
        damage(file)
        hold(run_hesstore, folder, file, damage, command)
        assert outputs(folder).items() <= expected.items(), (file, damage, command)
        remove_outputs(folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(whole)
        count += 1
    return count
