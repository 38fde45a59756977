from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from zarr.errors import ZarrUserWarning

from hesstore import plots
from hesstore.store.schema import SCHEMA_VERSION
from hesstore_cli.commands import plot
from tests.support.command_line import RunHesstore
from tests.support.plot_datasets import BOTH, store


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four grid points in both directions."""
    path = tmp_path_factory.mktemp("plot") / "s.zarr"
    runs = json.dumps(BOTH)
    attributes = {"schema_version": SCHEMA_VERSION, "config": "{}", "identity": "{}", "environment": "{}", "runs": runs}
    ds = store(4, k=6, size=20).assign_attrs(attributes)
    with warnings.catch_warnings():  # zarr warns that other readers may not support consolidated metadata
        warnings.simplefilter("ignore", ZarrUserWarning)
        ds.to_zarr(path, zarr_format=3)
    return path


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in {"bands", "summary"} else pytest.mark.slow) for kind in plots.KINDS]
)
def test_every_kind(run_hesstore: RunHesstore, swept: Path, tmp_path: Path, kind: str) -> None:
    done = run_hesstore("plot", kind, swept, "-o", f"{kind}.svg")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == f"{kind}{'' if kind == 'bands' else ' of run 0'} written to {kind}.svg\n"
    assert "<svg" in (tmp_path / f"{kind}.svg").read_text()


def test_a_figure_for_a_paper(run_hesstore: RunHesstore, swept: Path, tmp_path: Path) -> None:
    done = run_hesstore("plot", "accuracy", swept, "--style", "paper", "--width", "89", "-o", "a.svg")
    assert done.returncode == 0, done.stderr
    assert 'width="252.28' in (tmp_path / "a.svg").read_text()  # 89 mm in points


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classes", "--l2", "0.06", "--split", "test", "--run", "1"], "λ = 0.06, run 1 (seed 0, down), test split"),
        (["response", "--l2", "0"], "λ = 0, run 0"),
        (["spectrum", "--shift"], "of the objective"),
        (["accuracy", "--skill", "--split", "train"], "train skill"),
        (["gradient", "--split", "test"], "mean test loss"),
        (["hysteresis", "--split", "train", "--run", "1"], "train split, runs 0 and 1"),
        (["overlap", "--k", "2"], "first 2 eigenvectors"),
        (["summary", "--l2", "0.03", "--k", "3"], "first 3 eigenvectors"),
    ],
)
def test_options(
    run_hesstore: RunHesstore, swept: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, _: figures.append(figure))
    done = run_hesstore("plot", *arguments, swept, "-o", "a.png")
    assert done.returncode == 0, done.stderr
    written = "\n".join(one.get_text() for one in figures[0].findobj(Text) if isinstance(one, Text))
    assert words in written.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pie"], "'pie' is not one of"),
        (["accuracy", "--run", "9"], "run 9 is not in the store: choose from 0, 1"),
        (["classes", "--l2", "0.031"], "λ = 0.031 is not one of the 4 complete grid points of run 0: try 0.03"),
        (["overlap", "--k", "7"], "choose from 1 to 6"),
        (["overlap", "--k", "0"], "--k"),
        (["accuracy", "--l2", "0.01"], "--l2 is not an option of accuracy, but of classes, density, response, summary"),
        (["classes", "--shift"], "--shift is not an option of classes, but of spectrum"),
        (["gradient", "--split", "all"], "'all' is not one of"),
        (["spectrum", "--width", "89"], "--width applies to --style paper only"),
        (["spectrum", "--style", "paper"], "--style paper writes a vector file: name it .pdf or .svg, not 'a.png'"),
        (["spectrum", "--style", "paper", "--width", "20", "-o", "a.pdf"], "20"),
        (["spectrum", "-o", "a.jpg"], "does not end in .png, .svg or .pdf"),
        (["spectrum", "-o", "no/a.png"], "the folder of 'no/a.png' does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    run_hesstore: RunHesstore, swept: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    output = [] if "-o" in arguments else ["-o", "a.png"]
    done = run_hesstore("plot", *arguments, swept, *output)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("hesstore: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_the_command_knows_every_figure_and_option(run_hesstore: RunHesstore) -> None:
    assert sorted(plot.KINDS) == sorted([*plots.KINDS, "slice"])  # a slice is drawn from a file of its own
    own = {"kind", "stores", "output", "opening", "style", "width"}
    options = {parameter.name for parameter in plot.plot.params} - own
    known = {name for figure in plots.KINDS.values() for name in inspect.signature(figure).parameters}
    assert known - options == {"ds", "progress", "logits", "ax"}
    assert options <= known
    shown = run_hesstore("plot", "--help").stdout
    for kind, figure in plots.KINDS.items():
        (line,) = [text for text in shown.splitlines() if text.startswith(f"    {kind} ")]
        for name in set(inspect.signature(figure).parameters) - {"ds", "run", "progress", "logits", "ax"}:
            assert f"--{name}" in line, (kind, name)
