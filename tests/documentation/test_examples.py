"""Every example in the README and in docs/: its names and options exist, and it runs where it can."""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import hesstore as library
from hesstore import analysis, plots
from hesstore.config import SweepConfig, given, settings
from hesstore_cli.main import cli
from tests.conftest import Done
from tests.documentation import tutorial
from tests.documentation.examples import Block, Command, blocks, inline, pages

BLOCKS = [block for page in pages() for block in blocks(page)]
COMMANDS = [command for block in BLOCKS if block.language == "sh" for command in block.commands]
PYTHON = [block for block in BLOCKS if block.language == "python"]

NOT_HERE = {
    "sweep": "trains for minutes to days; a quickstart is run by tests/test_quickstart.py, sweeps by tests/test_sweep.py",
    "s3://": "needs a bucket; tests/store/test_s3.py has one",
}
"""Command lines that are parsed but not run, by a word in them."""


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
    context = parsed(command)
    if "preset" in context.params:
        named = {setting.name: context.params[setting.name] for setting in settings()}
        values = {name: value for name, value in named.items() if value is not None}
        if not context.params["config_file"]:
            SweepConfig.from_mapping(given(context.params["preset"], None, context.params["assignments"], values))


def test_commands_in_the_text_are_understood() -> None:
    for command in (command for page in pages() for command in inline(page)):
        with contextlib.suppress(click.MissingParameter, click.exceptions.Exit):
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


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_names_exist(block: Block) -> None:
    check_names(block.text)


def test_the_tutorial_is_a_notebook_with_outputs() -> None:
    notebook = tutorial.read()
    tutorial.check(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        check_names(cell.source)
    shown = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 5
    assert not [output for output in shown if output.output_type == "error" or output.get("name") == "stderr"]
    assert tutorial.NOTEBOOK.stat().st_size < 1_000_000
    assert not [word for word in ("/home/", "/tmp/", "/root/", "/Users/") if word in tutorial.NOTEBOOK.read_text()]  # noqa: S108


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store like the quickstart's, of a network of 4 hidden units that is hardly trained."""
    path: Path = tmp_path_factory.mktemp("documentation") / "quickstart.zarr"
    values = {"hidden": "4", "epochs": "1", "k": "12", "hessian_samples": "300", "device": "cpu"}
    library.run_sweep(SweepConfig.from_mapping(given("quickstart", None, (), values)), path)
    return path


@pytest.mark.slow
def test_examples_run(small: Path, hesstore: Callable[..., Done], tmp_path: Path) -> None:
    """In one folder, page by page: what one example writes the next may read."""
    for name in ("quickstart.zarr", "run.zarr"):
        shutil.copytree(small, tmp_path / name)
    for block in BLOCKS:
        if block.not_run:
            continue
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, block.place, "exec"), {})  # noqa: S102 - our own examples
        for command in block.commands if block.language == "sh" else ():
            if any(word in argument for word in NOT_HERE for argument in command.arguments):
                continue
            words = [name for word in command.arguments for name in (sorted(glob.glob(word)) or [word])]  # noqa: PTH207
            done = hesstore(*words)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            if command.output:
                Path(command.output).write_text(done.stdout)
