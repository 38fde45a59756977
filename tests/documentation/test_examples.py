"""Tests of every example in the README and in docs/: names and options exist, and the slow tests run it."""

from __future__ import annotations

import contextlib
import glob
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import hesstore as library
from hesstore.config import PRESETS, SweepConfig, settings
from hesstore_cli.main import cli
from tests.documentation.code_names import check_names
from tests.documentation.page_examples import Block, Command, blocks, inline, pages
from tests.support.command_line import RunHesstore

BLOCKS = [block for page in pages() for block in blocks(page)]
COMMANDS = [command for block in BLOCKS if block.language == "sh" for command in block.commands]
PYTHON = [block for block in BLOCKS if block.language == "python"]

ELSEWHERE = ("docs/examples/", "docs/gallery/")
"""The folders whose examples test_worked_examples.py and test_gallery.py run and check."""

NOT_HERE = {
    "sweep": "trains for minutes to days; tests/test_quickstart.py runs one",
    "plan": "needs MNIST, which would be downloaded",
    "my.zarr": "made by a command that trains for minutes",
    "s3://": "needs a bucket; tests/store/test_s3.py uses one",
    "models/": "needs checkpoints; tests/importing/test_checkpoints.py uses some",
}
"""Why some commands of the README are not run, by a word in them. The README has no ``not run`` comments."""


def why_not(command: Command) -> str:
    """Return why a command is not run here; empty if it is run."""
    if not command.place.startswith("README.md"):
        return ""
    return next((why for word, why in NOT_HERE.items() if any(word in each for each in command.arguments)), "")


def left_out() -> Iterator[tuple[str, str]]:
    """Yield each example that is not run, and the reason."""
    for block in BLOCKS:
        if block.not_run:
            yield block.place, block.not_run
        elif block.language == "sh":
            yield from ((str(command), why_not(command)) for command in block.commands if why_not(command))


def parsed(command: Command) -> click.Context:
    """Parse the arguments of a command with click, without running it."""
    group = cli.make_context("hesstore", list(command.arguments))
    name, found, rest = cli.resolve_command(group, [*group._protected_args, *group.args])
    assert found is not None
    return found.make_context(name, rest, parent=group)


def test_there_are_examples() -> None:
    assert {block.place.partition(":")[0] for block in BLOCKS} >= {"README.md", "docs/guide.md", "docs/files.md"}
    assert len(COMMANDS) > 40
    assert len(PYTHON) > 8


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_are_understood(command: Command) -> None:
    """Check options and their values, and for a sweep also its settings."""
    options = parsed(command).params
    if "preset" in options and not options["config_file"]:
        named = {each.name: options[each.name] for each in settings() if options[each.name] is not None}
        SweepConfig.from_mapping({**PRESETS[options["preset"]], **named})


def test_commands_in_the_text_are_understood() -> None:
    for command in (command for page in pages() for command in inline(page)):
        with contextlib.suppress(click.MissingParameter, click.BadOptionUsage, click.exceptions.Exit):
            parsed(command)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    for code in re.findall(r"`((?:hesstore|ds\.hess)\.[\w.]+)", page.read_text()):
        check_names(code)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_names_exist(block: Block) -> None:
    check_names(block.text)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store like that of the quickstart, but of a network with 4 hidden units that is trained for one epoch."""
    path: Path = tmp_path_factory.mktemp("documentation") / "quickstart.zarr"
    hardly = {"hidden": "4", "epochs": 1, "k": 12, "hessian_samples": 300, "device": "cpu"}
    library.run_sweep(SweepConfig.from_mapping({**PRESETS["quickstart"], **hardly}), path)
    return path


@pytest.mark.slow
def test_examples_run(small: Path, run_hesstore: RunHesstore, tmp_path: Path) -> None:
    """Run all examples in one folder, page by page, because later examples read files that earlier ones write."""
    for name in ("quickstart.zarr", "run.zarr"):
        shutil.copytree(small, tmp_path / name)
    for block in (block for block in BLOCKS if not block.not_run and not block.place.startswith(ELSEWHERE)):
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, block.place, "exec"), {})  # noqa: S102 - examples of our own pages
        elif block.language == "sh":
            for command in (command for command in block.commands if not why_not(command)):
                words = [name for word in command.arguments for name in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
                done = run_hesstore(*words)
                assert done.returncode == 0, f"{command}\n{done.stderr}"
                if command.output:
                    Path(command.output).write_text(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [pytest.param(place, id=place, marks=pytest.mark.skip(reason=f"{place}: {why}")) for place, why in left_out()],
)
def test_examples_that_are_not_run(place: str) -> None:
    """List the examples that are not run in pytest's summary."""
