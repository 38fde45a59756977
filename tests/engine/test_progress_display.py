"""The progress that run_sweep shows in Python, and its log."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hesstore
from hesstore.config import SweepConfig
from hesstore.engine import progress_display
from hesstore.engine.events import SweepEvent
from hesstore.engine.progress_display import ProgressDisplay, ProgressLine, observing
from hesstore.store import Run
from tests.support.terminal import terminal
from tests.support.toy import TOY

RUN = Run(0, 0, "up")


def events() -> list[SweepEvent]:
    return [
        SweepEvent("opened", 0, 2, RUN, 0.0, {}),
        SweepEvent("fitting", 0, 2, RUN, 0.0, {"epoch": 1, "loss": 0.5}),
        SweepEvent("complete", 1, 2, RUN, 0.0, {"test_accuracy": 0.914, "warning": "few rows"}),
        SweepEvent("analysing", 1, 2, RUN, 0.01, {}),
        SweepEvent("failed", 2, 2, RUN, 0.01, {"reason": "it diverged"}),
    ]


def test_a_terminal_shows_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(progress_display.EVERY, "terminal", 0.0)
    with terminal(90) as shown:
        display = ProgressDisplay(shown.stream)
        assert shown.screen == ["preparing data and network"]
        seen = []
        for event in events():
            display(event)
            (line,) = shown.screen
            seen.append(line)
        display.close()
    assert seen[1] == "0/2 grid points  run 0, λ = 0"
    assert seen[3].startswith("1/2 grid points  run 0, λ = 0.01  last: λ = 0, test accuracy 0.914  about")
    assert seen[4] == "2/2 grid points  λ = 0.01 failed: it diverged"


def test_a_file_receives_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    display = ProgressDisplay(stream)
    for event in events():
        display(event)
    display.close()
    assert stream.getvalue().splitlines()[0] == "2/2 grid points  λ = 0.01 failed: it diverged"


def test_a_notebook_updates_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, line: ProgressLine) -> None:
            shown.append((str(line), line._repr_html_()))

    def display(line: ProgressLine, *, display_id: bool) -> Handle:
        shown.append((str(line), display_id))
        return Handle()

    monkeypatch.setattr(progress_display, "notebook_display", lambda: display)
    monkeypatch.setitem(progress_display.EVERY, "notebook", 0.0)
    with observing(None, progress=True) as observe:
        for event in events():
            observe(event)
    assert shown[0] == ("preparing data and network", True)
    assert shown[-1][0] == "2/2 grid points  λ = 0.01 failed: it diverged"
    assert "<progress max='2' value='2'></progress>" in shown[-1][1]
    assert len(shown) == 1 + len(events()) + 1


def test_the_log(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[SweepEvent] = []
    with caplog.at_level(logging.INFO, "hesstore"), observing(seen.append, progress=False) as observe:
        for event in events():
            observe(event)
    assert seen == events()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "run 0, λ = 0: complete, 1 of 2 grid points finished"),
        ("WARNING", "run 0, λ = 0: few rows"),
        ("WARNING", "run 0, λ = 0.01: failed: it diverged"),
    ]


def test_a_sweep_from_a_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {**TOY, "k": 0, "l2": "0,0.01"}
    assert hesstore.run_sweep(config, tmp_path / "s.zarr", progress=True).complete == 2
    assert "2/2 grid points" in capsys.readouterr().err
    assert hesstore.plan_sweep(config, tmp_path / "s.zarr").unfinished == 0
    with pytest.raises(hesstore.HesstoreError, match="unknown key 'learning_rate'; did you mean lr"):
        hesstore.run_sweep({**config, "learning_rate": 1}, tmp_path / "s.zarr")
    with pytest.raises(hesstore.HesstoreError, match="preset: 'quickstrat' is not one of"):
        hesstore.run_sweep("quickstrat", tmp_path / "s.zarr")


def test_functions_stand_for_their_names(toy_config: Callable[..., SweepConfig]) -> None:
    assert toy_config(dataset=events).dataset == "tests.engine.test_progress_display:events"
    with pytest.raises(hesstore.HesstoreError, match="at the top level of a module"):
        toy_config(model=lambda: None)
