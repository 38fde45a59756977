from __future__ import annotations

import codecs
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hesstore.config import SweepConfig
from hesstore.config import settings as config_settings
from hesstore.config.sources import as_toml, layers, merge, read_toml
from hesstore.config.suggestions import did_you_mean
from hesstore.errors import ConfigError
from tests.support.configs import merged_config

NATURAL = st.integers(0, 2**63 - 1)
POSITIVE = st.integers(1, 2**63 - 1)
SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("dataset", "data_dir", "model", "device", "center", "start"), st.text()),
    **dict.fromkeys(("batch_size", "epochs", "patience", "density_probes", "block_k"), POSITIVE),
    **dict.fromkeys(("hessian_samples", "chunk_rows", "models", "threads", "polish"), NATURAL),
    **dict.fromkeys(("lr", "tol", "slack", "eta", "momentum", "polish_tol"), SHARE),
    **dict.fromkeys(("response", "memory_gib"), st.floats(0, 1e300)),
    "k": st.integers(0, 99),
    "max_matvecs": st.integers(100, 2**63 - 1),
    "hidden": st.lists(POSITIVE, min_size=1),
    "l2": st.lists(st.integers(0, 10**12), min_size=1, unique=True).map(lambda found: sorted(i / 1e10 for i in found)),
    "seeds": st.lists(NATURAL, min_size=1, unique=True),
    **dict.fromkeys(("lowest", "density_steps", "probes"), st.integers(2, 99)),
    "density": st.booleans(),
    "density_width": st.floats(0.06, 1e9),
}
for setting in config_settings():
    VALUES.setdefault(setting.name, st.sampled_from(setting.metadata["type"].choices or (None,)))


def fit_together(values: dict[str, Any]) -> bool:
    """Whether no setting contradicts another one."""
    asks_for_zeros = (values.get("operator"), values.get("which")) == ("ggn", "SA")
    needs_products = values.get("density") or values.get("blocks") == "layer"
    return not asks_for_zeros and not (values.get("k") == 0 and needs_products)


CONFIGS = st.fixed_dictionaries({}, optional=VALUES).filter(fit_together).map(SweepConfig.from_mapping)


@given(CONFIGS)
def test_toml_round_trip(config: SweepConfig) -> None:
    text = as_toml(config)
    assert SweepConfig.from_mapping(tomllib.loads(text)) == config
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.toml"
        file.write_text(text)
        assert merged_config(file=file) == config
        assert as_toml(merged_config(file=file)) == text


def test_each_line_names_the_origin_of_its_value(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('epochs = 3\nk = 7\nl2 = "0:1:3"\n')
    found = layers("quickstart", file, ["k=8", "lr = 0.1"], {"lr": "0.2", "batch_size": "9"})
    text = as_toml(SweepConfig.from_mapping(merge(found)), found)
    lines = text.splitlines()
    for line in (
        'dataset = "mnist-5k"  # preset quickstart',
        f'l2 = "0:1:3"  # {file}',
        f"epochs = 3  # {file}",
        "k = 8  # --set",
        "lr = 0.2  # --lr",
        "batch_size = 9  # --batch-size",
        "hidden = [128, 128]  # default",
        "density = false  # default",
    ):
        assert line in lines
    headings = [line[2:] for line in lines if line.startswith("# ")]
    assert headings == list(dict.fromkeys(setting.metadata["group"] for setting in config_settings()))


def test_an_origin_with_control_characters_stays_on_one_line() -> None:
    found = [layers()[0]._replace(origin="a\nk = 3 \x07", values={"k": 5})]
    text = as_toml(SweepConfig.from_mapping(merge(found)), found)
    assert tomllib.loads(text)["k"] == 5
    assert r"k = 5  # 'a\nk = 3 \x07'" in text.splitlines()


def test_a_long_grid_is_read_back(tmp_path: Path) -> None:
    config = SweepConfig.from_mapping({"l2": [i**2 / 1000 for i in range(300)]})
    file = tmp_path / "c.toml"
    file.write_text(as_toml(config))
    assert max(map(len, file.read_text().splitlines())) < 110
    assert SweepConfig.from_mapping(read_toml(file)) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "quickstrat"}, "not one of paper, quickstart; did you mean quickstart?"),
        ({"assignments": ["optimiser=sgd"]}, "unknown key 'optimiser'; did you mean optimizer?"),
        ({"assignments": ["which=lm"]}, "not one of LM, LA, SA; did you mean LM?"),
        ({"options": {"path": "independant"}}, "did you mean independent?"),
    ],
)
def test_the_most_similar_word_is_suggested(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        merged_config(**arguments)


def test_no_suggestion_without_a_similar_word() -> None:
    assert did_you_mean("zzz", ["paper", "quickstart"]) == ""
    assert did_you_mean("", []) == ""


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_files_of_any_system(tmp_path: Path, mark: bytes, end: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(mark + b"k = 5" + end + b"# \xce\xbb" + end + end + b"epochs = 3" + end)
    assert read_toml(tmp_path / "c.toml") == {"k": 5, "epochs": 3}
    (tmp_path / "c.toml").write_text("k = 5\n", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"c\.toml: not text in UTF-8 \(invalid start byte in byte 1\)"):
        read_toml(tmp_path / "c.toml")
