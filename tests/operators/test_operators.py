"""The public operators on networks of many kinds, against dense matrices."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import curvlinops
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

import hesstore
from hesstore.errors import ModelError, ModelWarning
from tests.support import networks
from tests.support.networks import Loss, dense_ggn, dense_hessian

ROWS = 12


def rows(*shape: int) -> Tensor:
    return torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(5))


def tokens(*shape: int, high: int) -> Tensor:
    return torch.randint(high, (ROWS, *shape), generator=torch.Generator().manual_seed(6))


LABELS = torch.arange(ROWS) % 3


def logits(out: dict[str, Tensor]) -> Tensor:
    return out["logits"]


def same(out: Tensor) -> Tensor:
    return out


def classes_last(out: Tensor) -> Tensor:
    return out.movedim(-1, 1)


def two_inputs() -> dict[str, Tensor]:
    return {"mask": tokens(1, high=2).bool(), "left": rows(4), "right": rows(2)}


Case = tuple[Callable[[], nn.Module], Any, Tensor, Callable[[Any], Tensor]]

CASES: dict[str, Case] = {
    "fully connected": (lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)), rows(4), LABELS, same),
    "relu and dropout": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)), rows(4), LABELS, same
    ),
    "a block used twice": (networks.SharedBlock, rows(4), LABELS, same),
    "tied weights, classes last": (networks.TiedTokens, tokens(2, high=5), tokens(2, high=5), classes_last),
    "batch norm": (networks.with_batch_norm, rows(1, 4, 4), LABELS, same),
    "parametrizations": (networks.with_parametrizations, rows(4), LABELS, same),
    "frozen parameters": (networks.partly_frozen, rows(4), LABELS, same),
    "several inputs by name": (networks.TwoInputs, two_inputs(), LABELS, logits),
    "several inputs by position": (
        networks.TwoInputs, tuple(two_inputs()[name] for name in ("left", "right", "mask")), LABELS, logits
    ),
}  # fmt: skip


def problem(name: str) -> tuple[nn.Module, Any, Tensor, Callable[[Any], Tensor]]:
    make, x, y, pick = CASES[name]
    torch.manual_seed(0)
    return make(), x, y, pick


def dense(operator: Any) -> Tensor:
    matrix: Tensor = operator @ torch.eye(operator.size, dtype=operator.dtype)
    return matrix


OF_EACH_KIND = {"parametrizations", "batch norm", "several inputs by name", "frozen parameters"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OF_EACH_KIND else pytest.mark.slow) for name in CASES]
)
def test_the_hessian_and_its_gauss_newton_part(name: str) -> None:
    module, x, y, pick = problem(name)
    loss = nn.functional.cross_entropy
    hessian = hesstore.Hessian(module, x, y, dtype=torch.float64, chunk_rows=4)
    expected = dense_hessian(module, x, y, loss, pick)
    torch.testing.assert_close(dense(hessian), expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        dense(hessian.gauss_newton()), dense_ggn(module, x, y, loss, pick), rtol=1e-9, atol=1e-11
    )
    outputs, theta = networks.outputs_of(module, x, pick)
    slope = torch.func.grad(lambda point: loss(outputs(point), y))(theta)
    torch.testing.assert_close(hessian.gradient(), slope, rtol=1e-9, atol=1e-11)
    assert hessian.loss == pytest.approx(float(loss(outputs(theta), y)), rel=1e-12)
    assert list(hessian.parameter_names) == networks.names_of(module)
    coarse = hesstore.Hessian(module, x, y).top_eigenpairs(2)
    exact = torch.linalg.eigvalsh(expected)
    order = exact.abs().argsort(descending=True)
    torch.testing.assert_close(coarse.eigenvalues, exact[order[:2]], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_the_vector_of_a_padding_index_is_a_constant(*, tied: bool) -> None:
    """The embedding looks a constant up; a head with the same weight still depends on it."""
    torch.manual_seed(0)
    module = networks.TiedTokens(padding=0)
    if not tied:
        module.head.weight = nn.Parameter(module.head.weight.detach().clone())
    x, y = tokens(2, high=5), tokens(2, high=5)
    constant = module.tokens.weight.detach()[0].double()

    reference = networks.TiedTokens()
    reference.load_state_dict(module.state_dict())
    if not tied:
        reference.head.weight = nn.Parameter(module.head.weight.detach().clone())
    reference.tokens.register_forward_hook(lambda _, args, out: torch.where((args[0] == 0)[..., None], constant, out))
    expected = dense_hessian(reference, x, y, nn.functional.cross_entropy, classes_last)
    found = dense(hesstore.Hessian(module, x, y, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert bool(found[:3].any()) == tied


def test_a_transformer_with_a_padding_mask() -> None:
    torch.manual_seed(0)
    module = networks.TransformerNetwork()
    x = tokens(3, high=6).clamp_min(1)
    x[::2, 2] = 0
    hessian = hesstore.Hessian(module, x, LABELS, dtype=torch.float64)
    vector = dict(module.named_parameters())["tokens.weight"].detach()[0].double()
    reference = copy.deepcopy(module)
    reference.tokens.padding_idx = None
    reference.tokens.register_forward_hook(lambda _, args, out: torch.where((args[0] == 0)[..., None], vector, out))
    expected = dense_hessian(reference, x, LABELS, nn.functional.cross_entropy)
    torch.testing.assert_close(dense(hessian), expected, rtol=1e-8, atol=1e-11)


def test_options_of_an_embedding_that_only_change_the_training() -> None:
    torch.manual_seed(0)
    module = networks.TiedTokens()
    x, y = tokens(2, high=5), tokens(2, high=5)
    expected = dense(hesstore.Hessian(module, x, y, dtype=torch.float64))
    module.tokens.sparse = module.tokens.scale_grad_by_freq = True
    found = dense(hesstore.Hessian(torch.optim.swa_utils.AveragedModel(module), x, y, dtype=torch.float64))
    torch.testing.assert_close(found, expected)
    assert module.tokens.sparse


def binary(out: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(out, y)


CLASS_WEIGHTS = torch.tensor([1.0, 3.0, 0.5])
IGNORED = LABELS.where(torch.arange(ROWS) % 4 > 0, -100)

LOSSES: dict[str, tuple[str | nn.Module, Tensor]] = {
    "cross_entropy": ("cross_entropy", LABELS),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.2), LABELS),
    "ignored targets": (nn.CrossEntropyLoss(), IGNORED),
    "ignored class, weights and smoothing": (
        nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, ignore_index=1, label_smoothing=0.1), LABELS
    ),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), LABELS),
    "probabilities": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), torch.softmax(rows(3), 1)),
    "bce": ("bce", (rows(3) > 0).long()),
    "bce with weights": (nn.BCEWithLogitsLoss(pos_weight=CLASS_WEIGHTS), (rows(3) > 0).float()),
    "mse": ("mse", rows(3)),
    "mse sum": (nn.MSELoss(reduction="sum"), rows(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    """E is exactly PyTorch's loss of all rows together, though chunks are summed and rows ignored."""
    loss, y = LOSSES[name]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    theirs = {"cross_entropy": nn.CrossEntropyLoss(), "bce": nn.BCEWithLogitsLoss(), "mse": nn.MSELoss()}
    function: Loss = copy.deepcopy(theirs[loss] if isinstance(loss, str) else loss).double()
    target = y.double() if name.startswith("bce") else y
    hessian = hesstore.Hessian(module, rows(4), y, loss=loss, dtype=torch.float64, chunk_rows=4)
    expected = dense_hessian(module, rows(4), target, function)
    torch.testing.assert_close(dense(hessian), expected, rtol=1e-9, atol=1e-11)
    ggn = hesstore.GGN(module, rows(4), y, loss=loss, dtype=torch.float64, chunk_rows=4)
    torch.testing.assert_close(dense(ggn), dense_ggn(module, rows(4), target, function), rtol=1e-9, atol=1e-11)
    outputs, theta = networks.outputs_of(module, rows(4), same)
    value = function(outputs(theta), target.double() if target.is_floating_point() else target)
    assert hessian.loss == pytest.approx(float(value), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gauss_newton_matrix_of_the_cross_entropy_is_the_fisher_matrix(smoothing: float) -> None:
    """The mean over rows of E[g gᵀ], with g the gradient of log p(c) and c drawn from the model."""
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    outputs, theta = networks.outputs_of(module, rows(4), same)
    log_p = torch.func.jacrev(lambda point: torch.log_softmax(outputs(point), 1))(theta)
    fisher = torch.einsum("nc,ncp,ncq->pq", torch.softmax(outputs(theta), 1), log_p, log_p) / ROWS
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    ggn = hesstore.GGN(module, rows(4), LABELS, loss=loss, dtype=torch.float64)
    torch.testing.assert_close(dense(ggn), fisher, rtol=1e-9, atol=1e-12)


def test_the_module_is_untouched() -> None:
    module = networks.with_batch_norm()
    module.train()
    dict(module.named_parameters())["4.weight"].requires_grad = False
    module(rows(1, 4, 4)).sum().backward()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    grads = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    objects = [id(part) for part in (*module.parameters(), *module.buffers(), *module.modules())]
    generator = torch.get_rng_state()
    hessian = hesstore.Hessian(module, DataLoader(TensorDataset(rows(1, 4, 4), LABELS), batch_size=4, shuffle=True))
    hessian.top_eigenpairs(2)
    hessian.blocks(k=1)
    assert [id(part) for part in (*module.parameters(), *module.buffers(), *module.modules())] == objects
    assert all(part.training for part in module.modules())
    assert [p.requires_grad for p in module.parameters()] == [True, True, True, True, False, True]
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    for name, parameter in module.named_parameters():
        before = grads[name]
        assert parameter.grad is None if before is None else torch.equal(parameter.grad, before)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_weights_are_those_of_the_time_of_creation() -> None:
    module = nn.Linear(4, 3)
    hessian = hesstore.Hessian(module, rows(4), LABELS)
    expected = hesstore.Hessian(module, rows(4), LABELS) @ torch.ones(15)
    with torch.no_grad():
        module.weight.mul_(3)
    assert torch.equal(hessian @ torch.ones(15), expected)


def test_eigenpairs_of_blocks_and_shares_of_the_residual() -> None:
    module, x, y, _ = problem("fully connected")
    hessian = hesstore.Hessian(module, x, y, dtype=torch.float64)
    h = dense_hessian(module, x, y, nn.functional.cross_entropy)
    g = dense_ggn(module, x, y, nn.functional.cross_entropy)
    blocks = hessian.blocks("layer", k=3, tol=1e-6)
    assert [(block.name, block.size) for block in blocks] == [("0", 25), ("2", 18)]
    assert [block.parameters for block in blocks] == [("0.weight", "0.bias"), ("2.weight", "2.bias")]
    for block, part in zip(blocks, (slice(0, 25), slice(25, 43)), strict=True):
        exact = torch.linalg.eigvalsh(h[part, part])
        exact = exact[exact.abs().argsort(descending=True)]
        torch.testing.assert_close(block.pairs.eigenvalues, exact[:3], rtol=1e-6, atol=1e-9)
        assert block.trace == pytest.approx(float(exact.sum()), rel=1e-9)
        assert block.trace_error == 0
    assert [block.name for block in hessian.blocks("parameter", k=1)] == list(hessian.parameter_names)
    pairs = hessian.top_eigenpairs(4, tol=1e-8)
    v = pairs.eigenvectors
    expected = (v @ (h - g) * v).sum(1) / pairs.eigenvalues
    torch.testing.assert_close(hessian.residual_shares(pairs), expected, rtol=1e-6, atol=1e-8)
    named = hessian.split(v[0])
    assert {name: tuple(value.shape) for name, value in named.items()} == {
        name: tuple(parameter.shape) for name, parameter in module.named_parameters()
    }
    assert torch.equal(torch.cat([value.flatten() for value in named.values()]), v[0])


def test_blocks_of_parametrized_layers_have_the_names_of_the_layers() -> None:
    module, x, y, _ = problem("parametrizations")
    assert [block.name for block in hesstore.Hessian(module, x, y).blocks(k=1)] == ["0", "2", "4"]


def test_the_trace_of_a_larger_network() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    hessian = hesstore.Hessian(module, rows(4), LABELS, dtype=torch.float64)
    exact = float(dense_hessian(module, rows(4), LABELS, nn.functional.cross_entropy).trace())
    alone, helped = hessian.trace(20), hessian.trace(20, pairs=hessian.top_eigenpairs(6, tol=1e-6))
    assert 0 < helped.error < alone.error
    assert abs(helped.value - exact) < 3 * helped.error
    assert abs(alone.value - exact) < 3 * alone.error


def test_a_scipy_operator_and_progress() -> None:
    counts: list[int] = []
    hessian = hesstore.Hessian(nn.Linear(4, 3), rows(4), LABELS, progress=counts.append)
    columns = hessian.to_scipy() @ torch.eye(15).numpy()
    torch.testing.assert_close(torch.from_numpy(columns), dense(hessian))
    assert counts == list(range(1, 31)) == list(range(1, hessian.num_matvecs + 1))


def test_products_are_the_same_without_a_cache() -> None:
    module, x, y, _ = problem("batch norm")
    cached = hesstore.Hessian(module, x, y, chunk_rows=4)
    recomputed = hesstore.Hessian(module, x, y, chunk_rows=4, memory_gib=1e-9)
    v = rows(cached.size)[0]
    assert torch.equal(cached @ v, recomputed @ v)
    assert all(chunk.primal is None for chunk in recomputed._products._chunks)


def test_half_precision_is_computed_in_float32() -> None:
    module = nn.Linear(4, 3).to(torch.bfloat16)
    hessian = hesstore.Hessian(module, rows(4), LABELS)
    assert hessian.dtype == torch.float32
    expected = dense_hessian(module, rows(4), LABELS, nn.functional.cross_entropy)
    torch.testing.assert_close(dense(hessian).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_compiled_or_parallel_module_is_unwrapped() -> None:
    module = nn.Linear(4, 3)
    expected = hesstore.Hessian(module, rows(4), LABELS) @ torch.ones(15)
    for wrapped in (torch.compile(module), nn.DataParallel(module)):
        hessian = hesstore.Hessian(wrapped, rows(4), LABELS)  # type: ignore[arg-type]  # compile returns a callable
        assert hessian.parameter_names == ("weight", "bias")
        assert torch.equal(hessian @ torch.ones(15), expected)


class Rescaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("count").add_(1)
        out: Tensor = self.inner(x)
        return out


class Function(nn.Module):
    """A linear layer, and a function of its outputs."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.function = nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.inner(x))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: Function(lambda h: h - h.mean(0)), "depend on the other rows"),
        (Rescaled, "changes its buffer 'count'"),
        (lambda: Function(lambda h: nn.functional.dropout(h, 0.5)), "different outputs for the same input"),
        (lambda: Function(lambda h: (h, h)), "returns tuple with 2 tensors: pass output="),
        (lambda: Function(lambda _: "text"), "returns str with 0 tensors"),
        (lambda: Function(lambda h: h[:, 0].argmax(-1, keepdim=True) * 1.0), "returns"),
        (lambda: Function(torch.Tensor.detach), "no gradient"),
        (lambda: Function(lambda h: h * h.detach()), "detached|contradict|not the slope|not symmetric"),
        (lambda: nn.Linear(5, 3), r"fails on inputs \(12, 4\)"),
        (lambda: nn.Linear(4, 3).requires_grad_(requires_grad=False), "only frozen parameters"),
        (lambda: nn.LazyLinear(3), "lazy parameter"),
        (nn.Sequential, "no parameters"),
        (lambda: nn.Linear(4, 3).state_dict(), "OrderedDict is not an nn.Module"),
        (lambda: nn.utils.weight_norm(nn.Linear(4, 3)), "copy|weight_norm"),
        (lambda: nn.Linear(4, 3, device="meta"), "meta device"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
def test_networks_that_are_refused(module: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(hesstore.HesstoreError, match=message) as caught:
        hesstore.Hessian(module(), rows(4), LABELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("l1", "'l1' is not one of cross_entropy, bce, mse"),
        (nn.L1Loss(), "L1Loss is not supported"),
        (nn.CrossEntropyLoss(reduction="none"), "gives no single number"),
        (nn.BCEWithLogitsLoss(weight=torch.ones(3)), "weight= is not supported"),
    ],
)
def test_losses_that_are_refused(loss: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        hesstore.Hessian(nn.Linear(4, 3), rows(4), LABELS, loss=loss)


def test_targets_that_are_refused() -> None:
    module = nn.Linear(4, 3)
    pairs: list[tuple[Any, Any, str]] = [
        (LABELS.float(), "cross_entropy", "pass integers for class indices"),
        (LABELS + 1, "cross_entropy", "3 classes, but y has the target 3"),
        (LABELS * 0 - 100, "cross_entropy", "all targets are ignored"),
        (LABELS, nn.CrossEntropyLoss(weight=torch.ones(2)), "3 classes, but the loss has 2 class weights"),
        (rows(1), "mse", r"returns \(12, 3\), but the targets y are \(12, 1\)"),
    ]
    for y, loss, message in pairs:
        with pytest.raises(hesstore.HesstoreError, match=message):
            hesstore.Hessian(module, rows(4), y, loss=loss)
    with pytest.raises(hesstore.HesstoreError, match="integers stay integers"):
        hesstore.Hessian(module, tokens(4, high=255), LABELS)
    with pytest.raises(hesstore.HesstoreError, match="may be axis 1 or the last axis"):
        hesstore.Hessian(networks.TiedTokens(), tokens(5, high=5), tokens(5, high=5))


def test_an_if_on_values_is_refused() -> None:
    hessian = hesstore.Hessian(Function(lambda h: 2 * h if bool(h.sum() > 0) else h), rows(4), LABELS)
    with pytest.raises(ModelError, match="can't be traced"):
        hessian @ torch.ones(15)


def test_an_output_that_the_user_selects() -> None:
    module = Function(lambda h: (2 * h, h))
    torch.manual_seed(0)
    found = hesstore.Hessian(module, rows(4), LABELS, output=lambda out: out[1]) @ torch.ones(15)
    torch.testing.assert_close(found, hesstore.Hessian(module.inner, rows(4), LABELS) @ torch.ones(15))


def test_a_network_that_ends_with_a_softmax_gives_a_warning() -> None:
    with pytest.warns(ModelWarning, match="probabilities instead of logits"):
        hesstore.Hessian(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), rows(4), LABELS)


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


@pytest.mark.parametrize("name", ["fully connected", "batch norm"])
def test_products_agree_with_curvlinops(name: str) -> None:
    """H, G and their blocks by layer, in batches of unequal size."""
    module, x, y, _ = problem(name)
    module.double().eval()
    x = x.double()
    data, loss = [(x[:7], y[:7]), (x[7:], y[7:])], nn.CrossEntropyLoss()
    parameters = dict(module.named_parameters())
    v = torch.randn(sum(p.numel() for p in parameters.values()), dtype=torch.float64)
    hessian = hesstore.Hessian(module, x, y)
    parts = list(hessian.split(v).values())
    for ours, theirs in (
        (hessian, curvlinops.HessianLinearOperator), (hessian.gauss_newton(), curvlinops.GGNLinearOperator)
    ):  # fmt: skip
        product = theirs(module, loss, list(parameters.values()), data, check_deterministic=False) @ parts
        torch.testing.assert_close(ours @ v, flat(product), rtol=1e-9, atol=1e-11)
    names = list(parameters)[-2:]
    last = [parameters[name] for name in names]
    block = curvlinops.GGNLinearOperator(module, loss, last, data, check_deterministic=False) @ parts[-2:]
    ggn = hessian.gauss_newton().restricted_to(names)
    torch.testing.assert_close(ggn @ flat(parts[-2:]), flat(block), rtol=1e-9, atol=1e-11)


def double_backward(module: nn.Module, x: Tensor, y: Tensor, v: dict[str, Tensor]) -> Tensor:
    """H v by ∇(∇E · v) on all rows together."""
    module.eval()
    parameters = list(module.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        slopes = torch.autograd.grad(nn.functional.cross_entropy(module(x), y), parameters, create_graph=True)
        return flat(list(torch.autograd.grad(slopes, parameters, list(v.values()))))


@pytest.mark.slow
def test_a_resnet() -> None:
    """ResNet-18 on images with 32 × 32 pixels, whose values do not all fit into the cache; 11 million parameters."""
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=10)
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    with torch.no_grad():
        module(2 * x + 1)  # statistics of batch norm that are not the initial ones
    hessian = hesstore.Hessian(module, x, y, memory_gib=0.1)
    v = torch.randn(hessian.size, generator=torch.Generator().manual_seed(1))
    expected = double_backward(module, x, y, hessian.split(v))
    assert float((hessian @ v - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.slow
def test_a_transformer() -> None:
    """Two layers of width 64 on sequences of 32 tokens; top eigenpairs, too."""
    torch.manual_seed(0)
    module = networks.TransformerNetwork(vocabulary=100, width=64, layers=2, classes=10)
    x, y = torch.randint(1, 100, (128, 32)), torch.arange(128) % 10
    hessian = hesstore.Hessian(module, x, y)
    v = torch.randn(hessian.size, generator=torch.Generator().manual_seed(1))
    expected = double_backward(module, x, y, hessian.split(v))
    assert float((hessian @ v - expected).norm() / expected.norm()) < 1e-5
    pairs = hessian.top_eigenpairs(k=3)
    assert bool(pairs.converged.all())
    for mu, u in zip(pairs.eigenvalues, pairs.eigenvectors, strict=True):
        product = double_backward(module, x, y, hessian.split(u))
        assert float((product - mu * u).norm()) < 2e-3 * float(mu.abs())


def test_a_wider_bound_takes_fewer_products() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 3))
    x, y = torch.randn(200, 20), torch.arange(200) % 3
    narrow, wide = (hesstore.top_eigenpairs(model, x, y, k=3, slack=slack) for slack in (3e-3, 1.0))
    torch.testing.assert_close(wide.eigenvalues, narrow.eigenvalues, rtol=1e-4, atol=0)
    last = float(narrow.eigenvalues[-1].abs())
    assert narrow.bound <= 1.003 * last < wide.bound <= 2 * last
    assert wide.num_matvecs < narrow.num_matvecs
    alone = hesstore.top_eigenpairs(model, x, y, k=3, slack=math.inf)
    torch.testing.assert_close(alone.eigenvalues, narrow.eigenvalues, rtol=1e-4, atol=0)
    assert alone.message == f"{alone.num_matvecs} products, without a bound on further eigenvalues"
    assert alone.num_matvecs < wide.num_matvecs
    likely = hesstore.top_eigenpairs(model, x, y, k=3, eta=0.5)
    assert likely.num_matvecs < narrow.num_matvecs
