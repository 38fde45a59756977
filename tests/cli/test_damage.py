"""In every command, damage is one line on stderr and exit status 5."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import hesstore as library
from hesstore.errors import CorruptStoreError
from hesstore.store.places.location import locate
from hesstore.store.root_group import check_attributes
from hesstore_cli.main import run
from tests.support.command_line import RunHesstore
from tests.support.toy import TOY

OPTIONS = [part for key, value in TOY.items() for part in (f"--{key.replace('_', '-')}", str(value))]
COMMANDS = {
    "info": ["info", "s.zarr"],
    "provenance": ["info", "s.zarr", "--provenance"],
    "status": ["status", "s.zarr"],
    "plan": ["plan", "s.zarr", *OPTIONS],
    "sweep": ["sweep", "s.zarr", *OPTIONS],
    "csv": ["export", "s.zarr", "--format", "csv", "-o", "out"],
    "parquet": ["export", "s.zarr", "--format", "parquet", "-o", "out"],
    "spectrum": ["plot", "spectrum", "s.zarr", "-o", "out.svg"],
    "accuracy": ["plot", "accuracy", "s.zarr", "-o", "out.svg"],
    "report": ["report", "s.zarr", "-o", "out.html"],
    "diff": ["diff", "s.zarr", "s.zarr"],
    "config": ["config", "--of", "s.zarr"],
    "verify": ["verify", "s.zarr"],
}


def of_status(store: Path) -> None:
    file = store / "status/c/0/0"
    data = file.read_bytes()
    file.write_bytes(data[:4] + bytes(255 - byte for byte in data[4:8]) + data[8:])


def of_entries(store: Path) -> None:
    os.truncate(store / "class_accuracy/c/0/0/0/0", 5)


def of_coordinate(store: Path) -> None:
    os.truncate(store / "l2/c/0", 3)


def of_attribute(store: Path) -> None:
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"]["config"] = "{"
    (store / "zarr.json").write_text(json.dumps(root))


def of_root(store: Path) -> None:
    (store / "zarr.json").write_text("{")


UNTOUCHED: dict[Callable[[Path], None], set[str]] = {  # commands that do not read the damaged file
    of_status: {"config"},
    of_entries: {"config"},
    of_coordinate: {"config"},
    of_attribute: set(),
    of_root: set(),
}
BEYOND_REPAIR = (of_attribute, of_root)
LIKE_OTHERS = {"provenance", "parquet"}  # they read with the code of info and csv


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("damage") / "s.zarr"
    assert run(["sweep", str(store), *OPTIONS]) == 0
    return store


@pytest.fixture(scope="module")
def damaged(swept: Path) -> dict[Callable[[Path], None], Path]:
    """A copy of the store for each damage; no command changes it."""
    copies = {damage: shutil.copytree(swept, swept.with_name(f"{damage.__name__}.zarr")) for damage in UNTOUCHED}
    for damage, store in copies.items():
        damage(store)
    return copies


@pytest.mark.parametrize("damage", UNTOUCHED, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] if name in LIKE_OTHERS else []) for name in COMMANDS]
)
def test_every_command_on_every_damage(
    run_hesstore: RunHesstore,
    damaged: dict[Callable[[Path], None], Path],
    tmp_path: Path,
    command: str,
    damage: Callable[[Path], None],
) -> None:
    done = run_hesstore(*(damaged[damage] if part == "s.zarr" else part for part in COMMANDS[command]))
    assert done.returncode == (0 if command in UNTOUCHED[damage] else 5), done.stderr
    if done.returncode:
        (line,) = done.stderr.splitlines()
        assert line.startswith("hesstore: ")
        assert not list(tmp_path.glob("out.*"))  # an export stays, so that the same command can continue it


@pytest.mark.parametrize("damage", UNTOUCHED, ids=lambda damage: damage.__name__)
def test_repair_is_offered_where_it_helps(
    run_hesstore: RunHesstore, swept: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(swept, tmp_path / "s.zarr")
    damage(tmp_path / "s.zarr")
    message = run_hesstore("verify", "s.zarr").stderr
    is_lost = damage in BEYOND_REPAIR
    remedy = "cannot be repaired: restore the store from a copy" if is_lost else "hesstore verify s.zarr --repair"
    assert message.endswith(f": {remedy}\n")
    assert run_hesstore("verify", "s.zarr", "--repair").returncode == (5 if is_lost else 0)


@pytest.mark.parametrize("name", ["config", "identity", "environment", "runs", "origin"])
@pytest.mark.parametrize("value", ["3", 3, "{"])
def test_attributes_are_json_of_their_kind(tmp_path: Path, name: str, value: object) -> None:
    sound = {"title": "{", "runs": "[]", "config": "{}", "identity": "{}", "environment": "{}"}
    check_attributes(locate(tmp_path), sound)
    with pytest.raises(CorruptStoreError, match=f"its attribute '{name}' is damaged"):
        check_attributes(locate(tmp_path), {**sound, name: value})


@pytest.mark.parametrize(("penalty", "scale"), [("half", 1.0), ("full", [1.0]), ("half", None), ("other", 7)])
def test_the_scale_of_the_penalty_is_that_of_the_config(tmp_path: Path, penalty: str, scale: object) -> None:
    attributes = {"runs": "[]", "config": json.dumps({"penalty": penalty}), "identity": "{}", "environment": "{}"}
    check_attributes(locate(tmp_path), {**attributes, "config": '{"penalty": "half"}', "penalty_scale": 0.5})
    with pytest.raises(CorruptStoreError, match="its attribute 'penalty_scale' is damaged"):
        check_attributes(locate(tmp_path), {**attributes, "penalty_scale": scale})


def test_other_errors_keep_their_traceback(
    run_hesstore: RunHesstore, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are bugs."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(library, "open", broken)
    with pytest.raises(ValueError, match="a bug"):
        run_hesstore("info", swept)
