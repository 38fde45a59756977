"""Every example in the README and in docs/: its names and options exist, and it runs where it can."""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import hesstore as library
from hesstore import analysis, plots
from hesstore.config import PRESETS, SweepConfig, settings
from hesstore_cli.main import cli
from tests.conftest import Done
from tests.documentation.page_examples import Block, Command, blocks, inline, pages

BLOCKS = [block for page in pages() for block in blocks(page)]
COMMANDS = [command for block in BLOCKS if block.language == "sh" for command in block.commands]
PYTHON = [block for block in BLOCKS if block.language == "python"]

ELSEWHERE = "docs/examples/"
"""Its examples are run by tests/documentation/test_worked_examples.py, with what should come out."""

NOT_HERE = {
    "sweep": "trains for minutes to days; tests/test_quickstart.py runs one",
    "plan": "of MNIST, which would be downloaded",
    "my.zarr": "made by a command that trains for minutes",
    "s3://": "needs a bucket; tests/store/test_s3.py has one",
    "models/": "checkpoints of the reader's own; tests/importing/test_recompute.py has some",
}
"""Why commands of the README are not run, by a word in them; its source stays without marks."""


def why_not(command: Command) -> str:
    """Why a command is not run here; empty if it is."""
    if not command.place.startswith("README.md"):
        return ""
    return next((why for word, why in NOT_HERE.items() if any(word in each for each in command.arguments)), "")


def left_out() -> Iterator[tuple[str, str]]:
    """What is not run, and why."""
    for block in BLOCKS:
        if block.not_run:
            yield block.place, block.not_run
        elif block.language == "sh":
            yield from ((str(command), why_not(command)) for command in block.commands if why_not(command))


def parsed(command: Command) -> click.Context:
    """The command's arguments as click understands them, nothing done."""
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
    """Options and their values, and the settings of a sweep."""
    options = parsed(command).params
    if "preset" in options and not options["config_file"]:
        named = {each.name: options[each.name] for each in settings() if options[each.name] is not None}
        SweepConfig.from_mapping({**PRESETS[options["preset"]], **named})


def test_commands_in_the_text_are_understood() -> None:
    for command in (command for page in pages() for command in inline(page)):
        with contextlib.suppress(click.MissingParameter, click.BadOptionUsage, click.exceptions.Exit):
            parsed(command)


def names_in(tree: ast.AST) -> Iterator[tuple[Any, str]]:
    """What is asked of our modules and of ``ds.hess``, by where it should be."""
    homes: dict[str, Any] = {"hesstore": library, "analysis": analysis, "plots": plots, "hess": analysis}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of = node.value
            home = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
            if home in homes and not (home == "hess" and isinstance(of, ast.Name)):
                yield homes[home], node.attr


def check_names(source: str) -> None:
    for home, name in names_in(ast.parse(source)):
        if name not in home.__all__:
            importlib.import_module(f"{home.__name__}.{name}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    for code in re.findall(r"`((?:hesstore|ds\.hess)\.[\w.]+)", page.read_text()):
        check_names(code)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_names_exist(block: Block) -> None:
    check_names(block.text)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store like the quickstart's, of a network of 4 hidden units that is hardly trained."""
    path: Path = tmp_path_factory.mktemp("documentation") / "quickstart.zarr"
    hardly = {"hidden": "4", "epochs": 1, "k": 12, "hessian_samples": 300, "device": "cpu"}
    library.run_sweep(SweepConfig.from_mapping({**PRESETS["quickstart"], **hardly}), path)
    return path


@pytest.mark.slow
def test_examples_run(small: Path, hesstore: Callable[..., Done], tmp_path: Path) -> None:
    """In one folder, page by page: what one example writes the next may read."""
    for name in ("quickstart.zarr", "run.zarr"):
        shutil.copytree(small, tmp_path / name)
    for block in (block for block in BLOCKS if not block.not_run and not block.place.startswith(ELSEWHERE)):
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, block.place, "exec"), {})  # noqa: S102 - our own examples
        elif block.language == "sh":
            for command in (command for command in block.commands if not why_not(command)):
                words = [name for word in command.arguments for name in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
                done = hesstore(*words)
                assert done.returncode == 0, f"{command}\n{done.stderr}"
                if command.output:
                    Path(command.output).write_text(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [pytest.param(place, id=place, marks=pytest.mark.skip(reason=f"{place}: {why}")) for place, why in left_out()],
)
def test_examples_that_are_not_run(place: str) -> None:
    """They are listed in pytest's summary."""
