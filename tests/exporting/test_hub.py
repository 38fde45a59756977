"""A folder for a data set hub, read as the hub, pandas and hesstore read it."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st

import hesstore
from hesstore.errors import ExportError
from hesstore.exporting.hub_card import card, front_matter
from hesstore.exporting.manifest import checksum
from hesstore.store import Status
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "digits.zarr"
    make_store(path, l2=(0.0, 0.001, 0.002, 0.004), k=3, classes=3, statuses={(0, 3): Status.FAILED})
    return path


@pytest.fixture(scope="module")
def folder(store: Path) -> Path:
    path = store.with_name("hub")
    summary = hesstore.export(store, path, format="hub", licence="cc-by-4.0")
    assert summary.skipped == ((0, 0.004),)
    assert summary.files == len([each for each in path.rglob("*") if each.is_file()]) - 2  # manifest and RO-Crate
    return path


def test_the_hub_reads_the_card(store: Path, folder: Path) -> None:
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.pretty_name == "digits"
    assert card.data.size_categories == ["n<1K"]
    configs = card.data.to_dict()["configs"]
    assert {each["data_files"] for each in configs} == {
        str(path.relative_to(folder)) for path in folder.rglob("*.parquet")
    }
    assert [each["config_name"] for each in configs if each.get("default")] == ["strengths"]
    assert "![summary](figures/summary.png)" in card.text
    assert (folder / "figures/summary.png").read_bytes().startswith(b"\x89PNG")
    ds = hesstore.open(store)
    assert ds.attrs["fingerprint"] in card.text
    assert 'model = "mlp"' in card.text


HOSTILE = (
    "a: b # c",
    "'single' and \"double\"",
    "line 1\nline 2\n---\nlicense: mit\n---",
    "...\n--- !!python/object:os.system",
    "<script>alert(1)</script>",
    "\x1b[2J\x7f\x85\x9b\u2028\u202e\ufeff\uffff",
    "&a *b {c} [d] `e` ```",
    "λ 数字 😀",
)


def read_front_matter(text: str) -> object:
    """The front matter as the hub takes it: the YAML between the first two lines ``---``."""
    _, front, _ = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front)


@given(st.sampled_from(HOSTILE) | st.text(max_size=30))
def test_any_name_is_the_same_in_the_front_matter(name: str) -> None:
    values = {"pretty_name": name, "tags": [name], "configs": [{"config_name": name, "default": True}]}
    assert read_front_matter(front_matter(values)) == values


def test_names_cannot_change_the_card(tmp_path: Path) -> None:
    """Names of the store and of the data set, in a store that somebody else made."""
    make_store(tmp_path / "s.zarr")
    ds = hesstore.open(tmp_path / "s.zarr")
    for name in HOSTILE:
        ds.attrs["config"] = json.dumps({"dataset": name, "model": name})
        ds.attrs["fingerprint"] = name
        text = card(ds, name, ["tables/splits.parquet"], ["figures/summary.png"], None)
        front = read_front_matter(text)
        assert isinstance(front, dict)
        assert (front["pretty_name"], "license" in front) == (name, False)
        _, _, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]|^---$", body, re.MULTILINE)
        python = re.search(r"```python\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)
        toml = re.search(r"```toml\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)
        assert python is not None
        assert toml is not None
        assert "<script>" not in body.replace(python[0], "").replace(toml[0], "")
        (download,) = [node for node in ast.walk(ast.parse(python[1])) if isinstance(node, ast.Call)][:1]
        assert ast.literal_eval(download.args[1]) == f"{name}.zarr.zip"
        assert tomllib.loads(toml[1]) == {"dataset": name, "model": name}


def test_the_data_are_those_of_the_store(store: Path, folder: Path) -> None:
    ds = hesstore.open(store)
    xr.testing.assert_identical(hesstore.open(folder / "digits.zarr.zip").load(), ds.load())
    table = pd.read_parquet(folder / "tables" / "splits.parquet")
    assert (
        table.loc[table["split"] == "test", "loss"].tolist() == ds["loss"].sel(run=0, split="test").values[:3].tolist()
    )


def test_the_metadata_list_every_file(folder: Path) -> None:
    graph = {each["@id"]: each for each in json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]}
    root = graph[graph["ro-crate-metadata.json"]["about"]["@id"]]
    assert graph[root["license"]["@id"]]["name"] == "cc-by-4.0"
    names = [part["@id"] for part in root["hasPart"]]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {*names} == files - {"manifest.jsonl", "ro-crate-metadata.json"}
    for name in names:
        assert graph[name]["sha256"] == checksum(folder / name)
        assert graph[name]["contentSize"] == str((folder / name).stat().st_size)


def test_a_second_export_writes_what_changed(store: Path, folder: Path) -> None:
    again = hesstore.export(store, folder, format="hub", licence="cc-by-4.0")
    assert again.files == 0
    assert again.present == len([each for each in folder.rglob("*") if each.is_file()]) - 2
    other = hesstore.export(store, folder, format="hub", licence="mit")
    assert other.files == 1  # the card
    assert DatasetCard.load(folder / "README.md").data.license == "mit"
    hesstore.export(store, folder, format="hub", licence="cc-by-4.0")


def test_the_command(store: Path, tmp_path: Path, run_hesstore: RunHesstore) -> None:
    done = run_hesstore("export", store, "--format", "hub", "--no-vectors")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digits-hub" / "digits.zarr.zip").exists()
    assert "weights" not in hesstore.open(tmp_path / "digits-hub" / "digits.zarr.zip")
    card = DatasetCard.load(tmp_path / "digits-hub" / "README.md")
    assert card.data.license is None
    assert "No licence has been chosen" in card.text


def test_bad_input_writes_nothing(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, message in (
        ({"licence": "my own"}, "licence: 'my own' is not an identifier"),
        ({"runs": [0]}, "hub: packs the whole store"),
        ({"only": ["weights"]}, "only: hub files have no kinds to choose from"),
    ):
        with pytest.raises(ExportError, match=message):
            hesstore.export(store, out, format="hub", **options)
    with pytest.raises(ExportError, match="licence: applies to hub only"):
        hesstore.export(store, out, format="csv", licence="mit")
    with pytest.raises(ExportError, match="give its path, not a Dataset"):
        hesstore.export(hesstore.open(store), out, format="hub")
    assert not out.exists()
    out.mkdir()
    (out / "README.md").write_text("mine")
    with pytest.raises(ExportError, match="are not from this export"):
        hesstore.export(store, out, format="hub")
    assert [path.name for path in out.iterdir()] == ["README.md"]
