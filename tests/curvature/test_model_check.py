from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import hesstore
from hesstore.config import SweepConfig, fingerprint
from hesstore.curvature import model_check
from hesstore.curvature.model_check import ModelCheck, check_factory, check_stack
from hesstore.curvature.model_warnings import (
    KinkFinder,
    batch_norm_warning,
    dropout_warning,
    idle_parameter_warning,
    kink_warning,
    probability_warning,
)
from hesstore.engine.experiment import Experiment
from hesstore.engine.sweep import run_sweep
from hesstore.errors import ConfigMismatchError, CorruptStoreError, ExportError, ModelError, ModelWarning
from hesstore.integrity.recheck import recheck
from hesstore.integrity.verify import verify
from hesstore.problem.models import FlatModel, build
from tests.support import toy
from tests.support.command_line import RunHesstore
from tests.support.toy import Between


def rows(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x, y = (torch.from_numpy(part) for part in toy.digits()[:2])
    return x[:40].to(dtype), y[:40].long()


class Wrong(torch.autograd.Function):
    """The square, with the jvp of the cube."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004 - PyTorch's
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = 2 * x * slopes[0]
        return result

    @staticmethod
    def jvp(ctx: Any, *directions: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = 3 * x * x * directions[0]
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.cell(x.view(-1, 8, 8))[0][:, -1])
        return out


class Padded(nn.Module):
    """A network whose embedding has a vector for padding."""

    def __init__(self, padding_idx: int | None = 0, **options: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 3, padding_idx=padding_idx, **options)
        self.head = nn.Linear(64 * 3, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.words((10 * x).long().clamp(0, 19)).flatten(1))
        return out


class Returning(nn.Linear):
    """A linear layer that returns something other than logits."""

    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__(64, 10)
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(super().forward(x))


def counting(module: Between, h: Tensor) -> Tensor:
    module.get_buffer("calls").add_(1)
    return torch.tanh(h)


def write_to_view(h: Tensor) -> Tensor:
    """In-place operations on views, whose second derivatives a traced program gets wrong."""
    out = h * 1
    out.view(-1).mul_(2)
    out[:, 0].add_(h[:, 1] ** 2)
    return out


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "random": (lambda: Between(lambda _, h: functional.dropout(h)), "returns different outputs for the same input"),
    "counts": (lambda: Between(counting, calls=torch.zeros(())), "changes its buffer 'calls'"),
    "mixes rows": (
        lambda: nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10, track_running_stats=False)),
        "mix rows",
    ),
    "argmax": (lambda: Returning(lambda z: functional.one_hot(z.argmax(1), 10).float()), "no gradient: .*argmax"),
    "rounded": (lambda: Returning(torch.round), "gradient of zero in every parameter"),
    "detached": (lambda: Between(lambda _, h: h * h.detach()), "not the slope of its loss"),
    "straight through": (lambda: Between(lambda _, h: h + (h.round() - h).detach()), "not the slope of its loss"),
    "numpy": (lambda: Between(lambda _, h: torch.from_numpy(np.tanh(h.numpy()))), r"no gradient: .*numpy\(\)"),
    "wrong jvp": (lambda: Between(lambda _, h: Wrong.apply(h)), "not symmetric"),
    "padding": (Padded, "not symmetric: the embedding 'words' has padding_idx=0"),
    "sparse": (
        lambda: Padded(padding_idx=None, sparse=True),
        "the embedding 'words' with sparse, whose gradient is a sp",
    ),
    "by frequency": (
        lambda: Padded(padding_idx=None, scale_grad_by_freq=True),
        "with scale_grad_by_freq, whose gradient is not the derivative: leave out scale_grad_by_freq",
    ),
    "changing": (
        lambda: Padded(max_norm=1.0),
        "with max_norm, which changes its weight in each call: leave out max_norm",
    ),
    "checkpointing": (
        lambda: Between(lambda _, h: checkpoint(torch.tanh, h, use_reentrant=False)),
        "uses activation checkpointing, which has no derivative in forward mode: switch off torch.utils.checkpoint",
    ),
    "lstm": (Recurrent, "no second derivative .*_rnn_layer"),
    "det": (lambda: Between(lambda _, h: h * h[:, :4].view(-1, 2, 2).det()[:, None]), "contradict each other.*det"),
    "write to view": (lambda: Between(lambda _, h: torch.tanh(write_to_view(h))), "contradict each other"),
    "branches": (lambda: Between(lambda _, h: h if h[0, 0] > 0 else torch.tanh(h)), "data-dependent control flow"),
    "infinite": (lambda: Between(lambda _, h: torch.log(h - 100)), "NaN or infinite"),
    "infinite slope": (lambda: Between(lambda _, h: torch.sqrt(h * 0)), "gradient that is NaN or infinite in 'inner"),
    "half": (lambda: Returning(Tensor.half), "returns logits in float16"),
    "tuple": (lambda: Returning(lambda z: (z, z)), r"to tuple, not to logits \(32, 10\)"),
    "too many": (lambda: nn.Linear(64, 11), r"maps 32 inputs \(64,\) to \(32, 11\), not to logits \(32, 10\)"),
    "other inputs": (lambda: nn.Linear(63, 10), r"fails on inputs \(32, 64\) in float32: mat1 and mat2"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_refusals(name: str) -> None:
    torch.manual_seed(0)
    make, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as raised:
        ModelCheck(FlatModel(make().train(mode=False)), "own:net", *rows(), 10).run()
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("model: 'own:net' ")


@pytest.mark.parametrize("name", ["straight through", "wrong jvp", "det"])
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_refusals_of_large_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer directions are compared."""
    monkeypatch.setattr(model_check, "LARGE", 0)
    test_refusals(name)


def test_short_steps_are_tried_where_the_loss_bends(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = FlatModel(Between(lambda _, h: torch.sin(3e3 * h)).train(mode=False).double())
    x, y = rows()
    check = ModelCheck(model, "own:net", x.double(), y, 10)
    assert check.run() == []
    monkeypatch.setattr(model_check, "STEPS", (1e-3, 1e-4))
    with pytest.raises(ModelError, match="not the slope of its loss"):
        dataclasses.replace(check).run()


ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "buffers": lambda: toy.with_buffers((64,), 10),
    "layer norm and silu": lambda: nn.Sequential(nn.Linear(64, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 10)),
    "zeros at the end": lambda: nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_smooth_networks_pass_without_warnings(name: str) -> None:
    torch.manual_seed(0)
    model = FlatModel(ACCEPTED[name]().train(mode=False))
    if name == "zeros at the end":
        nn.init.zeros_(model.module.get_parameter("2.weight"))
    assert ModelCheck(model, name, *rows(), 10).run() == []


def test_stacks() -> None:
    """At several θ together, as on a GPU."""
    check_stack(build("tests.support.toy:with_buffers", (), (64,), 10, seed=0), "own", *rows())
    branching = Between(lambda _, h: torch.tanh(h) if h.sum() > 0 else torch.sin(h))
    with pytest.raises(ModelError, match=r"several θ together: .*: pass --models 1"):
        check_stack(FlatModel(branching), "own", *rows())


KINKS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "relu": (functional.relu, ["ReLU"]),
    "in place": (lambda h: functional.relu_(h * 1), ["ReLU"]),
    "relu6": (nn.ReLU6(), ["hardtanh or ReLU6"]),
    "leaky": (nn.LeakyReLU(), ["leaky ReLU"]),
    "prelu": (nn.PReLU(), ["PReLU"]),
    "threshold": (nn.Threshold(0.1, 0), ["threshold"]),
    "hardswish": (functional.hardswish, ["hardswish"]),
    "selu": (functional.selu, ["SELU, or ELU with an alpha other than 1"]),
    "elu": (functional.elu, []),
    "abs": (torch.abs, ["abs"]),
    "clamp": (lambda h: h.clamp(min=0), ["clamp"]),
    "a guard against zero": (functional.normalize, []),
    "maxout": (lambda h: torch.maximum(h, -h), ["max or min"]),
    "max pooling": (lambda h: functional.max_pool2d(h[:, None], 2), ["max pooling"]),
    "max pooling along one axis": (nn.MaxPool1d(2), ["max pooling"]),
    "adaptive": (lambda h: functional.adaptive_max_pool2d(h[:, None], 2), ["max pooling"]),
    "rounding": (lambda h: h + torch.round(h), ["rounding or sign"]),
    "gelu": (functional.gelu, []),
    "average pooling": (nn.AvgPool1d(2), []),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_found_where_parameters_meet_them(name: str) -> None:
    function, expected = KINKS[name]
    h = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0))
    with KinkFinder() as of_data:
        function(h.clone())
    with KinkFinder() as of_parameters:
        function(h.requires_grad_())
    assert of_parameters.found == expected
    assert of_data.found == (expected if name == "prelu" else [])  # PReLU has a parameter itself


