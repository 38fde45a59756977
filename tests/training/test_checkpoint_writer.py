from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hesstore.errors import ConfigError, HesstoreError
from hesstore.importing.file_names import parse_name
from hesstore.problem.state_dicts import read_weights
from hesstore.training.checkpoint_writer import CheckpointWriter, lightning_callback


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_weights_of_a_training_loop(tmp_path: Path) -> None:
    model, write = small_network(), CheckpointWriter(tmp_path / "new" / "checkpoints", every=5, seed=3)
    for step in range(12):
        with torch.no_grad():
            next(model.parameters()).fill_(step)
        path = write(model, step)
        assert (path is None) == bool(step % 5)
    assert names(write.folder) == ["seed3_step_0.pth", "seed3_step_10.pth", "seed3_step_5.pth"]
    assert path is None
    found = read_weights(write.folder / "seed3_step_10.pth", {n: tuple(p.shape) for n, p in model.named_parameters()})
    assert (found["0.weight"] == 10).all()
    assert parse_name(write.folder / "seed3_step_10.pth", "step") == (3, "10")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every: 0"),
        ({"every": 2.5}, "every: 2.5 is not a whole number"),
        ({"seed": -1}, "seed: -1 is below the least value 0"),
        ({"axis": "mode"}, "axis: 'mode'"),
        ({"folder": __file__}, "is a file: give the path of a folder"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CheckpointWriter(**{"folder": tmp_path, **arguments})


class WithoutState(nn.Linear):
    def state_dict(self, *_: object, **__: object) -> dict[str, object]:  # type: ignore[override]
        raise RuntimeError("sharded")


@pytest.mark.parametrize(
    ("model", "value", "message"),
    [
        (small_network(), 1.0, "step: 1.0 is not a whole number"),
        (small_network(), -1, "step: -1 is below the least value 0"),
        (small_network().state_dict(), 1, "model: OrderedDict is not an nn.Module"),
        (nn.Tanh(), 1, "model: Tanh has no weights"),
        (WithoutState(2, 2), 1, r"'WithoutState' raised RuntimeError: sharded, .*test_checkpoint_writer.py line \d+"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, model: nn.Module, value: int, message: str) -> None:
    with pytest.raises(HesstoreError, match=message):
        CheckpointWriter(tmp_path)(model, value)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("step", ["step_0.pth", "step_2.pth", "step_4.pth"]), ("epoch", ["epoch_0.pth", "epoch_2.pth"])],
)
def test_the_hooks_of_lightning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: str, expected: list[str]
) -> None:
    """The hooks are called as by a Trainer that steps at every second batch, with a stand-in for its base class."""
    stand_in = ModuleType("lightning.pytorch")
    stand_in.Callback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning.pytorch", stand_in)
    callback = lightning_callback(tmp_path, every=2, axis=axis, network="net")
    module, trainer = SimpleNamespace(net=small_network()), SimpleNamespace(global_step=0, current_epoch=0)
    callback.on_train_start(trainer, module)
    for epoch in range(2):
        trainer.current_epoch = epoch
        for batch in range(4):
            trainer.global_step += batch % 2
            callback.on_train_batch_end(trainer, module, None, None, batch)
        callback.on_train_epoch_end(trainer, module)
    assert names(tmp_path) == expected
    wrong = lightning_callback(tmp_path, network="nets")
    with pytest.raises(ConfigError, match="network: SimpleNamespace has no attribute 'nets'"):
        wrong.on_train_start(trainer, module)
    with pytest.raises(ConfigError, match="axis: 'width' is not one of step, epoch"):
        lightning_callback(tmp_path, axis="width")


def test_without_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install lightning"):
        lightning_callback(tmp_path)


@pytest.mark.filterwarnings("ignore")  # those of Lightning
def test_a_trainer_of_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = small_network()

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    rows = torch.utils.data.TensorDataset(torch.randn(12, 4), torch.arange(12) % 2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    callback = lightning_callback(tmp_path / "ck", every=2, network="net")
    trainer = lightning.Trainer(max_epochs=2, callbacks=[callback], default_root_dir=tmp_path, **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(rows, batch_size=4))
    assert names(tmp_path / "ck") == ["step_0.pth", "step_2.pth", "step_4.pth", "step_6.pth"]
    assert set(read_weights(tmp_path / "ck" / "step_6.pth")) == {"0.weight", "0.bias", "2.weight", "2.bias"}
