from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hesstore.engine.sweep import SweepEvent, SweepSummary
from hesstore.engine.sweep_plan import Span, SweepPlan
from hesstore.integrity.verify import verify
from hesstore.store import Run
from hesstore_cli.event_log import EventLog
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.stop_request import StopRequest
from hesstore_cli.terminal import plan_text, streams
from hesstore_cli.terminal.live_block import BlockContent, LiveBlock, block_lines, flow
from hesstore_cli.terminal.pace import Pace
from hesstore_cli.terminal.sweep_reporter import SweepReporter
from hesstore_cli.terminal.widths import printable
from tests.support.command_line import RunHesstore
from tests.support.export_stores import make_store
from tests.support.terminal import Terminal, terminal
from tests.support.toy import TOY

RUN = Run(0, 0, "up")
GOOD: dict[str, Any] = {"test_accuracy": 0.914, "worst_class": 5, "worst_class_accuracy": 0.74, "eigenvalue": 3.02}
PLAN = SweepPlan(
    store="s.zarr",
    fingerprint="abc",
    device="cpu (x86_64)",
    threads=2,
    threads_reason="",
    train_rows=4000,
    test_rows=1000,
    parameters=118282,
    k=30,
    together=1,
    total=16,
    complete=0,
    failed=0,
    unfinished=16,
    fits=16,
    analyses=16,
    epochs=Span(6, 50),
    products=Span(2507, 6587),
    seconds=Span(50, 200),
    basis="measured here",
    disk_now=0,
    disk_end=Span(145.6e6, 242.6e6),
    disk_free=None,
    memory_least=46 * 10**6,
    memory_cache=3 * 10**9,
    memory_free=7 * 10**9,
)


def event(phase: Any, finished: int, l2: float, **facts: Any) -> SweepEvent:
    return SweepEvent(phase, finished, 16, RUN, l2, facts)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test can set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("width", [12, 40, 120])
