"""What a newcomer tries: a store without its options, other programs' names, a mistyped store, a narrow terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import tomllib
import webbrowser
from pathlib import Path

import pytest

from hesstore.config import settings, sources
from hesstore.config.suggestions import SYNONYMS
from hesstore.store import Status, SweepStore
from hesstore_cli.help_pages import COMMAND_SYNONYMS
from hesstore_cli.main import cli
from hesstore_cli.terminal.config_text import ignored_settings
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store


def complete(path: Path) -> int:
    store = SweepStore.open(path)
    return sum(int((store.status(run) == Status.COMPLETE).sum()) for run in store.runs)


def test_an_existing_store_continues_with_its_own_config(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path
) -> None:
    code = toy_arguments[toy_arguments.index("--dataset") + 1]
    assert run_hesstore("sweep", "s.zarr", *toy_arguments, "--k", "0").returncode == 0
    refused = run_hesstore("sweep", "s.zarr")
    assert refused.returncode == 2
    assert f"names code, {code}, which is not run without your consent: add --dataset {code}" in refused.stderr
    trusted = ["sweep", "s.zarr", "--dataset", code]
    assert "nothing was left to compute" in run_hesstore(*trusted).stderr
    other = run_hesstore(*trusted, "--seeds", "0,1")
    assert other.returncode == 3
    assert "seeds is [0] in the store, [0, 1] in the config" in other.stderr
    assert run_hesstore(*trusted, "--seeds", "0,1", "--grow").returncode == 0
    assert complete(tmp_path / "s.zarr") == 8
    own = tomllib.loads(run_hesstore("config", "--of", "s.zarr").stdout)
    assert (own["epochs"], own["seeds"]) == (3, [0, 1])


def test_overwriting(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    """It asks, or needs --yes; a folder that is not a store, and a store that is in use, stay as they are."""
    path = tmp_path / "s.zarr"
    fits = [*toy_arguments, "--k", "0"]
    assert run_hesstore("sweep", path, *fits).returncode == 0
    before = path.stat().st_ino
    refused = run_hesstore("sweep", path, *fits, "--overwrite")
    assert refused.returncode == 2
    assert "(4 complete grid points, " in refused.stderr
    assert "add --yes" in refused.stderr
    store = SweepStore.open(path)
    with store.claim(store.runs[0]):
        busy = run_hesstore("sweep", path, *fits, "--overwrite", "--yes")
        assert busy.returncode == 1
        assert "is being computed by process" in busy.stderr
    assert run_hesstore("sweep", path, *fits, "--lr", "-1", "--overwrite", "--yes").returncode == 2
    assert (path.stat().st_ino, complete(path)) == (before, 4)
    done = run_hesstore("sweep", path, "--dataset", fits[1], "--seeds", "7", "--overwrite", "--yes")
    assert done.returncode == 0, done.stderr
    store = SweepStore.open(path)
    assert ([run.seed for run in store.runs], len(store.grid), complete(path)) == ([7], 4, 4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]
    (path / "zarr.json").write_text((path / "zarr.json").read_text().replace('"config"', '"konfig"'))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    foreign = run_hesstore("sweep", "mine", *fits, "--overwrite", "--yes")
    assert foreign.returncode == 2
    assert "not one of hesstore" in foreign.stderr
    assert run_hesstore("sweep", path, *fits, "--overwrite", "--yes").returncode == 0  # a damaged store can go
    assert complete(path) == 4


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_question_before_overwriting(
    run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "s.zarr", k=2)
    for answer, status in (("n\n", 130), ("y\n", 2)):  # then the sweep refuses its data set, and deletes nothing
        monkeypatch.setattr(sys, "stdin", Keyboard(answer))
        done = run_hesstore("sweep", "s.zarr", "--overwrite", "--dataset", "none")
        assert done.returncode == status, done.stderr
        assert "Delete s.zarr (3 complete grid points, " in done.stderr
        assert (tmp_path / "s.zarr" / "zarr.json").exists()


def test_a_finished_sweep_needs_neither_torch_nor_data(environment: dict[str, str], tmp_path: Path) -> None:
    """Nor xarray and Dask: this is what makes it fast."""
    path = tmp_path / "s.zarr"
    make_store(path, k=2)
    attributes = json.loads((path / "zarr.json").read_text())
    config = json.loads(attributes["attributes"]["config"])
    assert (config["dataset"], config["model"]) == ("mnist", "mlp")
    code = (
        "import sys\nfrom hesstore_cli.main import run\n"
        "status = run(['sweep', 's.zarr'])\n"
        "print(status, [name for name in ('torch', 'xarray', 'dask', 'matplotlib') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "nothing was left to compute" in done.stderr
    assert done.stdout == "0 []\n"


def test_other_names_lead_to_ours(run_hesstore: RunHesstore) -> None:
    for option, meant in (
        ("--learning-rate", "--lr"),
        ("--weight-decay", "--l2"),
        ("--lambda", "--l2"),
        ("--jobs", "--workers"),
        ("-j", "--workers"),
    ):
        done = run_hesstore("sweep", "s.zarr", option, "1")
        assert (done.returncode, f"Did you mean '{meant}'?" in done.stderr) == (2, True), done.stderr
    assert "'--dry-run': hesstore plan takes the same options" in run_hesstore("sweep", "s.zarr", "--dry-run").stderr
    assert "'--resume': a sweep computes only what STORE lacks" in run_hesstore("sweep", "s.zarr", "--resume").stderr
    assert "; did you mean lr?" in run_hesstore("sweep", "s.zarr", "--set", "learning_rate=1").stderr
    assert "Did you mean 'sweep'?" in run_hesstore("resume", "s.zarr").stderr
    assert set(COMMAND_SYNONYMS.values()) <= set(cli.commands)
    options = {parameter.name for command in cli.commands.values() for parameter in command.params}
    flags = {"config", "output", "workers", "overwrite"}
    assert set(SYNONYMS.values()) <= {setting.name for setting in settings()} | flags
    assert not set(SYNONYMS) & (options - {"config_file", "force", "width"})


def test_a_mistyped_store(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    make_store(tmp_path / "fashion.zarr", k=2)
    assert "; did you mean fashion.zarr?" in run_hesstore("info", "fahsion.zarr").stderr
    assert "; stores in .: fashion.zarr" in run_hesstore("info", "mnist").stderr
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("/")  # is not followed, and not even looked at
    assert "folder: is not a Zarr store: it has no zarr.json" in run_hesstore("info", "folder").stderr


def test_a_list_of_stores(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    make_store(tmp_path / "a" / "b" / "one.zarr", seeds=(0, 1), k=2)
    make_store(tmp_path / "two.zarr", k=2)
    assert run_hesstore("export", "two.zarr", "--format", "zip").returncode == 0
    (tmp_path / "two.zarr" / "zarr.json").write_text(
        (tmp_path / "two.zarr" / "zarr.json").read_text().replace('"config"', '"konfig"')
    )
    (tmp_path / "other.zip").write_bytes(b"no")
    facts = {each["path"]: each for each in json.loads(run_hesstore("list", "--json").stdout)}
    assert list(facts) == ["a/b/one.zarr", "two.zarr", "two.zarr.zip"]
    one = facts["a/b/one.zarr"]
    assert (one["runs"], one["k"], one["total"]) == (2, 2, one["l2"] * 2)
    assert (one["complete"], one["is_driven"]) == (complete(tmp_path / "a/b/one.zarr"), False)
    assert facts["two.zarr"]["total"] is None
    text = run_hesstore("list")
    assert text.returncode == 0
    assert [line.split()[0] for line in text.stdout.splitlines()] == ["store", *facts]
    assert "damaged" in text.stdout
    assert run_hesstore("list", "a/b/one.zarr").stdout.splitlines()[1].startswith("a/b/one.zarr ")
    (tmp_path / "empty").mkdir()
    assert run_hesstore("list", "empty").stderr == "no store in empty\n"


def test_python_runs_the_package(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "hesstore", "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hesstore ")


def test_watching_waits_for_a_store(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    def make() -> None:
        time.sleep(0.3)
        make_store(tmp_path / "s.zarr", k=2)

    making = threading.Thread(target=make)
    making.start()
    done = run_hesstore("status", "s.zarr", "--watch", "0.1")
    making.join()
    assert done.returncode in {0, 4}
    assert done.stderr.splitlines()[0] == "waiting for s.zarr, which does not exist yet (Ctrl-C ends)"
    assert "finished" in done.stdout


def test_all_grid_points_and_settings_that_count(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", l2=tuple(index / 1000 for index in range(20)), k=2)
    short, long = run_hesstore("info", "s.zarr").stdout, run_hesstore("info", "s.zarr", "--all").stdout
    assert "8 of 20 complete grid points (--all shows all)" in short
    assert len(long.splitlines()) == len(short.splitlines()) + 20 - 8 - 1
    assert "momentum" not in short
    assert "optimizer=adam" in short
    config = {"model": "my:net", "optimizer": "sgd", "polish": 5, "density": True, "k": 3}
    assert ignored_settings(config) == {"hidden", "chunk_rows", "models", "threads", "memory_gib", "blocks", "block_k"}
    assert {"tol", "probes", "density_steps"} < ignored_settings({**config, "k": 0})


@pytest.mark.slow
def test_narrow_terminals_break_no_word(
    run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "s.zarr", l2=tuple(index / 100 for index in range(12)), k=2)
    for name, *options in (["info"], ["info", "--provenance"], ["status"], ["list"], ["verify"], ["transitions"]):
        arguments = [name, *([] if name == "list" else ["s.zarr"]), *options]
        monkeypatch.delenv("COLUMNS", raising=False)
        wide = run_hesstore(*arguments)
        monkeypatch.setenv("COLUMNS", "50")
        narrow = run_hesstore(*arguments)
        assert narrow.returncode == wide.returncode
        for line in narrow.stdout.splitlines():
            assert len(line) <= 50 or len(line.split()) == 1, line
        missing = set(wide.stdout.split()) - set(narrow.stdout.split())
        assert not {word for word in missing if not set(word) <= set("━─")}


def test_outputs_have_default_names_and_are_shown(
    run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    make_store(tmp_path / "d" / "s.zarr", k=2)
    shown: list[str] = []

    def note(url: str) -> bool:
        shown.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    assert run_hesstore("plot", "accuracy", "d/s.zarr", "--open").returncode == 0
    assert run_hesstore("report", "d/s.zarr", "--open").returncode == 0
    assert shown == [(tmp_path / name).as_uri() for name in ("s-accuracy.png", "s.html")]
    assert all((tmp_path / name).exists() for name in ("s-accuracy.png", "s.html"))
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    failed = run_hesstore("report", "d/s.zarr", "--open")
    assert (failed.returncode, "no web browser was found: open s.html yourself" in failed.stderr) == (1, True)


def test_completion_is_installed_once(
    run_hesstore: RunHesstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    for _ in range(2):
        assert run_hesstore("completion", "--install").returncode == 0
    first, line = (tmp_path / ".bashrc").read_text().splitlines()
    assert first == "alias ll='ls -l'"
    script = tmp_path / ".local" / "share" / "hesstore" / "completion.bash"
    assert line == f"source {script}"
    assert script.read_text() == run_hesstore("completion", "bash").stdout
    assert run_hesstore("completion", "fish", "--install").returncode == 0
    assert (tmp_path / ".config" / "fish" / "completions" / "hesstore.fish").exists()
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert "$SHELL names tcsh" in run_hesstore("completion").stderr


def test_configs_as_python_gives_them(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('k = 4\ndataset = "mnist-5k"\n')
    for given in ({"dataset": "mnist-5k", "k": 4}, tmp_path / "c.toml", str(tmp_path / "c.toml")):
        found = sources.as_config(given)
        assert (found.dataset, found.k, sources.as_config(found)) == ("mnist-5k", 4, found)
    assert sources.as_config("quickstart") == sources.as_config({"preset": "quickstart"})
    assert (
        sources.as_config({"model": make_store, "data_dir": tmp_path}).model == "tests.support.export_stores:make_store"
    )
