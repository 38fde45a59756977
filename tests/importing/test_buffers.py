"""Weight files with buffers: a network shows which tensors are some; without one, they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import hesstore
from hesstore.errors import ExportError, ImportFilesError
from hesstore.importing import import_files
from hesstore.problem.models import constant_buffers
from hesstore.problem.state_dicts import read_weights
from tests.support import toy
from tests.support.command_line import RunHesstore

NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")


class Shifted(nn.Sequential):
    """A network with a constant."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        self.register_buffer("shift", shift)


def save(folder: Path, *shifts: Tensor) -> None:
    folder.mkdir()
    for index, shift in enumerate(shifts):
        torch.save(Shifted(shift).state_dict(), folder / f"model_weights-0-0.0{index}000.pth")


def parameters(path: Path) -> list[str]:
    with hesstore.open(path) as ds:
        return [f"{layer}.{kind}" for layer, kind in dict.fromkeys(zip(ds.layer.values, ds.kind.values, strict=True))]


def test_without_a_network_a_doubtful_name_is_asked_for(tmp_path: Path, run_hesstore: RunHesstore) -> None:
    save(tmp_path / "in", torch.ones(4), torch.ones(4))
    refused = run_hesstore("import", "in", "s.zarr")
    assert (refused.returncode, "'shift' (4,) may be a buffer" in refused.stderr) == (2, True)
    assert "--buffers shift if it is one, --buffers none if all tensors are parameters" in refused.stderr
    assert run_hesstore("import", "in", "all.zarr", "--buffers", "none").returncode == 0
    assert len(parameters(tmp_path / "all.zarr")) == 5
    done = run_hesstore("import", "in", "s.zarr", "--buffers", "shift")
    assert (done.returncode, "shift: constant, and no part of θ" in done.stderr) == (0, True)
    assert parameters(tmp_path / "s.zarr") == [*NAMES]
    with hesstore.open(tmp_path / "s.zarr") as ds:
        loaded = hesstore.load_model(ds, l2=0.01, module=Shifted(torch.ones(4)))
        assert isinstance(loaded, Shifted)
        with pytest.raises(ExportError, match="another buffer 'shift'"):
            hesstore.load_model(ds, l2=0.01, module=Shifted(torch.zeros(4)))
    with pytest.raises(ImportFilesError, match="has no tensor 'mask', which was given as a buffer"):
        import_files(tmp_path / "in", tmp_path / "t.zarr", buffers=["mask"])


def test_gradients_show_which_tensors_are_buffers(tmp_path: Path) -> None:
    save(tmp_path / "in", torch.tensor([1, 0, 1]))  # of integers
    state = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).state_dict()
    lines = [f"dL/d{name}: {', '.join(['0.5'] * value.numel())}\n" for name, value in state.items()]
    (tmp_path / "in" / "gradients-0-0.00000.csv").write_text("".join(lines))
    import_files(tmp_path / "in", tmp_path / "s.zarr")
    assert parameters(tmp_path / "s.zarr") == [*NAMES]


def test_buffers_of_the_files_agree(tmp_path: Path) -> None:
    save(tmp_path / "in", torch.ones(4), torch.zeros(4))
    with pytest.raises(ImportFilesError, match=r"0.01000.pth: its buffer 'shift' is not that of the network"):
        import_files(tmp_path / "in", tmp_path / "s.zarr", buffers=["shift"])
    assert not (tmp_path / "s.zarr").exists()


def test_buffers_are_compared_with_those_of_a_network(tmp_path: Path) -> None:
    save(tmp_path / "in", torch.ones(4))
    path = tmp_path / "in" / "model_weights-0-0.00000.pth"
    found = read_weights(path, buffers=constant_buffers(Shifted(torch.ones(4))))
    assert [*found] == [*NAMES]
    with pytest.raises(ImportFilesError, match="its buffer 'shift' is not that of the network"):
        read_weights(path, buffers=constant_buffers(Shifted(torch.zeros(4))))


@pytest.mark.slow
def test_with_a_network_buffers_are_compared(tmp_path: Path) -> None:
    """All of ``state_dict`` and the parameters alone give the same results."""
    module = toy.with_buffers((64,), 10)
    torch.save(module.state_dict(), tmp_path / "all_0.01.pth")
    torch.save(dict(module.named_parameters()), tmp_path / "parameters_0.01.pth")
    settings = {"dataset": "tests.support.toy:digits", "k": 0, "device": "cpu"}

    def loss(name: str, model: str) -> float:
        store = tmp_path / f"{name}.zarr"
        settings["model"] = f"tests.support.toy:{model}"
        hesstore.analyse(tmp_path / f"{name}_0.01.pth", store, axis="l2", values=[0.01], settings=settings)
        with hesstore.open(store) as ds:
            return float(ds.loss.sel(split="train").values.item())

    losses = [loss(name, "with_buffers") for name in ("all", "parameters")]
    x, y, *_ = map(torch.from_numpy, toy.digits())
    with torch.no_grad():
        expected = float(nn.functional.cross_entropy(module(x).double(), y.long()))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    (tmp_path / "all.zarr").rename(tmp_path / "other.zarr")
    with pytest.raises(ImportFilesError, match="its buffer 'code' is not that of the network"):
        loss("all", "with_other_buffers")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm`:FutureWarning")
def test_what_a_weight_is_computed_from_is_asked_for(tmp_path: Path, run_hesstore: RunHesstore) -> None:
    pruned, normed = nn.Linear(3, 2), nn.Linear(3, 2)
    prune.l1_unstructured(pruned, "weight", 0.5)  # type: ignore[no-untyped-call]
    nn.utils.spectral_norm(normed)
    for name, module, buffers in (("pruned", pruned, "weight_mask"), ("normed", normed, "weight_u,weight_v")):
        (tmp_path / name).mkdir()
        torch.save(module.state_dict(), tmp_path / name / "model_weights-0-0.000.pth")
        refused = run_hesstore("import", name, f"{name}.zarr")
        assert (refused.returncode, f"pass --buffers {buffers} if" in refused.stderr) == (2, True)
        assert run_hesstore("import", name, f"{name}.zarr", "--buffers", buffers).returncode == 0
        with hesstore.open(tmp_path / f"{name}.zarr") as ds:
            assert ds.sizes["param"] == 8
