from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hesstore.config import settings
from hesstore.exporting import original_csv
from hesstore.problem import training_data
from hesstore_cli.commands.completion import SHELLS, VARIABLE, split
from tests.support.command_line import RunHesstore

BIN = Path(sys.executable).parent

START = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$(hesstore completion bash)"'),
    "zsh": (["-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(hesstore completion zsh)"'),
    "fish": (["--no-config", "-i"], "hesstore completion fish | source"),
}


class Terminal:
    """A real shell on a terminal, with the completion script loaded."""

    def __init__(self, shell: str, folder: Path) -> None:
        options, setup = START[shell]
        self.side, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [str(shutil.which("setsid")), "--ctty", shell, *options],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LANG": "C.UTF-8"},
        )
        os.close(terminal)
        self.seen = ""
        self.type(f"{setup}; echo 'rea''dy'\n")
        self.wait_for("ready")

    def type(self, keys: str) -> None:
        os.write(self.side, keys.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + 20
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen
            if select.select([self.side], [], [], 0.2)[0]:
                self.seen += os.read(self.side, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def words(self, keys: str) -> list[str]:
        """The words that a command receives after ``keys`` are typed; a + marks the position of the cursor."""
        self.type(keys + "+\x01printf '{%s}' \x05; echo '<''end>'\n")  # to the line's start, and its end
        found = self.wait_for(r"(?s)(\{hesstore\}[^\n]*?)<end>")[1]
        return re.findall(r"\{(.*?)\}", found)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.side)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with stores and other files."""
    for store in ("run.zarr", "results/a b.zarr"):
        (tmp_path / store).mkdir(parents=True)
        (tmp_path / store / "zarr.json").touch()
    for name in ("my.toml", "packed.zarr.zip", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture(params=["bash", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zsh", "fish"))])
def terminal(request: pytest.FixtureRequest, folder: Path) -> Iterator[Terminal]:
    if shutil.which(request.param) is None or not (BIN / "hesstore").exists():
        pytest.skip(f"no {request.param}, or hesstore is not installed")
    started = Terminal(request.param, folder)
    yield started
    started.close()


def test_a_line_typed_with_tabs(terminal: Terminal, folder: Path) -> None:
    typed = "hesstore swe\tru\t--pres\tquick\t--set pen\th\t--device=cp\t--config m\t--density-w\t"
    assert terminal.words(typed) == [
        *("hesstore", "sweep", "run.zarr", "--preset", "quickstart", "--set", "penalty=half", "--device=cpu"),
        *("--config", "my.toml", "--density-width", "+"),
    ]
    assert terminal.words("hesstore info 'res\ta\t") == ["hesstore", "info", "results/a b.zarr", "+"]
    assert terminal.words("hesstore info ~/res\ta\t") == ["hesstore", "info", f"{folder}/results/a b.zarr", "+"]
    assert terminal.words("hesstore info res\t") == ["hesstore", "info", "results/+"]
    assert terminal.words("hesstore info not\t") == ["hesstore", "info", "not+"]


@pytest.fixture
def offered(
    run_hesstore: RunHesstore, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """The completions of a line, without a shell."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv(VARIABLE, "fish_complete")
        monkeypatch.setenv("COMP_LINE", f"hesstore {line}")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_hesstore()
        assert ended.value.code == 0
        return [text.partition("\t")[0] for text in capsys.readouterr().out.split("\n") if text]

    return ask


def test_values_that_are_offered(offered: Callable[[str], list[str]]) -> None:
    assert offered("pl") == ["plan", "plot"]
    assert offered("sweep x --dataset ") == list(training_data.NAMES)
    assert offered("sweep x --solver=") == ["--solver=lanczos", "--solver=eigsh"]
    assert offered("sweep x --preset ") == ["paper", "quickstart"]
    assert offered("sweep x --set ") == [f"{setting.name}=" for setting in settings()]
    assert offered("sweep x --set density=") == ["density=true", "density=false"]
    assert offered("sweep x --set k=") == []
    assert offered("export x --only gradients,") == [f"gradients,{kind}" for kind in original_csv.KINDS]
    assert offered("export x --format n") == ["netcdf"]
    assert offered("plot s") == ["spectrum", "slice", "summary"]
    assert offered("info ") == ["packed.zarr.zip", "results/", "run.zarr"]
    assert offered("config --of ") == ["packed.zarr.zip", "results/", "run.zarr"]
    assert offered("sweep x --config ") == ["my.toml", "results/", "run.zarr/"]
    assert offered("sweep x --data-dir ") == ["results/", "run.zarr/"]
    assert offered("import n") == ["notes.txt"]
    assert offered("info nowhere/") == []
    assert offered("completion ") == ["bash", "zsh", "fish"]
    assert "--no-density" in offered("sweep x --no-d")


@pytest.mark.parametrize("shell", [shell.name for shell in SHELLS])
def test_the_scripts(run_hesstore: RunHesstore, shell: str) -> None:
    done = run_hesstore("completion", shell)
    assert done.returncode == 0
    assert f"{VARIABLE}={shell}_complete" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n", "/dev/stdin"], input=done.stdout, text=True, capture_output=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hesstore", ["hesstore"]),
        ("hesstore  sweep ", ["hesstore", "sweep", ""]),
        (r"hesstore a\ b", ["hesstore", "a b"]),
        ("hesstore \"it's", ["hesstore", "it's"]),
        (r"hesstore 'a\b' c", ["hesstore", r"a\b", "c"]),
        ("hesstore ''", ["hesstore", ""]),
        ("hesstore x\\", ["hesstore", "x"]),
    ],
)
def test_split(line: str, words: list[str]) -> None:
    assert split(line).words == words