@pytest.mark.parametrize("colour", [True, False])
def test_the_block_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int, *, colour: bool) -> None:
    """The block of a sweep is never wider than the screen and disappears at the end."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    monkeypatch.setattr(LiveBlock, "EVERY", 60.0)  # drawn only by the test
    is_wide = width > 12
    with terminal(width) as shown:
        monkeypatch.setattr(sys, "stderr", shown.stream)
        stop = StopRequest()
        with SweepReporter(stop=stop) as reporter:
            reporter.plan(PLAN)
            reporter(event("opened", 0, 0.0))
            reporter(event("fitting", 0, 0.0, epoch=7, loss=0.25))
            text = drawn(reporter, shown)
            assert not is_wide or text.endswith(
                "0/16 grid points about 50 s to 3 min left run 0 λ = 0 fit: epoch 7, loss 0.2500"
            )
            reporter(event("complete", 4, 0.006, **GOOD))
            reporter(event("analysing", 4, 0.012, product=37))
            reporter(event("failed", 5, 0.012, reason="it diverged"))
            text = drawn(reporter, shown)
            for piece in (
                "5/16 grid points",
                "1 failed",
                "run 0 λ = 0.012",
                "analysis: Hessian product 37",
                "worst class 5: 0.740",
            ):
                assert (piece in text) or not is_wide
            assert ("━━" in text) == is_wide
            stop.status = ExitStatus.INTERRUPTED
            assert "stopping after the current grid point; Ctrl-C again stops immediately" in drawn(reporter, shown)
            assert stop.is_shown
        assert bool(re.search(r"\x1b\[3\dm", shown.raw)) == colour
        assert "failed: it diverged" in " ".join(" ".join(shown.screen).split())  # the line of the failure stays
        assert "stopping" not in "".join(shown.screen)
        assert shown.raw.count("\x1b[?25l") == shown.raw.count("\x1b[?25h") == 1
        assert not stop.is_shown


def drawn(reporter: SweepReporter, shown: Terminal) -> str:
    """The text on the screen, with one space for each gap."""
    assert reporter._block is not None
    reporter._block.draw()
    reporter._block.draw()  # over itself
    assert max(map(len, shown.screen)) <= shown.width
    return " ".join(" ".join(shown.screen).split())


def test_a_terminal_that_is_made_narrower_and_wider_again(monkeypatch: pytest.MonkeyPatch) -> None:
    content = BlockContent(
        done=3, total=16, doing=("run 0  λ = 0.018", "fit: epoch 8, loss 0.7432"), last=("λ = 0", "x" * 30)
    )
    monkeypatch.setattr(LiveBlock, "EVERY", 60.0)
    with terminal(100) as shown, LiveBlock(lambda: content, shown.stream, keep=True) as block:
        block.write("written before")
        for width in (100, 40, 30, 90):
            shown.resize(width)
            block.draw()
            assert shown.screen == ["written before", *(line.plain for line in block_lines(content, width))]


def test_a_lost_terminal_stops_nothing() -> None:
    controller, device = pty.openpty()
    ended = False
    with contextlib.suppress(OSError), os.fdopen(device, "w") as stream:  # unwritten text fails on closing
        with LiveBlock(lambda: BlockContent(done=1, total=2), stream) as block:
            os.close(controller)
            block.draw()
            block.write("unheard")
        ended = True
    assert ended


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal(60) as shown:
        monkeypatch.setattr(sys, "stderr", shown.stream)
        with SweepReporter() as reporter:
            reporter(event("complete", 1, 0.0, **GOOD))
        assert "\x1b" not in shown.raw
        assert shown.screen[0].startswith("1/16  run 0  λ = 0  test accuracy 0.914")


def test_pieces_stay_whole() -> None:
    assert flow(["one two", "three", "x" * 12], 10) == ["one two", "three", "x" * 9 + "…"]
    assert flow([], 10) == []
    (line,) = block_lines(BlockContent(done=1, total=2), 4)
    assert line.plain == "1/2"
    (line,) = block_lines(BlockContent(done=1, total=2), 2)
    assert line.plain == "1…"


def test_lines_from_time_to_time(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe: the first and the last line, one every five seconds, all failures, and the phase after a minute."""
    with SweepReporter() as reporter:
        for finished in range(1, 12):
            clock[0] += 1
            reporter(event("complete", finished, finished / 1000, **GOOD))
        clock[0] += 1
        reporter(event("failed", 12, 0.012, reason="it diverged"))
        clock[0] += 59
        reporter(event("fitting", 12, 0.013, epoch=1, loss=0.5))
        clock[0] += 2
        reporter(event("fitting", 12, 0.013, epoch=2, loss=0.4))
        clock[0] += 1
        reporter(event("complete", 13, 0.013, warning="off", **GOOD))
    said = [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["1/16", "6/16", "11/16", "12/16", "12/16", "hesstore: warning: λ = 0.013 of run 0: off", "13/16"]


@pytest.mark.parametrize(("quiet", "kept"), [(1, 2), (2, 0)])
def test_quiet(quiet: int, kept: int, capsys: pytest.CaptureFixture[str]) -> None:
    with SweepReporter(quiet) as reporter:
        reporter.plan(PLAN)
        reporter(event("complete", 1, 0.0, warning="off", **GOOD))
        reporter(event("failed", 2, 0.1, reason="it diverged"))
    assert len(capsys.readouterr().err.splitlines()) == kept


def test_the_pace_follows_the_latest_points_but_not_one_batch(clock: list[float]) -> None:
    pace = Pace()
    assert pace.left(100) is None
    pace.note(0)
    for _ in range(30):
        clock[0] += 10
        pace.note(pace.seen + 1)
    for _ in range(9):
        clock[0] += 1
        pace.note(pace.seen + 1)
    assert pace.each is not None
    assert 1 <= pace.each < 5  # the last nine, or a tenth of the time
    assert pace.left(pace.seen) == 0
    left = pace.left(pace.seen + 10)
    clock[0] += 0.5
    assert left is not None
    assert pace.left(pace.seen + 10) == pytest.approx(left - 0.5)
    stacks = Pace()
    for done in (0, 64, 128):
        for each in range(done, done + 64 if done else 1):
            stacks.note(each)
        clock[0] += 60
    assert stacks.each == pytest.approx(60 / 64, rel=0.5)


def test_a_broken_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Lost())
    with SweepReporter(verbose=True) as reporter:
        for index in range(2):
            reporter(event("complete", index, 0.0, **GOOD))
    assert sys.stderr.name == os.devnull
    sys.stderr.close()


def test_the_plan_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    text = plan_text.as_text(PLAN)
    assert "16 fits of 6 to 50 epochs, 2,500 to 6,600 Hessian products" in text
    assert "about 50 s to 3 min (measured here)" in text
    assert "0 B now, 145.6 to 242.6 MB at the end" in text
    for seconds, said in (
        ((0.2, 0.3), "1 s"),
        ((700, 2400), "12 to 40 min"),
        ((3000, 9000), "50 min to 2 h"),
        ((86400 * 1.9, 86400 * 40), "46 h to 40 days"),
    ):
        assert plan_text.time_span_text(Span(*seconds)) == said


