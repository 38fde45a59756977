from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from hesstore.config import PRESETS, SweepConfig, fingerprint, settings
from hesstore.config.l2_grid import format_l2, linear_grid, parse_l2
from hesstore.errors import ConfigError
from tests.support.configs import merged_config


def test_paper_is_the_default() -> None:
    config = merged_config()
    assert config == SweepConfig()
    assert len(config.l2) == 451
    assert config.l2[:4] == (0.0, 0.0002, 0.0004, 0.0006)  # decimal literals, not a raw linspace
    assert config.l2[-1] == 0.09
    assert (config.dataset, config.k, config.lr, config.batch_size) == ("mnist", 30, 1.5e-3, 64)
    assert (config.epochs, config.patience, config.direction, config.path) == (50, 5, "up", "continuation")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_stops_and_keeps_weights_as_the_published_script(preset: str) -> None:
    config = merged_config(preset)
    assert (config.stop_on, config.keep) == ("error", "last")


def test_every_grid_point_is_its_decimal_literal() -> None:
    for index, value in enumerate(SweepConfig().l2):
        assert value == float(f"{index * 2}e-4")


def test_quickstart() -> None:
    config = merged_config("quickstart")
    assert (config.dataset, config.k, len(config.l2)) == ("mnist-5k", 30, 16)
    assert 0.006 in config.l2


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('k = 7\nlr = 0.1\nl2 = "0:1:3"\n')
    config = merged_config("quickstart", file, ["lr=0.2", "epochs = 4"], {"epochs": "9"})
    assert (config.dataset, config.k, config.lr, config.epochs, config.l2) == ("mnist-5k", 7, 0.2, 9, (0, 0.5, 1))


@pytest.mark.parametrize("preset", PRESETS)
def test_printed_config_is_the_same_config(preset: str, tmp_path: Path) -> None:
    config = merged_config(preset, options={"seeds": "3,1", "hidden": "7"})
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps(config.to_mapping()))
    assert merged_config(file=file) == config
    assert SweepConfig.from_mapping(tomllib.loads(file.read_text())) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1:2", "START:STOP:NUM"),
        ("0:1:0", "below the least value 1"),
        ("0:1:x", "not a whole number"),
        ("1:0:5", "does not ascend"),
        ("0,-0.1", "negative"),
        ("-1:1:3", "negative"),
        ("0.2,0.1", "ascending"),
        ("0.1,0.1", "twice"),
        ("0.1,0.10000000000001", "twice"),
        ("0,nan", "finite"),
        ("0,inf", "finite"),
        ("a", "not a number"),
    ],
)
def test_bad_l2(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SweepConfig.from_mapping({"l2": text})
    assert str(caught.value).startswith("l2: ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("k", -1, "below the least value 0"),
        ("k", True, "not a whole number"),
        ("k", 2.5, "not a whole number"),
        ("k", 2000, "max_matvecs: 2000 must be above k = 2000"),
        ("tol", 0, "above 0"),
        ("tol", 1, "below 1"),
        ("lr", "-1", "above 0"),
        ("seeds", "1,1", "twice"),
        ("seeds", "", "empty"),
        ("seeds", "-1", "least value 0"),
        ("optimizer", "adamw", "did you mean adam"),
        ("dtype", "float16", "not one of float32, float64"),
        ("dataset", 3, "not a string"),
        ("momentum", 1, "below 1"),
    ],
)
def test_bad_values(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepConfig.from_mapping({key: value})


@pytest.mark.parametrize(
    ("assignment", "message"), [("lrr=1", "did you mean lr"), ("lr", "not key=value"), ("zzzzz=1", "known keys")]
)
def test_bad_assignments(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        merged_config(assignments=[assignment])


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        merged_config(file=tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("k = = 3")
    with pytest.raises(ConfigError, match="not TOML"):
        merged_config(file=tmp_path / "bad.toml")
    (tmp_path / "unknown.toml").write_text("kk = 3")
    with pytest.raises(ConfigError, match=r"unknown\.toml: unknown key 'kk'; did you mean k"):
        merged_config(file=tmp_path / "unknown.toml")
    with pytest.raises(ConfigError, match="preset: 'papr' is not one of"):
        merged_config("papr")


def test_identity_does_not_contain_settings_of_the_machine() -> None:
    config = SweepConfig()
    moved = SweepConfig.from_mapping(
        {"device": "cpu", "data_dir": "x", "memory_gib": 1, "models": 4, "threads": 3, "center": "x", "start": "y"}
    )  # the identity of a store has the digests of references, not their places
    assert config.identity() == moved.identity()
    for setting in settings():
        assert (setting.name in config.identity()) == (
            setting.name not in {"device", "data_dir", "memory_gib", "models", "threads", "center", "start"}
        )


def test_fingerprint_ignores_order() -> None:
    assert fingerprint({"a": 1, "b": [2.5]}) == fingerprint({"b": [2.5], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_runs() -> None:
    config = SweepConfig.from_mapping({"seeds": "5,2", "direction": "both"})
    assert config.runs() == ((5, "up"), (5, "down"), (2, "up"), (2, "down"))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_l2_round_trip(values: list[float]) -> None:
    grid = tuple(sorted({round(value, 10) for value in values}))
    assert parse_l2(format_l2(parse_l2(list(grid)))) == grid


@given(st.floats(0, 1), st.floats(1e-3, 1), st.integers(1, 50))
def test_linear_grids_print_short(start: float, width: float, num: int) -> None:
    grid = linear_grid(start, start + width, num)
    assert parse_l2(format_l2(grid)) == grid


def test_switches() -> None:
    assert SweepConfig.from_mapping({"density": "yes"}).density is True
    assert SweepConfig.from_mapping({"density": False}).density is False
    assert merged_config(assignments=["density=true"]).density is True
    with pytest.raises(ConfigError, match="density: 'maybe' is not true or false"):
        SweepConfig.from_mapping({"density": "maybe"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"probes": 1}, "probes: 1 gives no error: give at least 2, or 0 for none"),
        ({"k": 0, "density": True}, "density: k = 0 analyses nothing: give k of at least 1, or leave density out"),
        ({"k": 0, "blocks": "layer"}, "blocks: k = 0 analyses nothing: give k of at least 1, or leave blocks out"),
        ({"probes": -1}, "probes: -1 is below the least value 0"),
        ({"response": -0.1}, "response: -0.1 is below the least value 0"),
        ({"density_width": 0.01}, "density_width: 0.01 is below the least value 0.06"),
        ({"density_steps": 1}, "density_steps: 1 is below the least value 2"),
    ],
)
def test_limits_of_the_class_geometry(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        SweepConfig.from_mapping(values)
