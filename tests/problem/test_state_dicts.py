from __future__ import annotations

import argparse
import datetime as dt
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from hesstore.errors import ImportFilesError
from hesstore.problem.state_dicts import read_state_dict, read_weights, shapes_from_sizes

SHAPES = {"fc1.weight": (2, 3), "fc1.bias": (2,)}


def test_shapes_from_sizes() -> None:
    assert shapes_from_sizes({"a.weight": 6, "a.bias": 3, "b": 4, "c.weight": 5}) == {
        "a.weight": (3, 2),
        "a.bias": (3,),
        "b": (4,),
        "c.weight": (5,),
    }


STATE = {"fc1.weight": torch.arange(6.0).reshape(2, 3), "fc1.bias": torch.ones(2, dtype=torch.float64)}
OPTIMISER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@given(
    prefixes=st.lists(st.sampled_from(["_orig_mod.", "module.", "model.", "_fsdp_wrapped_module."]), max_size=3).map(
        "".join
    ),
    keys=st.lists(st.sampled_from(["net", "model", "state_dict", "model_state_dict", "ema"]), max_size=3),
    extras=st.sets(
        st.sampled_from(["epoch", "acc", "loss", "args", "optimizer", "lr_scheduler", "rng", "history", "time"])
    ),
    inner=st.sampled_from(["", "_orig_mod.", "_checkpoint_wrapped_module."]),
    ending=st.sampled_from([".pth", ".pt", ".ckpt", ".pth.tar"]),
)
def test_state_dicts_as_people_save_them(
    tmp_path_factory: pytest.TempPathFactory, prefixes: str, keys: list[str], extras: set[str], inner: str, ending: str
) -> None:
    """A person finds the one dict of tensors, and the layers without the names of wrappers."""
    neighbours = {
        "epoch": 3,
        "acc": np.float64(0.97),
        "loss": torch.tensor(0.1),
        "args": argparse.Namespace(lr=0.1, out=Path("x")),
        "optimizer": OPTIMISER,
        "lr_scheduler": {"last_lr": [torch.tensor(0.1)], "state": {"a": torch.ones(1)}},
        "rng": np.arange(3),
        "time": {"start": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "all": types.SimpleNamespace(s=dt.timedelta(1))},
        "history": {"loss": [np.float32(1), 2.0]},
    }
    saved: dict[str, object] = {prefixes + name.replace(".", f".{inner}"): tensor for name, tensor in STATE.items()}
    for key in keys:
        saved = {key: saved, **{name: neighbours[name] for name in extras}}
    path = tmp_path_factory.getbasetemp() / f"w{ending}"
    torch.save(saved, path)
    for shapes in (None, SHAPES):
        found = read_weights(path, shapes)
        assert list(found) == list(SHAPES)
        assert found["fc1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert found["fc1.bias"].dtype == np.float32
    notes = " ".join(read_state_dict(path).notes)
    assert "such as fc1.bias were rounded to float32" in notes
    assert (prefixes in notes) == bool(prefixes) or not prefixes
    assert ("under" in notes) == bool(keys)


def test_other_forms_of_state_dicts(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(dict(reversed(STATE.items())), path)
    assert list(read_weights(path, SHAPES)) == list(SHAPES)
    save_file(STATE, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors", SHAPES)["fc1.bias"].tolist() == [1, 1]
    torch.save(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)).state_dict(), path)
    assert "parametrizations.weight.original0" in read_weights(path)


def tree(value: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.dictionaries(st.sampled_from(["a", "b", "net", "optimizer", 3]), value, max_size=3) | st.lists(
        value, max_size=2
    )


def state_dicts(value: object, where: str = "") -> list[tuple[str, list[object]]]:
    """The dicts of tensors alone, by their places in other dicts."""
    if not isinstance(value, dict) or not value:
        return []
    if all(isinstance(each, torch.Tensor) for each in value.values()) and 3 not in value:
        return [(where, list(value))]
    inner = [(key, each) for key, each in value.items() if key not in {"optimizer", 3}]
    return [found for key, each in inner for found in state_dicts(each, f"{where}[{key!r}]")]


@given(st.recursive(st.sampled_from([None, 3, "x"]) | st.builds(torch.ones, st.just(2)), tree, max_leaves=8))
def test_the_only_dict_of_tensors_is_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, saved: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pth"
    torch.save(saved, path)
    found = state_dicts(saved)
    if len(found) == 1:
        where, names = found[0]
        read = read_state_dict(path)
        assert list(read.arrays) == names
        assert all(array.tolist() == [1, 1] for array in read.arrays.values())
        assert read.notes == ((f"the state dict is under {where}",) if where else ())
    else:
        message = "has several state dicts" if found else "expected a state_dict, found"
        with pytest.raises(ImportFilesError, match=message) as raised:
            read_state_dict(path)
        assert str(raised.value).startswith(f"{path}: ")


def test_the_counter_of_averaged_networks_is_no_parameter(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(3, 2))
    torch.save(averaged.state_dict(), tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["weight", "bias"]


def test_the_network_decides_which_prefix_is_a_layer(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({f"module.model.{name}": tensor for name, tensor in STATE.items()}, path)
    inner = {f"model.{name}": shape for name, shape in SHAPES.items()}
    assert list(read_weights(path, inner)) == list(inner)
    assert list(read_weights(path)) == list(SHAPES)
    torch.save({"model": {"a._orig_mod.weight": torch.ones(1), "b.weight": torch.ones(1)}}, path)
    assert list(read_weights(path)) == ["a.weight", "b.weight"]


def test_tied_parameters_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    tied = torch.ones(3, 2)
    torch.save({"embed.weight": tied, "head.weight": tied, "head.bias": tied[:, 0]}, path)
    found = read_state_dict(path)
    assert list(found.arrays) == ["embed.weight", "head.bias"]
    assert found.notes == ("head.weight is the same tensor as embed.weight, and counted once",)
    assert list(read_weights(path, {"head.weight": (3, 2), "head.bias": (3,)})) == ["head.weight", "head.bias"]


class Runs:
    """An object whose loading would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1 / 0",))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"fc1.weight": torch.ones(2, 3)}, "missing key 'fc1.bias'"),
        (
            {"fc1.weight": torch.ones(2, 3), "fc1.bias": torch.ones(2), "bn.mean": torch.ones(1)},
            "unknown key 'bn.mean'",
        ),
        (
            {"fc1.weight": torch.ones(3, 2), "fc1.bias": torch.ones(2)},
            r"fc1.weight: expected the shape \(2, 3\), found \(3, 2\)",
        ),
        ({"fc1.weight": torch.ones(2, 3), "fc1.bias": torch.ones(2).long()}, "fc1.bias is torch.int64"),
        ({"fc1.weight": torch.full((2, 3), torch.nan), "fc1.bias": torch.ones(2)}, "6 values that are NaN"),
        (torch.ones(3), "expected a state_dict, found Tensor"),
        ({}, "found an empty dict"),
        ({**STATE, "epoch": 3}, r"found a dict with 'epoch' \(int\), 'fc1.weight' \(Tensor\)"),
        ({**STATE, "acc": np.float64(1)}, r"'acc' \(an object that is not read\)"),
        ({"G": STATE, "D": STATE}, r"has several state dicts: \['G'\], \['D'\]: save the right one alone"),
        (
            {"net": STATE, "loss": Runs()},
            "contains eval, which is not loaded because that could run code",
        ),
        (torch.nn.Linear(2, 2), r"contains torch\.nn\.modules\.linear\.Linear, which is not loaded"),
        ({"fc1.weight": torch.eye(2).to_sparse()}, r"fc1.weight has the layout torch.sparse_coo, not a dense one"),
        ({"fc1.weight": torch.ones(2, device="meta")}, "fc1.weight is on the meta device, without values"),
        ({"fc1.weight": torch.ones(1).expand(10**12)}, "fc1.weight repeats values of a smaller tensor"),
        ({"fc1.weight": torch.ones(2, dtype=torch.complex64)}, "fc1.weight is torch.complex64"),
        (None, r"cannot be loaded .*is it a file of torch\.save\?"),
    ],
)
def test_bad_weights(tmp_path: Path, saved: object, message: str) -> None:
    path = tmp_path / "w.pth"
    if saved is None:
        path.write_bytes(b"PK\x03\x04 cut off")
    else:
        torch.save(saved, path)
    with pytest.raises(ImportFilesError, match=message) as caught:
        read_weights(path, SHAPES)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_bad_safetensors(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(ImportFilesError, match="not a valid safetensors file"):
        read_weights(tmp_path / "w.safetensors")