def test_a_log_grows_and_ends_with_the_result(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path
) -> None:
    arguments = [*toy_arguments, "--log-file", "log.jsonl", "--epochs", "1", "--l2", "0,0.001"]
    assert run_hesstore("sweep", "s.zarr", *arguments, "-qq").stderr == ""
    again = run_hesstore("sweep", "s.zarr", *arguments, "-v")
    assert len(again.stderr.splitlines()) == 1  # without work there is no plan
    assert run_hesstore("sweep", "s.zarr", *arguments, "--k", "5").returncode == 3
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for line in events:
        assert list(line)[:2] == ["time", "event"]
    kinds = [line["event"] for line in events]
    one = ["fitting", "analysing"]
    assert [kind for kind in kinds if kind != "complete"] == [
        *("started", "plan", "opened", *one, *one, "ended"),
        *("started", "plan", "ended"),
        *("started", "ended"),
    ]
    assert kinds.count("complete") == 2
    first, second = (line for line in events if line["event"] == "plan")
    assert first["analyses"] == 2
    assert second["analyses"] == 0
    assert second["fingerprint"] == json.loads(run_hesstore("info", "s.zarr", "--json").stdout)["fingerprint"]
    complete = next(line for line in events if line["event"] == "complete")
    assert {"run", "seed", "direction", "l2", "finished", "total", "facts"} <= set(complete)
    assert complete["facts"]["matvecs"] > 0
    ends = [line for line in events if line["event"] == "ended"]
    assert [end.get("status") for end in ends] == [0, 0, None]
    assert ends[2]["type"] == "ConfigMismatchError"


def test_paths_that_cannot_be_a_log(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    for name, message in (
        ("none/log.jsonl", "No such file or directory"),
        (".", "Is a directory"),
        ("s.zarr", "is the store"),
        ("a\0b", "null"),
    ):
        done = run_hesstore("sweep", "s.zarr", *toy_arguments, "--log-file", name)
        assert done.returncode == 2, name
        (line,) = done.stderr.splitlines()
        assert "--log-file" in line
        assert message in line
    assert run_hesstore("sweep", "s.zarr", *toy_arguments, "-q", "-v").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_log_on_a_full_disk_ends_and_the_sweep_continues(capsys: pytest.CaptureFixture[str]) -> None:
    with EventLog("/dev/full") as log:
        log.write_event(event("complete", 1, 0.0, **{**GOOD, "eigenvalue": float("nan")}))
        log.write_end(SweepSummary(1, 0, 0, 1, 1.0), 0)
    assert capsys.readouterr().err == "hesstore: warning: /dev/full: No space left on device: the log ends here\n"


def test_a_signal_is_not_written_across_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    with StopRequest() as stop:
        stop.is_shown = True
        signal.raise_signal(signal.SIGUSR1)
        assert stop.status == 130
    assert capfd.readouterr().err == ""


def test_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(80) as shown:
        for term, live in (("xterm", True), ("dumb", False), ("", False)):
            monkeypatch.setenv("TERM", term)
            assert streams.is_live(shown.stream) == live
    assert not streams.is_live()


def test_an_encoding_without_our_characters(tmp_path: Path, environment: dict[str, str]) -> None:
    """λ, μ and dashes become question marks; no command ends with a traceback."""
    make_store(tmp_path / "s.zarr")
    printed = b""
    for command in ("status", "info"):
        done = subprocess.run(
            [sys.executable, "-c", "from hesstore_cli.main import main; main()", command, "s.zarr"],
            env={**environment, "PYTHONIOENCODING": "latin-1", "PYTHONWARNINGS": "ignore"},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        printed += done.stdout
    assert b"?" in printed


@pytest.mark.slow  # seconds
def test_an_ascii_locale(tmp_path: Path, environment: dict[str, str]) -> None:
    """A job on a machine that names no encoding: names keep their characters, and the output is UTF-8."""
    folder = tmp_path / "Läufe μ"
    folder.mkdir()
    script = """
        import sys
        from hesstore_cli.main import run
        store, folder, *options = sys.argv[1:]
        for line in (["sweep", store, *options], ["status", store], ["info", store], ["export", store, "-o", folder]):
            assert run(line) == 0
        """
    plain = {name: value for name, value in environment.items() if not name.startswith(("LC_", "LANG"))}
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    options = {**TOY, "hidden": "4", "l2": "0,0.01", "k": 1, "epochs": 1}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), "größe.zarr", "größe-é"]
        + [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))],
        env={**plain, **ascii_only},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "größe.zarr: 2 of 2 grid points complete" in done.stdout.decode()
    assert "λ = 0.01" in done.stderr.decode()
    assert {path.name for path in folder.iterdir()} == {"größe.zarr", "größe-é"}
    assert len([*(folder / "größe-é").glob("*.csv")]) == 7
    assert verify(folder / "größe.zarr").ok


@given(st.text())
def test_no_text_controls_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


def test_bytes_in_names_are_shown_as_text_if_they_are() -> None:
    assert printable("größe μ".encode().decode("ascii", "surrogateescape")) == "größe μ"
    assert printable(os.fsdecode(b"a\xff\xc2\x9b1m")) == r"a\xff\x9b1m"
