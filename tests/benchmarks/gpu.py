"""Part ``gpu``: the first run on a GPU. It checks the results in float64 against the CPU, then measures times.

It also runs on a CPU, where it checks this program and nothing else.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from hesstore import lanczos, run_sweep
from hesstore.curvature import FlatHessian
from hesstore.engine import environment, work_sizes
from hesstore.engine.devices import computing_on, resolve_device
from hesstore.engine.precision import check_precision
from hesstore.errors import DeviceError
from hesstore.store.environments import facts_by_group
from hesstore.training import Fit, Trainer
from hesstore.training.cuda_graph import GraphedStep
from tests.benchmarks.accuracy import exact_products, relative_error
from tests.benchmarks.digit_problem import BATCH, L2, Problem, digits, fit_settings, untrained
from tests.benchmarks.end_to_end import sweep_config
from tests.benchmarks.hessian_products import random_vector
from tests.benchmarks.result_tables import Table, progress
from tests.benchmarks.timing import timed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tests.benchmarks.benchmark_settings import Settings
    from tests.benchmarks.result_tables import Row

CHECK_ROWS = 1000
"""Largest number of rows in the checks."""

STACKS = (1, 8, 64)
"""The numbers of models side by side whose times are measured."""

STEPS = 200
"""Training steps per measurement."""

EPOCHS = 2
"""Epochs of a timed grid point."""

PRODUCTS = 300
"""A number of products for one spectrum, from which the time of a grid point is estimated beforehand."""

MOST_SECONDS = 30
"""A grid point is not timed with stacks that are estimated to take longer."""

DOUBLE = 1e-9
"""Limit of relative differences in float64. The order of a sum changes about 1e-14, which training amplifies."""

STORED = 1e-4
"""Limit of relative differences of stored results, which are float32; eigenvectors are not compared."""

ROUNDING = 50
"""Limit of the error of a float32 product, in ε|μ₁|. On a CPU, 1 to 4 are usual, and 50 in the collapsed phase."""

COMPARED = ("weights", "gradient", "eigenvalues", "confusion", "class_curvature", "class_response", "trace")
"""The variables that are compared between the sweeps of two devices."""


def run(settings: Settings) -> Iterator[Table]:
    """Yield the environment, the checks, and the times of each piece of work."""
    device = resolve_device(settings.device)
    with computing_on(device):
        yield surroundings(device)
        yield checks(replace(settings, rows=min(settings.rows, CHECK_ROWS)))
        yield times(settings, STACKS)


def surroundings(device: torch.device) -> Table:
    """Return what is known of the device, the libraries and the settings that decide how numbers are rounded."""
    rows: list[Row] = [
        {"group": group, "name": name, "value": str(value)}
        for group, facts in facts_by_group(environment.describe(device)).items()
        for name, value in facts.items()
    ]
    return Table(f"gpu: environment{_disclaimer(device)}", rows)


def _disclaimer(device: torch.device) -> str:
    return " — THIS DEVICE IS A CPU: nothing here is about a GPU" if device.type == "cpu" else ""


# -- checks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """A number that a check has found, and the limit up to which it is right."""

    name: str
    found: float
    limit: float

    def row(self) -> Row:
        """Return the row of the table."""
        right = self.found <= self.limit
        return {
            "check": self.name,
            "found": self.found,
            "limit": self.limit,
            "result": "right" if right else "WRONG",
        }


def checks(settings: Settings) -> Table:
    """Compare the results of the device with those of the CPU."""
    device = torch.device(settings.device)
    problem, on_cpu = (untrained(settings.rows, settings.hidden, where) for where in (settings.device, "cpu"))
    found = [
        *_precision(device),
        *_products(problem, on_cpu, settings.k),
        *_fits(problem, on_cpu),
        *_sweeps(settings),
    ]
    return Table(
        f"gpu: checks with {settings.rows:,} rows on {settings.device}{_disclaimer(device)}",
        [check.row() for check in found],
        ["differences are relative, and between this device and the CPU in float64, unless the name says otherwise"],
    )


def _precision(device: torch.device) -> Iterator[Check]:
    rounds = False
    try:
        check_precision(device)
    except DeviceError:
        rounds = True
    yield Check("float32 factors are rounded to TF32 or bfloat16 (1: yes)", float(rounds), 0)


def _products(problem: Problem, on_cpu: Problem, k: int) -> Iterator[Check]:
    """Hessian products in both precisions, of one model and of a stack, and the top eigenvalues."""
    progress("  products")
    x, theta = problem.x.double(), problem.theta.double()
    v = random_vector(on_cpu).double()
    exact = exact_products(on_cpu, v[None], on_cpu.theta.double())[0]
    operator = FlatHessian(problem.model, x, problem.y).at(theta)
    yield Check("product", relative_error(operator.matvec(v.to(theta)).cpu(), exact), DOUBLE)
    stack = FlatHessian(problem.model, x, problem.y).at_each(torch.stack([theta, 2 * theta]))
    rows = stack.matvec(v.to(theta).repeat(2, 1)).cpu()
    doubled = exact_products(on_cpu, v[None], 2 * on_cpu.theta.double())[0]
    yield Check("products of a stack", max(relative_error(rows[0], exact), relative_error(rows[1], doubled)), DOUBLE)
    values = _eigenvalues(problem, k)
    expected = _eigenvalues(on_cpu, k)
    yield Check("top eigenvalues", float((values - expected).abs().max() / expected.abs().max()), DOUBLE)
    rounded = FlatHessian(problem.model, problem.x, problem.y).at(problem.theta).matvec(v.to(problem.theta))
    error = torch.linalg.vector_norm(rounded.double().cpu() - exact) / torch.linalg.vector_norm(v)
    unit = torch.finfo(torch.float32).eps * float(expected.abs().max())
    yield Check("error of a float32 product, in ε|μ₁|", float(error) / unit, ROUNDING)


def _eigenvalues(problem: Problem, k: int) -> Tensor:
    operator = FlatHessian(problem.model, problem.x.double(), problem.y).at(problem.theta.double())
    return lanczos(operator, k, tol=1e-6, generator=torch.Generator().manual_seed(0)).eigenvalues


def _fits(problem: Problem, on_cpu: Problem) -> Iterator[Check]:
    """Fits of a few epochs, of one model and of a stack, with the steps that a sweep takes and with eager ones."""
    progress("  fits")
    expected = _fitted(on_cpu, 1)
    trainer = _trainer(problem, 1)
    yield Check("weights after a fit", relative_error(_weights(trainer, problem).cpu(), expected), DOUBLE)
    stacked = _fitted(problem, 3).cpu()
    yield Check("weights after fits of a stack", relative_error(stacked, expected.repeat(3, 1)), DOUBLE)
    graphs = [isinstance(step, GraphedStep) for step in trainer._steps.values()]
    is_gpu = problem.device.type == "cuda"
    yield Check("training steps that are no CUDA graph", float(graphs.count(not is_gpu)), 0)
    eager = _eager(_trainer(problem, 1))
    again = _weights(trainer, problem)
    yield Check("weights: CUDA graphs against eager steps", relative_error(_weights(eager, problem), again), DOUBLE)


def _trainer(problem: Problem, copies: int, *, double: bool = True) -> Trainer:
    """Return a trainer on the device of a problem."""
    x = problem.x.double() if double else problem.x
    problem.model.module.to(problem.device, x.dtype)
    return Trainer(problem.model, x, problem.y, fit_settings(EPOCHS), copies=copies)


def _eager(trainer: Trainer) -> Trainer:
    """Have a trainer launch each kernel of its steps."""
    trainer._make_steps = lambda count, size: trainer._make_eager_steps(size)  # type: ignore[method-assign]  # noqa: ARG005
    return trainer


def _fitted(problem: Problem, copies: int) -> Tensor:
    return _weights(_trainer(problem, copies), problem)


def _weights(trainer: Trainer, problem: Problem) -> Tensor:
    """Return the weights (G, P) after equal fits from the problem's weights."""
    rngs = [torch.Generator().manual_seed(0) for _ in range(trainer.copies)]
    fits = trainer.fit([problem.theta.double()] * trainer.copies, [L2] * trainer.copies, rngs)
    return torch.stack([fit.theta for fit in fits if isinstance(fit, Fit)])


