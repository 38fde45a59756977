from __future__ import annotations

import pytest
import torch

from hesstore.curvature import FlatHessian
from hesstore.curvature.row_memory import SAMPLE_ROWS, rows_in
from hesstore.engine import work_sizes
from hesstore.engine.work_sizes import GIB, GPU_MODELS, GPU_ROWS, models_that_fit, rows_that_fit
from hesstore.problem.models import build
from tests.support import toy
from tests.support.hessians import cached_share


def test_a_cpu_takes_one_model_unless_the_config_gives_a_number() -> None:
    model = build("mlp", (6,), (5,), 3, seed=0)
    x, y = toy.blobs()
    given = work_sizes.choose(model, x.float(), y, models=3, chunk_rows=7, memory_gib=1.5)
    assert given == work_sizes.Sizes(3, 7, 1.5 * GIB)
    chosen = work_sizes.choose(model, x.float(), y, models=0, chunk_rows=0, memory_gib=0)
    assert (chosen.models, chosen.chunk_rows) == (1, work_sizes.CPU_ROWS)
    assert chosen.cache_bytes > 1 << 20


def test_the_size_of_the_data_set_does_not_count_for_the_rows_of_a_pass() -> None:
    """Few rows are a view of all rows, whose storage is that of the whole data set."""
    model = build("mlp", (128, 128), (784,), 10, seed=0)
    for rows in (100, 60_000):
        x, y = torch.zeros(rows, 784), torch.zeros(rows, dtype=torch.int64)
        assert work_sizes.choose(model, x, y, models=0, chunk_rows=0, memory_gib=0).chunk_rows == work_sizes.CPU_ROWS


def test_many_parameters_allow_more_rows_in_a_pass() -> None:
    """A pass may take the memory of 16 vectors of parameters: 6.4 MB, for rows of 5 kB."""
    few, x, y = build("linear:1", (), (4,), 3, seed=0), torch.zeros(2048, 4), torch.zeros(2048, dtype=torch.int64)
    assert rows_in(0, 2048, few, x, y) == SAMPLE_ROWS
    many, x = build("linear:2", (200,), (500,), 3, seed=0), torch.zeros(2048, 500)
    assert rows_in(0, 2048, many, x, y) == 1024
    assert rows_in(1e9, 2048, many, x, y) == 2048


@pytest.mark.parametrize("gib", [0.1, 1, 4, 40, 1000])
def test_stacks_stay_within_the_budget(gib: float) -> None:
    """The default network on 60,000 rows takes 6 kB per row and 473 kB per vector."""
    cached, vector = 6_000 * 60_000, 473_128
    models = models_that_fit(gib * GIB, cached, vector)
    assert 1 <= models <= GPU_MODELS
    assert models == 1 or models * (cached + 352 * vector) <= gib * GIB
    assert models == GPU_MODELS or (models + 1) * (cached + 530 * vector) > gib * GIB


@pytest.mark.parametrize(("gib", "rows"), [(10, GPU_ROWS), (1, 32768), (0.1, 4096), (0.001, 1024)])
def test_rows_are_a_power_of_two(gib: float, rows: int) -> None:
    assert rows_that_fit(gib * GIB, 6_000) == rows


def test_bytes_per_row_are_those_that_a_spectrum_caches() -> None:
    model = build("mlp", (6, 5), (8,), 4, seed=0)
    x, y = toy.blobs(96, 8, 4)
    hessian = FlatHessian(model, x.float(), y, chunk_rows=96)
    each = hessian.row_bytes(model.theta())
    assert cached_share(hessian.at(model.theta(), cache_bytes=96 * each + 200)) == 1
    assert cached_share(hessian.at(model.theta(), cache_bytes=96 * each * 0.9)) == 0


def test_a_gpu_takes_many_models(device: torch.device) -> None:
    model = build("mlp", (6,), (5,), 3, seed=0)
    model.module.to(device)
    x, y = (part.to(device) for part in toy.blobs())
    sizes = work_sizes.choose(model, x.float(), y, models=0, chunk_rows=0, memory_gib=0)
    assert sizes.models == (GPU_MODELS if device.type == "cuda" else 1)
