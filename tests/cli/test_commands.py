from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import xarray as xr

from hesstore import open as open_store
from hesstore.measure import class_geometry
from tests.support.command_line import RunHesstore
from tests.support.sweeps import results

SCRIPT = (
    "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # tests that run under nohup ignore it
    "from hesstore_cli.main import main; sys.exit(main())"
)


def test_sweep_info_export_plot(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    """The main path as a user types it: data goes to stdout, messages go to stderr."""
    planned = run_hesstore("plan", "s.zarr", *toy_arguments)
    assert planned.returncode == 0, planned.stderr
    assert planned.stderr == ""
    assert planned.stdout.startswith(
        "s.zarr: 4 of 4 grid points to compute; 6 eigenpairs of 485 parameters, 300 + 100 rows\n"
    )
    assert not (tmp_path / "s.zarr").exists()
    swept = run_hesstore("sweep", "s.zarr", *toy_arguments, "-v")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout == ""
    plan, lines = swept.stderr.splitlines()[:3], swept.stderr.splitlines()[3:]
    assert plan[0].startswith("plan: 4 of 4 grid points to compute on cpu")
    assert plan[1].startswith("plan: 4 fits of 3 epochs, ")
    assert len(lines) == 5  # a line per grid point, and the summary
    assert re.match(r"1/4  run 0  λ = 0  test accuracy 0\.\d+  worst class \d: .* left$", lines[0])
    assert re.match(r"4 grid points complete in s\.zarr; 4 computed now, in .*Next: hesstore export s\.zarr", lines[-1])

    shown = run_hesstore("info", "s.zarr")
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert "run 0 (seed 0, up): 4 complete\n  all 4 spectra are complete to 0.3 %\n" in shown.stdout
    assert all(re.search(r"  complete( to 0\.[0-3]\d* %)?$", line) for line in shown.stdout.splitlines()[-4:])
    facts = json.loads(run_hesstore("info", "s.zarr", "--json").stdout)
    assert facts["config"]["k"] == 6
    assert facts["sizes"]["param"] == 485
    assert facts["bytes"] == sum(f.stat().st_size for f in (tmp_path / "s.zarr").rglob("*") if f.is_file())
    (run,) = facts["runs"]
    ds = xr.open_zarr(tmp_path / "s.zarr").sel(run=0)
    assert [row["l2"] for row in run["results"]] == [0.0, 0.001, 0.01, 0.05]
    assert (run["spectra"]["total"], run["spectra"]["complete"]) == (4, 4)
    assert all(0 <= row["complete_to"] <= 0.003 for row in run["results"])
    assert [row["top_eigenvalue"] for row in run["results"]] == ds["eigenvalues"].sel(mode=0).values.tolist()
    assert [row["test_accuracy"] for row in run["results"]] == ds["accuracy"].sel(split="test").values.tolist()

    exported = run_hesstore("export", "s.zarr", "--format", "csv")
    assert exported.returncode == 0
    assert re.match(r"17 files, .* written to test_data$", exported.stderr.strip())
    assert len(list((tmp_path / "test_data").iterdir())) == 17 + 1
    again = run_hesstore("export", "s.zarr")
    assert again.returncode == 0
    assert "17 complete files already existed" in again.stderr
    chosen = run_hesstore(
        "export", "s.zarr", "-o", "o", "--l2", "0.01", "--run", "0", "--only", "eigenvalues,gradients"
    )
    assert chosen.returncode == 0
    assert len(list((tmp_path / "o").glob("*.csv"))) == 2

    for kind in ("accuracy", "spectrum", "summary"):
        drawn = run_hesstore("plot", kind, "s.zarr", "-o", f"{kind}.svg")
        assert drawn.returncode == 0, drawn.stderr
        assert "<svg" in (tmp_path / f"{kind}.svg").read_text()


def test_config_prints_what_runs(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    printed = run_hesstore("config", *toy_arguments)
    assert printed.returncode == 0
    (tmp_path / "c.toml").write_text(printed.stdout)
    assert tomllib.loads(run_hesstore("config", "--config", "c.toml").stdout) == tomllib.loads(printed.stdout)
    assert run_hesstore("sweep", "a.zarr", "--config", "c.toml").returncode == 0
    same = run_hesstore("sweep", "a.zarr", *toy_arguments)
    assert same.returncode == 0
    assert "nothing was left to compute" in same.stderr
    assert "lr = 0.25" in run_hesstore("config", "--config", "c.toml", "--set", "lr=0.25").stdout
    assert "lr = 0.5" in run_hesstore("config", "--config", "c.toml", "--set", "lr=0.25", "--lr", "0.5").stdout


def test_a_different_config_is_exit_status_3(run_hesstore: RunHesstore, toy_arguments: list[str]) -> None:
    run_hesstore("sweep", "a.zarr", *toy_arguments)
    other = run_hesstore("sweep", "a.zarr", *toy_arguments, "--k", "5")
    assert other.returncode == 3
    assert other.stderr.strip().splitlines() == [other.stderr.strip()]
    assert "k is 6 in the store, 5 in the config" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus"], "No such option"),
        (["--k", "-1"], "k: -1 is below the least value 0"),
        (["--k", "485"], "k: 485 must be below the number of parameters, 485"),
        (["--l2", ""], "l2: is empty"),
        (["--l2", "0.2,0.1"], "ascending"),
        (["--l2", "-1:1:3"], "negative"),
        (["--set", "kk=1"], "unknown key 'kk'; did you mean k?"),
        (["--dataset", "mnits"], "not one of mnist"),
        (["--dataset", "tests.support.toy:with_nan"], "NaN or infinite"),
        (["--dataset", "tests.support.toy:bad_label"], "outside the classes 0 … 9"),
        (["--model", "cnn"], "is neither mlp nor linear:L nor module:factory"),
        (["--model", "linear:0"], "model: 'linear:0' is not linear:L with a number of layers L from 1 to 1000"),
        (["--model", "linear:x"], "model: 'linear:x' is not linear:L"),
        (["--model", "linear:4"], "hidden: 6,5 does not fit the 3 hidden layers of linear:4: give one width, or 3"),
        (["--loss", "huber"], "loss: 'huber' is not one of cross_entropy, mse"),
        (["--preset", "papr"], "preset: 'papr'"),
        (["--config", "none.toml"], "No such file"),
        (["--device", "cuda:99"], "cuda"),
        (["--solver", "qr"], "not one of lanczos, eigsh"),
        (["--seeds", "99999999999999999999"], "above the largest value"),
        (["--dataset", "json:loads"], "raised TypeError"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run_hesstore("sweep", "s.zarr", *toy_arguments, *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("hesstore: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_missing_mnist_names_both_ways_out(run_hesstore: RunHesstore, tmp_path: Path) -> None:
    done = run_hesstore("sweep", "s.zarr", "--data-dir", "nowhere")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "put its four IDX files" in line
    assert "leave out --data-dir to download them" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["info"], ["status"], ["export"], ["plot", "summary", "-o", "x.png"]])
def test_stores_that_do_not_exist(run_hesstore: RunHesstore, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").write_text("x")
    for name, message in (("none.zarr", "no such store"), ("file", "is a file, not a store")):
        done = run_hesstore(*command, name)
        assert done.returncode == 2
        assert message in done.stderr


def test_sweep_on_a_path_that_is_taken(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run_hesstore("sweep", "file", *toy_arguments)
    assert done.returncode == 2
    assert "is a file" in done.stderr
    assert (tmp_path / "file").read_text() == "x"


def test_failed_grid_points_are_exit_status_4(run_hesstore: RunHesstore, toy_arguments: list[str]) -> None:
    options = ["--optimizer", "sgd", "--lr", "0.02", "--l2", "0,1000", "--epochs", "12", "--patience", "12"]
    done = run_hesstore("sweep", "s.zarr", *toy_arguments, *options)
    assert done.returncode == 4
    assert "1 failed (hesstore info s.zarr shows why)" in done.stderr
    assert "λ = 1000 failed: the training loss became" in run_hesstore("info", "s.zarr").stdout
    none = run_hesstore("sweep", "none.zarr", *toy_arguments, *options, "--l2", "1000")
    assert none.returncode == 4
    assert "no grid point is complete in none.zarr, 1 failed" in none.stderr
    assert "Next:" not in none.stderr


@pytest.mark.slow
def test_a_plan_of_a_store_uses_its_own_config(run_hesstore: RunHesstore, toy_arguments: list[str]) -> None:
    small = ("--hidden", 3, "--l2", 0, "--epochs", 1, "--k", 2, "--response", 0, "--probes", 0)
    assert run_hesstore("sweep", "s.zarr", "--dataset", "mnist-5k", *small).returncode == 0
    assert run_hesstore("plan", "s.zarr").stdout.startswith("s.zarr: 0 of 1 grid points to compute; 2 eigenpairs")
    for options in (("--preset", "paper"), ("--k", 3)):
        other = run_hesstore("plan", "s.zarr", *options)
        assert other.returncode == 3
        assert "Leave the options out (`hesstore config --of s.zarr` prints the config)" in other.stderr
        assert ("--grow to extend" in other.stderr) == ("--k" in options)  # only there it can help
    grown = run_hesstore("sweep", "s.zarr", "--dataset", "mnist-5k", *small, "--k", 3)
    assert (grown.returncode, "or --grow to extend the store" in grown.stderr) == (3, True)
    assert run_hesstore("sweep", "code.zarr", *toy_arguments, "--l2", 0).returncode == 0
    refused = run_hesstore("plan", "code.zarr")  # code that a store names is not run
    assert refused.returncode == 2
    assert "the config of code.zarr names code, tests.support.toy:digits, which is not run" in refused.stderr


def test_no_arguments_print_the_help(run_hesstore: RunHesstore) -> None:
    done = run_hesstore()
    assert done.returncode == 2
    assert "Run a sweep:\n  config" in done.stderr


def test_paths_that_cannot_be_a_store(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name in ("", ".", "link"):
        done = run_hesstore("sweep", name, *toy_arguments)
        assert done.returncode == 2, (name, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "link"]


def test_config_alone_needs_no_torch(environment: dict[str, str]) -> None:
    code = "import sys\nfrom hesstore_cli.main import run\nrun(['config'])\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


@pytest.mark.slow
def test_kill_at_any_moment_and_resume(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    """After each kill -9, all complete values are right; the final store equals an uninterrupted one."""
    assert run_hesstore("sweep", "whole.zarr", *toy_arguments).returncode == 0
    expected = results(tmp_path / "whole.zarr")
    command = [sys.executable, "-c", SCRIPT, "sweep", "parts.zarr", *toy_arguments]
    for attempt in range(5):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=3.0 + 0.3 * attempt)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (tmp_path / "parts.zarr").exists():
            found = results(tmp_path / "parts.zarr")
            done = found["status"].values == 2
            for name in ("eigenvalues", "eigenvectors", "weights", "gradient", "confusion", "digest"):
                assert (found[name].values[done] == expected[name].values[done]).all(), name
            if done.all():
                break
    assert run_hesstore("sweep", "parts.zarr", *toy_arguments).returncode == 0
    xr.testing.assert_identical(results(tmp_path / "parts.zarr"), expected)


LONG = ("--epochs", "100000", "--patience", "100000")


def started(tmp_path: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """A sweep in its own process, whose store exists."""
    command = [sys.executable, "-c", SCRIPT, "sweep", "s.zarr", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "s.zarr").exists():
        time.sleep(0.05)
        assert process.poll() is None
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_stops_after_the_current_grid_point(
    toy_arguments: list[str], tmp_path: Path, environment: dict[str, str], number: int
) -> None:
    process = started(tmp_path, environment, *toy_arguments, "--l2", "0:0.01:1000")
    while not sum(open_store(tmp_path / "s.zarr")["status"].values.ravel() == 2):
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    *_, said = error.strip().splitlines()
    assert "run the same command again to continue" in said
    assert "stopping after the current grid point" in error
    statuses = open_store(tmp_path / "s.zarr")["status"].values.ravel()
    done = int((statuses == 2).sum())
    assert f"{done} of 1000 grid points complete" in said
    assert (statuses[done:] == 0).all()  # no grid point is left half done


@pytest.mark.slow
def test_a_second_signal_stops_immediately(
    toy_arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    process = started(tmp_path, environment, *toy_arguments, *LONG, "-q")  # without its plan
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "a second signal stops immediately" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped immediately" in error


def test_a_time_limit(toy_arguments: list[str], tmp_path: Path, run_hesstore: RunHesstore) -> None:
    done = run_hesstore("sweep", "s.zarr", *toy_arguments, "--l2", "0:0.01:1000", "--time-limit", "2s")
    assert done.returncode == 75
    assert "run the same command again to continue" in done.stderr.splitlines()[-1]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    for bad in ("soon", "5", "0s", ""):
        refused = run_hesstore("sweep", "t.zarr", *toy_arguments, "--time-limit", bad)
        assert refused.returncode == 2
        assert f"{bad!r} is not" in refused.stderr
        assert not (tmp_path / "t.zarr").exists()


@pytest.mark.slow
def test_a_bar_with_time_left_on_a_terminal(
    toy_arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, "sweep", "s.zarr", *toy_arguments]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**environment, "TERM": "xterm", "COLUMNS": "100"}, stderr=terminal
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(controller)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "4/4 grid points" in text
    assert re.search(r"about [^\n]* left", text)
    assert "━" in text


@pytest.mark.slow
def test_a_broken_identity_is_a_warning(
    run_hesstore: RunHesstore, toy_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*toy_arguments, "--l2", "0.01", "--k", "2"]
    monkeypatch.setattr(class_geometry, "_identity_error", lambda *_: 0.002)
    done = run_hesstore("sweep", "s.zarr", *arguments)
    assert done.returncode == 0
    (line,) = (line for line in done.stderr.splitlines() if "warning" in line)
    assert line.startswith(
        "hesstore: warning: λ = 0.01 of run 0: the curvatures by class add up to the eigenvalues only to "
    )
    monkeypatch.setattr(class_geometry, "_identity_error", lambda *_: 0.001)
    assert "warning" not in run_hesstore("sweep", "t.zarr", *arguments).stderr


def test_the_density_is_a_switch(run_hesstore: RunHesstore) -> None:
    assert "density = false" in run_hesstore("config").stdout
    assert "density = true" in run_hesstore("config", "--density").stdout
    assert "density = false" in run_hesstore("config", "--set", "density=true", "--no-density").stdout
    assert "--density / --no-density" in run_hesstore("sweep", "--help").stdout