def _sweeps(settings: Settings) -> Iterator[Check]:
    """Sweeps of two grid points side by side, in float64: everything that a sweep does, and its store."""
    progress("  sweeps")
    with tempfile.TemporaryDirectory() as folder:
        found, expected = (
            _swept(replace(settings, device=device), Path(folder) / f"{index}.zarr", models)
            for index, (device, models) in enumerate(((settings.device, 2), ("cpu", 1)))
        )
    for name in COMPARED:
        off = relative_difference(found[name].to_numpy(), expected[name].to_numpy())
        yield Check(f"{name} in the store of a sweep", off, STORED)


def relative_difference(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Return ‖found − expected‖ / ‖expected‖ over the numbers; infinity if other entries than expected are NaN."""
    one, other = found.astype(np.float64), expected.astype(np.float64)
    known = ~np.isnan(other)
    if (np.isnan(one) == known).any():
        return float("inf")
    off, size = np.linalg.norm(one[known] - other[known]), np.linalg.norm(other[known])
    return float(off / size) if size else float(off)


def _swept(settings: Settings, path: Path, models: int) -> xr.Dataset:
    values = {"epochs": EPOCHS, "patience": EPOCHS, "dtype": "float64", "path": "independent", "models": models}
    run_sweep(sweep_config(settings, (L2, 2 * L2), **values), path)
    ds: xr.Dataset = xr.open_zarr(path)[list(COMPARED)].load()
    return ds


# -- times ----------------------------------------------------------------------------------------------------


def times(settings: Settings, stacks: tuple[int, ...]) -> Table:
    """Time a training step, a product and a grid point with each number of models side by side."""
    device = torch.device(settings.device)
    problem = untrained(settings.rows, settings.hidden, settings.device)
    problem.model.module.to(device, torch.float32)
    digits(settings.rows)  # cached before anything is timed
    rows = [_timed_stack(settings, problem, models) for models in stacks]
    notes = [
        f"a step has {BATCH} rows of each model; times are medians of {settings.repeats} rounds, for all G models",
        f"grid point: {EPOCHS} epochs, top {settings.k}, class geometry and the store, in one round",
        f"a grid point is left out if its stack is estimated to take more than {MOST_SECONDS} s",
    ]
    return Table(f"gpu: times in float32, {settings.rows:,} rows{_disclaimer(device)}", rows, notes)


def _timed_stack(settings: Settings, problem: Problem, models: int) -> Row:
    progress(f"  times, G = {models}")
    trainer, eager = _trainer(problem, models, double=False), _eager(_trainer(problem, models, double=False))
    step, eager_step = (
        _median(partial(each.take_steps, STEPS), settings.repeats, problem.device) / STEPS for each in (trainer, eager)
    )
    sizes = work_sizes.choose(problem.model, problem.x, problem.y, models=models, chunk_rows=0, memory_gib=0)
    hessian = FlatHessian(problem.model, problem.x, problem.y, chunk_rows=sizes.chunk_rows)
    theta = problem.theta if models == 1 else problem.theta.repeat(models, 1)
    make = hessian.at if models == 1 else hessian.at_each
    operator, v = make(theta, cache_bytes=sizes.cache_bytes), torch.ones_like(theta)
    product = _median(partial(operator.matvec, v), settings.repeats, problem.device)
    steps = EPOCHS * -(-settings.rows // BATCH)
    estimate = steps * step + 1.5 * PRODUCTS * product
    del operator, hessian, trainer, eager
    point = _grid_point(settings, models) / models if estimate <= MOST_SECONDS else None
    return {
        "G": models,
        "step, ms": step * 1e3,
        "eager step, ms": eager_step * 1e3,
        "rows per pass": sizes.chunk_rows,
        "product, ms": product * 1e3,
        "s per grid point": point,
    }


def _median(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the median seconds of some work, after one run to warm up."""
    work()
    return statistics.median(timed(work, device)[0] for _ in range(repeats))


def _grid_point(settings: Settings, models: int) -> float:
    """Return the seconds of a sweep of as many independent grid points as models side by side."""
    l2 = tuple(L2 + 1e-5 * index for index in range(models))
    config = sweep_config(settings, l2, epochs=EPOCHS, patience=EPOCHS, path="independent", models=models)
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = timed(partial(run_sweep, config, Path(folder) / "s.zarr"), torch.device(settings.device))
    return seconds
