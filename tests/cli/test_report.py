from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store
from tests.support.report_pages import facts_in, run_in


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "s.zarr"
    make_store(path, seeds=(0, 1), k=2)
    return path


def test_a_page(run_hesstore: RunHesstore, swept: Path, tmp_path: Path) -> None:
    done = run_hesstore("report", swept, "-o", "report.html", "--title", "Two <seeds>", "--run", "1", "--no-overlap")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    text = (tmp_path / "report.html").read_text()
    assert "<h1>Two &lt;seeds&gt;</h1>" in text
    assert [run["seed"] for run in facts_in(text)["runs"]] == [1]
    assert run_in(text, 1)["overlap"] is None
    assert done.stderr == f"report of {swept} written to report.html, 2.0 MB\n"
    assert run_hesstore("report", swept, "-o", "report.html").returncode == 0  # a report is overwritten, as a figure is
    assert [run["seed"] for run in facts_in((tmp_path / "report.html").read_text())["runs"]] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.pdf"], "'a.pdf' does not end in .html"),
        (["-o", "no/a.html"], "the folder of 'no/a.html' does not exist"),
        (["-o", "folder.html"], "'folder.html' is a folder"),
        (["-o", "a.html", "--run", "2"], "run 2 is not in the store: choose from 0, 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    run_hesstore: RunHesstore, swept: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    done = run_hesstore("report", swept, *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("hesstore: ")
    assert message in line
    assert [file.name for file in tmp_path.iterdir()] == ["folder.html"]
