from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hesstore.errors import ImportFilesError
from hesstore.importing.state_dicts import read_weights, shapes_from_sizes

SHAPES = {"fc1.weight": (2, 3), "fc1.bias": (2,)}


def test_shapes_from_sizes() -> None:
    assert shapes_from_sizes({"a.weight": 6, "a.bias": 3, "b": 4, "c.weight": 5}) == {
        "a.weight": (3, 2),
        "a.bias": (3,),
        "b": (4,),
        "c.weight": (5,),
    }


def test_state_dicts_in_several_forms(tmp_path: Path) -> None:
    state = {"fc1.weight": torch.arange(6.0).reshape(2, 3), "fc1.bias": torch.ones(2, dtype=torch.float64)}
    path = tmp_path / "w.pth"
    for saved in (
        state,
        {"state_dict": state, "epoch": 3},
        {"model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        dict(reversed(state.items())),
    ):
        torch.save(saved, path)
        found = read_weights(path, SHAPES)
        assert list(found) == list(SHAPES)
        assert found["fc1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert found["fc1.bias"].dtype == np.float32
    save_file(state, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors", SHAPES)["fc1.bias"].tolist() == [1, 1]


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
        (torch.nn.Linear(2, 2), "weights_only=True"),
        (None, "cannot be loaded"),
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
