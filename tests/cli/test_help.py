from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest

from hesstore.config import settings
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.main import cli
from tests.support.command_line import RunHesstore


def page(run_hesstore: RunHesstore, *command: str) -> str:
    done = run_hesstore(*command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout


def sections(text: str) -> dict[str, str]:
    """The lines under each heading."""
    headings = list(re.finditer(r"^(\w.*):$", text, re.MULTILINE))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    return {heading[1]: text[heading.end() : end] for heading, end in zip(headings, ends, strict=True)}


@pytest.mark.parametrize("command", ["sweep", "import", "config"])
def test_each_setting_is_in_its_group(run_hesstore: RunHesstore, command: str) -> None:
    found = sections(page(run_hesstore, command))
    for setting in settings():
        option = f"--{setting.name.replace('_', '-')} "
        assert option in found[setting.metadata["group"]], option
        assert sum(f"\n  {option}" in text for text in found.values()) == 1
    assert list(found)[:2] == ["Options", "Where settings come from"]
    assert "--preset paper|quickstart" in found["Where settings come from"]
    assert "--help" in found["Options"]


def test_settings_of_a_group_follow_each_other() -> None:
    groups = [setting.metadata["group"] for setting in settings()]
    assert len(set(groups)) == 1 + sum(one != other for one, other in itertools.pairwise(groups))


def test_defaults_and_units_are_shown_unbroken(run_hesstore: RunHesstore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = page(run_hesstore, "sweep")
    for shown in ("[default: 0:0.09:451]", "[default: 64 rows]", "[default: 0 GiB]", "[default: 128,128 units]"):
        assert shown in text


@pytest.mark.parametrize("columns", [60, 80])
def test_pages_fit_a_terminal(run_hesstore: RunHesstore, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """All lines fit, except examples, which are copied as they are."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, page(run_hesstore).splitlines())) <= columns
    for name in cli.commands:
        text = page(run_hesstore, name)
        _, _, examples = text.partition("  Example")
        examples, _, _ = examples.partition("\n\n")
        assert f"hesstore {name}" in examples
        for line in text.replace(examples, "").splitlines():
            assert len(line) <= columns, (name, line)
            assert not line.endswith("-"), (name, line)


def test_every_command_has_a_group_and_a_whole_summary(
    run_hesstore: RunHesstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = sections(page(run_hesstore))
    groups = ("Run a sweep", "Analyse checkpoints", "Look at results", "Exchange files", "Maintenance")
    lines = [line for group in groups for line in found[group].strip().split("\n\n")[0].splitlines()]
    assert sorted(line.split()[0] for line in lines) == sorted(cli.commands)
    assert all(line.endswith(".") for line in lines)


def test_exit_statuses_are_listed(run_hesstore: RunHesstore) -> None:
    text = page(run_hesstore)
    assert [*map(int, ExitStatus)] == [0, 1, 2, 3, 4, 5, 75, 130]
    for status in ExitStatus:
        assert f"    {status.value:<3}  {status.meaning}\n" in text + "\n"


def test_help_imports_nothing_heavy(environment: dict[str, str]) -> None:
    """One process prints all pages, because every page must be fast."""
    pages = [["--help"], *([name, "--help"] for name in cli.commands)]
    code = (
        "import sys\nfrom hesstore_cli.main import run\n"
        f"for page in {pages!r}: assert run(page) == 0\n"
        "heavy = {'torch', 'numpy', 'xarray', 'zarr', 'pandas', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: hesstore") == len(pages)