def test_warnings() -> None:
    assert kink_warning(["ReLU", "abs", "ReLU"]).startswith(
        "uses ReLU, abs: the second derivative is undefined at the kinks and steps and"
    )
    assert "zero almost everywhere" not in kink_warning(["hardswish"])
    assert (
        kink_warning([])
        == idle_parameter_warning([])
        == dropout_warning(nn.Dropout(0))
        == batch_norm_warning(nn.LayerNorm(3))
        == ""
    )
    assert "('a', 'b', 'c' and 2 more)" in idle_parameter_warning(["a", "b", "c", "d", "e"])
    probabilities = torch.softmax(torch.randn(5, 3), 1)
    assert probability_warning(probabilities).startswith("returns probabilities instead of logits")
    assert probability_warning(probabilities.log()) == probability_warning(probabilities + 1) == ""
    several = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(3), nn.Dropout2d()))
    assert "dropout ('0', '1.1'), which has no effect, not even in training" in dropout_warning(several)
    assert "batch norm ('1.0'), which does not normalise here" in batch_norm_warning(several)


def test_a_check_warns_and_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.1), nn.Linear(6, 10))
    module.register_parameter("unused", nn.Parameter(torch.ones(2)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.warns(ModelWarning) as caught:
        hesstore.check_model(module, *rows())
    said = [str(warning.message) for warning in caught]
    expected = [
        "has dropout ('3')",
        "has batch norm ('1')",
        "has parameters that do not change the loss ('unused')",
        "uses ReLU",
    ]
    assert all(text.startswith(f"model: 'Sequential' {start}") for text, start in zip(said, expected, strict=True))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_factories_must_follow_from_the_seed() -> None:
    for name, message in (
        ("with_random_buffer", "a different buffer 'code'"),
        ("with_foreign_weights", "different initial weights"),
    ):
        make = partial(build, f"tests.support.toy:{name}", (), (64,), 10)
        with pytest.raises(ModelError, match=message):
            check_factory(make, make(3), name, 3)
    make = partial(build, "tests.support.toy:with_buffers", (), (64,), 10)
    check_factory(make, make(3), "with_buffers", 3)
    with pytest.raises(ModelError, match="different initial weights"):
        check_factory(make, make(4), "with_buffers", 3)


# -- in a sweep ---------------------------------------------------------------------------------------------------


SMALL: dict[str, object] = {"k": 2, "epochs": 1, "response": 0, "probes": 0}


@pytest.fixture
def own(toy_config: Callable[..., SweepConfig]) -> Callable[..., SweepConfig]:
    return lambda name, **values: toy_config(model=f"tests.support.toy:{name}", **{"l2": [0.01], **SMALL, **values})


@pytest.mark.slow
@pytest.mark.slow
def test_a_store_of_a_network_with_buffers(
    own: Callable[..., SweepConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = own("with_buffers", seeds="0,1", dtype="float64")
    run_sweep(config, tmp_path / "s.zarr")
    monkeypatch.setattr(ModelCheck, "run", lambda _: [])  # the first check is enough
    ds = hesstore.open(tmp_path / "s.zarr")
    identity = json.loads(ds.attrs["identity"])
    assert [name for name, *_ in identity["buffers"]] == ["mask", "code"]
    assert verify(tmp_path / "s.zarr").ok
    assert list(dict.fromkeys(ds["layer"].values)) == ["inner", "square", "head"]  # again is square
    assert float(ds["class_identity_error"].max()) < 1e-9
    assert run_sweep(config, tmp_path / "s.zarr").computed == 0
    model = hesstore.load_model(ds, run=1, l2=0.01, trust=True)
    predicted = np.asarray(model(torch.from_numpy(toy.digits()[2])).argmax(1))
    assert (predicted == toy.digits()[3]).mean() == pytest.approx(
        float(ds["accuracy"].sel(run=1, l2=0.01, split="test"))
    )
    with pytest.raises(ExportError, match="Constant has another buffer 'code' than the network of the sweep"):
        hesstore.load_model(ds, l2=0.01, module=toy.with_other_buffers((64,), 10))
    with pytest.warns(ModelWarning, match=r"lack the network's buffers \(mask, code\).*strict=False"):
        hesstore.export(ds, tmp_path / "out", format="pth")
    state = torch.load(tmp_path / "out" / "model_weights-1-0.01000.pth", weights_only=True)
    missing = toy.with_buffers((64,), 10).load_state_dict(state, strict=False).missing_keys
    assert missing == ["mask", "code", "again.weight", "again.bias"]
    metadata = (tmp_path / "s.zarr" / "zarr.json").read_bytes()
    monkeypatch.setattr(toy, "with_buffers", toy.with_other_buffers)
    for grow in (False, True):
        with pytest.raises(ConfigMismatchError, match="buffers"):
            run_sweep(config, tmp_path / "s.zarr", grow=grow)
    with pytest.raises(CorruptStoreError, match=r"the model is not the one .* \(buffers is"):
        recheck(tmp_path / "s.zarr", trust=True)
    assert (tmp_path / "s.zarr" / "zarr.json").read_bytes() == metadata


def test_networks_without_buffers_keep_their_fingerprint(toy_config: Callable[..., SweepConfig]) -> None:
    experiment = Experiment.prepare(toy_config())
    layout = experiment.model.layout
    parameters = [[name, list(shape)] for name, shape in zip(layout.names, layout.shapes, strict=True)]
    before = {**experiment.config.identity(), "data_digest": experiment.data.digest, "parameters": parameters}
    assert fingerprint(experiment.identity()) == fingerprint(before)


def test_a_refused_model_writes_nothing(run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path) -> None:
    done = run_hesstore("sweep", "s.zarr", *toy_arguments, "--model", "tests.support.toy:with_random_buffer")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "hesstore: model: 'tests.support.toy:with_random_buffer' has a different buffer 'code' each time"
    )
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_each_warning_is_printed_once(
    run_hesstore: RunHesstore, toy_arguments: list[str], tmp_path: Path, workers: str
) -> None:
    arguments = [
        *toy_arguments,
        "--model",
        "tests.support.toy:relu",
        "--l2",
        "0,0.01",
        *(f"--{k}={v}" for k, v in SMALL.items()),
    ]
    done = run_hesstore("sweep", "s.zarr", *arguments, "--workers", workers)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "warning" in line.lower())
    assert line.startswith("hesstore: warning: model: 'tests.support.toy:relu' uses ReLU: ")
    with warnings.catch_warnings(record=True) as left:  # warnings are shown by Python itself again
        warnings.simplefilter("always")
        warnings.warn("left", ModelWarning, stacklevel=1)
    assert len(left) == 1
