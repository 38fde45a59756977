from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.benchmarks import (
    accuracy,
    curves,
    end_to_end,
    export,
    geometry,
    gpu,
    h100,
    original_method,
    overlap,
    product,
    spectrum,
    step,
)
from tests.benchmarks.benchmark_settings import Settings
from tests.benchmarks.command_line import PARTS, benchmark
from tests.benchmarks.digit_problem import ROWS_VARIABLE, Problem, digits, normalised, trained
from tests.benchmarks.h100_assumptions import Assumptions, Workload
from tests.benchmarks.hessian_products import HESSTORE, IMPLEMENTATIONS, Implementation, Product, random_vector
from tests.benchmarks.kernel_counts import KernelCounts, Work
from tests.benchmarks.operation_counts import gradient_flop, hvp_flop, num_parameters
from tests.benchmarks.reference import complete_eigenvalues, num_missing
from tests.benchmarks.result_tables import Table
from tests.benchmarks.solvers import CURVLINOPS_SOLVER, HESSTORE_SOLVER, CountedOperator, Solver, by_hesstore

ROWS, HIDDEN, STEPS = 200, (8, 6), 60
WIDTHS = (784, 128, 128, 10)


@pytest.fixture(autouse=True)
def user_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """References are kept in a temporary folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def problem() -> Problem:
    """200 digits, so that the last batch of 64 is smaller, and a small network."""
    return trained(ROWS, HIDDEN, steps=STEPS)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda implementation: implementation.name)
def test_products_are_right(problem: Problem, implementation: Implementation) -> None:
    if implementation.requires:
        pytest.importorskip(implementation.requires)
    v = random_vector(problem)
    exact = accuracy.exact_products(problem, v[None])[0]
    assert accuracy.relative_error(implementation.make(problem)(v), exact) < 1e-5


def test_exact_products_are_those_of_the_dense_hessian(problem: Problem) -> None:
    theta, model = problem.theta.double(), problem.model

    def loss(w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model.logits(w, problem.x.double()), problem.y)

    v = torch.stack([random_vector(problem, seed).double() for seed in (1, 2)])
    gradient = torch.func.grad(loss)
    dense = torch.stack([torch.func.jvp(gradient, (theta,), (row,))[1] for row in v])
    assert torch.allclose(accuracy.exact_products(problem, v), dense, rtol=1e-10, atol=1e-12)


def test_a_wrong_product_has_no_time(problem: Problem) -> None:
    def unweighted(problem: Problem) -> Product:
        """Return a product that takes the mean of batch means without weights."""
        module = problem.module()
        batches = [[batch] for batch in original_method.in_memory(problem)]
        products = [original_method.double_backward(module, batch, len(batch[0][1])) for batch in batches]
        return lambda v: sum((of_batch(v) for of_batch in products), torch.zeros_like(v)) / len(products)

    table = product.compare(problem, (HESSTORE, Implementation("unweighted", unweighted)), 1, lambda: 100.0)
    right, wrong = table.rows
    assert (right["result"], wrong["result"]) == ("right", "WRONG")
    assert right["ms"] is not None
    assert wrong["ms"] is wrong["× hesstore"] is None
    assert float(wrong["relative error"] or 0) > 1e-3


@pytest.mark.slow
def test_spectra(problem: Problem) -> None:
    """One of the solvers leaves out the third pair and gives the one behind the k-th instead."""
    pytest.importorskip("curvlinops")

    def skip_one(operator: CountedOperator, k: int) -> accuracy.Spectrum:
        values, vectors = by_hesstore(operator, k + 1)
        kept = torch.arange(k + 1) != 2
        return accuracy.Spectrum(values[kept], vectors[kept])

    chosen = [HESSTORE_SOLVER, CURVLINOPS_SOLVER, Solver("skips one", HESSTORE, skip_one)]
    rows = spectrum.compare(problem, chosen, k=5, rounds=1).rows
    assert [(row["result"], row["missing"]) for row in rows] == [("right", 0), ("right", 0), ("WRONG", 1)]
    assert all(float(row["residual / |μ|"] or 1) <= 1e-3 for row in rows)
    assert rows[2]["s"] is None


@pytest.mark.slow
def test_hessian_eigenthings_spectra(problem: Problem) -> None:
    pytest.importorskip("hessian_eigenthings")
    chosen = spectrum.solvers(problem, 5, with_original=False)
    names = {row["implementation"]: row["result"] for row in spectrum.compare(problem, chosen, k=5, rounds=1).rows}
    assert next(result for name, result in names.items() if "reorthogonalised" in str(name)) == "right"


@pytest.mark.slow
def test_export(tmp_path: Path) -> None:
    overlap.make_store(tmp_path / "s.zarr", 3, 2, 3000)
    table = export.compare(tmp_path / "s.zarr", 3, 1)
    assert [row["writer"] for row in table.rows] == ["hesstore", "the disk", *export.OTHERS]
    assert {row["result"] for row in table.rows} == {"right"}
    assert export.measure(tmp_path / "s.zarr", 2) > 50


@pytest.mark.slow
def test_overlap_map() -> None:
    (row,) = overlap.compare([7], 3, 2000).rows
    assert row["result"] == "right"


@pytest.mark.slow
def test_class_geometry(problem: Problem) -> None:
    table = geometry.compare(problem, k=4, repeats=1)
    assert "WRONG" not in {row["result"] for row in table.rows}
    assert [row["result"] for row in table.rows].count("right") == 5


def test_training_steps(problem: Problem) -> None:
    table = step.compare(problem, repeats=1)
    assert [row["result"] for row in table.rows] == ["right"] * 3


def test_wrong_eigenvalues_are_counted() -> None:
    reference = torch.tensor([4.0, -3.0, 2.0])
    assert accuracy.num_wrong(torch.tensor([4.0001, -3.0, 2.0]), reference, 1e-3) == 0
    assert accuracy.num_wrong(torch.tensor([4.0, 4.0, -3.0]), reference, 1e-3) == 1
    assert accuracy.num_wrong(torch.tensor([4.1, 3.0]), reference, 1e-3) == 3


def test_missing_eigenvalues_are_counted() -> None:
    complete = torch.tensor([4.0, 3.0, -3.0, 3.0, 2.0, 1.0])
    for given, missing in (
        ([4.0, 3.0, 3.0, -3.0], 0),
        ([4.0, 3.0, -3.0, 2.0], 1),  # one of two copies
        ([4.0, 3.0, 3.0, 2.0], 1),  # the other sign
        ([4.0, 3.0, 2.0, 1.0], 2),
        ([4.0, 3.0, -3.0, 2.9995], 0),  # a copy within the tolerance
        ([4.0], 0),  # nothing lies further out than the last given one
    ):
        assert num_missing(torch.tensor(given), complete, 1e-3) == missing, given


def test_the_reference_contains_all_copies() -> None:
    values = np.concatenate([np.full(9, 2.0), np.full(7, -1.9), np.linspace(-1.5, 1.5, 184)])
    reflection = np.eye(200) - 2 / 200
    matrix = reflection @ np.diag(values) @ reflection
    found = complete_eigenvalues(lambda v: matrix @ v, 200, 12)
    assert np.allclose(found[:16], values[:16], rtol=1e-4)


def test_operations_of_the_default_network() -> None:
    assert num_parameters(WIDTHS) == 118_282
    assert hvp_flop(WIDTHS, 1) == 2 * (2 * 784 * 128 + 6 * (128 * 128 + 128 * 10)) == 613_376
    assert hvp_flop(WIDTHS, 60_000) / 1e9 == pytest.approx(36.8, abs=0.05)
    assert gradient_flop(WIDTHS, 1) == 2 * (2 * 784 * 128 + 3 * (128 * 128 + 128 * 10))


def test_digits() -> None:
    few, many = digits(500), digits(9000)
    assert (many.images[:500] == few.images).all()
    assert many.images.shape == (9000, 28, 28)
    assert (many.labels[4000:8000] == many.labels[:4000]).all()
    assert len({image.tobytes() for image in many.images}) > 8990
    x = normalised(few.images)
    pixel = few.images.max()
    assert x.max() == pytest.approx((pixel / 255 - 0.1307) / 0.3081, rel=1e-6)


COUNTS = KernelCounts(
    step=Work(10), stacked_step=Work(12), product=Work(20), stacked_product=Work(18), primal=Work(10),
    gradient=Work(15), metrics=Work(5, 2), lanczos=Work(5, 2), stacked_lanczos=Work(4, 1), lanczos_of_each=Work(3, 0.5),
    checks=0.5, geometry=Work(50, 3),
)  # fmt: skip


def test_prediction_by_hand() -> None:
    """Compare with numbers computed by hand for a network 2→3, 4 rows and batches of 2.

    There are 3 grid points in stacks of 2 and 1. The rates are 1 operation and 2 bytes per second.
    """
    work = Workload(
        counts=COUNTS,
        grid_points=3,
        rows=4,
        test_rows=2,
        batch=2,
        epochs=5,
        widths=(2, 3),
        k=1,
        products=2,
        geometry_products=1.5,
    )
    a = Assumptions(
        peak_flops=2, flop_share=0.5, peak_bandwidth=4, bandwidth_share=0.5, kernel_eager=100, kernel_graph=10,
        wait_seconds=1000, check_seconds=7, parameter_accesses=1, input_accesses=1, unit_accesses=1, cached_per_unit=1,
        gram_schmidt_passes=1, rows_at_once=4, store_seconds=11,
    )  # fmt: skip
    found = h100.predict(work, a, models=1)
    # Step: 2·2·(2·2·3) = 48 operations; 4·(9 + 2·(2 + 3)) = 76 bytes: 38 s. Operations decide.
    assert found.fit == 5 * 2 * 3 * (10 * 10 + 48)
    # Product: 2·4·(2·2·3) = 96 operations; 4·4·(4 + 3) = 112 bytes: 56 s.
    assert found.products == 2 * 3 * (20 * 100 + 96)
    # Two gradients of 96 operations and 2·6·6 forward; 4·(8 + 6)·(4 + 3) = 392 bytes: 196 s.
    assert found.passes == 3 * (30 * 100 + 2 * 96 + 72 + 2 * 1000)
    # P = 9: 4·3·9 + 4·1·2·9 = 180 operations; 4·(2·3·9 + 2·3·9) = 432 bytes: 216 s.
    assert found.lanczos == 3 * (2 * 5 * 100 + 216 + 2 * 2 * 1000 + 2 * 0.5 * 7)
    assert found.geometry == 3 * (50 * 100 + 1.5 * 96 + 3 * 1000)
    # In stacks of 2 and 1 the rows come in 2 chunks and 1.
    stacked = h100.predict(work, a, models=2)
    assert stacked.fit == 5 * 2 * ((12 * 10 + 2 * 48) + (10 * 10 + 48))
    assert stacked.products == 2 * ((2 * 18 * 100 + 2 * 96) + (20 * 100 + 96))
    assert stacked.passes == (2 * 30 * 100 + 2 * (2 * 96 + 72) + 2000) + (30 * 100 + 2 * 96 + 72 + 2000)
    of_two = 2 * ((4 + 2 * 3) * 100 + (1 + 2 * 0.5) * 1000) + 2 * 216 + 2 * 2 * 0.5 * 7
    assert stacked.lanczos == of_two + found.lanczos / 3
    assert stacked.geometry == found.geometry
    assert found.storing == 33
    analyses = found.passes + found.products + found.lanczos + found.geometry
    assert found.total == max(found.fit, analyses)
    assert stacked.total == stacked.fit + stacked.passes + stacked.products + stacked.lanczos + stacked.geometry
    idle = h100.predict(work, replace(a, store_seconds=1e9), models=2)
    assert idle.total == idle.storing == 3e9
    assert h100.resident_gib(work, a, 2) * 2**30 == 4 * (8 + 2 * (4 * 3 + (2 + 3) * 9))


def test_the_chain_of_a_continuation_is_counted_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h100, "count_kernels", lambda *_: replace(COUNTS, step=Work(25)))
    *_, table = h100.run(Settings(epochs=22))
    rows = {(row["path"], row["G"], row["epochs"]): row for row in table.rows}
    assert rows["continuation", 1, 50]["sequential steps"] == 451 * 50 * 938
    assert rows["independent", 64, 22]["sequential steps"] == math.ceil(451 / 64) * 22 * 938
    low, high = map(float, str(rows["continuation", 1, 22]["total, min"]).split(" to "))
    assert 10 < low < high < 60
    assert all(h100.WARNING in title for title in (table.title, *(t.title for t in h100.run(Settings()))))


def test_the_checks_of_a_gpu_can_fail() -> None:
    assert gpu.Check("a number", float("nan"), 1.0).row()["result"] == "WRONG"
    assert gpu.Check("a number", 2.0, 1.0).row()["result"] == "WRONG"
    known, gap = np.array([3.0, 4.0]), np.array([3.0, np.nan])
    assert gpu.relative_difference(np.array([3.0, 5.0]), known) == pytest.approx(0.2)
    assert gpu.relative_difference(gap, known) == gpu.relative_difference(known, gap) == math.inf
    assert gpu.relative_difference(gap, gap) == 0


@pytest.mark.slow
def test_the_first_run_on_a_gpu_works_on_a_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(rows=120, hidden=HIDDEN, k=3, repeats=1)
    monkeypatch.setenv(ROWS_VARIABLE, "120")  # restored after the test
    monkeypatch.setattr(gpu, "STACKS", (1, 2))
    monkeypatch.setattr(gpu, "STEPS", 2)
    facts, checked, timed = gpu.run(settings)
    assert all("THIS DEVICE IS A CPU" in table.title for table in (facts, checked, timed))
    assert {"device", "versions", "numerics"} <= {row["group"] for row in facts.rows}
    assert len(checked.rows) == 9 + len(gpu.COMPARED)
    assert {row["result"] for row in checked.rows} == {"right"}
    assert [row["G"] for row in timed.rows] == [1, 2]
    assert all(min(float(value or 0) for value in row.values()) > 0 for row in timed.rows)
    monkeypatch.setattr(gpu, "MOST_SECONDS", 0)
    assert gpu.times(settings, (1,)).rows[0]["s per grid point"] is None


def test_tables_are_aligned() -> None:
    table = Table("title", [{"name": "a", "ms": 1.5, "n": 12345}, {"name": "bcd", "ms": None, "n": 2}], ["note"])
    assert table.text().splitlines() == [
        "title",
        "-----------------",
        "name   ms       n",
        "a     1.5  12,345",
        "bcd     –       2",
        "  · note",
    ]


def test_the_note_says_whether_peak_memory_is_flat() -> None:
    assert ": flat (" in curves.flatness([{"lambdas": 1, "peak, MiB": 1000.0}, {"lambdas": 8, "peak, MiB": 1040.0}])
    assert ": NOT flat (" in curves.flatness([{"lambdas": 1, "peak, MiB": 100.0}, {"lambdas": 8, "peak, MiB": 110.0}])


@pytest.mark.slow
def test_one_grid_point_and_the_time_shares_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(rows=ROWS, hidden=HIDDEN, k=3, repeats=1)
    monkeypatch.setenv(ROWS_VARIABLE, str(ROWS))  # restored after the test
    both, shares, codecs = end_to_end.run(settings)
    assert [row["result"] for row in both.rows] == ["right", "right"]
    assert sum(float(row["share"] or 0) for row in shares.rows) == pytest.approx(2)
    assert "3 of 3" in shares.notes[0]
    assert [row["result"] for row in codecs.rows] == ["right"] * 4


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h100, "count_kernels", lambda *_: COUNTS)
    file = tmp_path / "results.json"
    done = CliRunner().invoke(benchmark, ["h100", "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "NOTHING HERE WAS MEASURED ON A GPU" in done.stdout
    results = json.loads(file.read_text())
    assert set(results) == {"machine", "h100"}
    assert {"CPU", "threads", "torch"} <= set(results["machine"])
    assert {"table", "path", "G", "total, min"} <= set(results["h100"][-1])
    assert CliRunner().invoke(benchmark, ["nothing"]).exit_code == 2
    assert PARTS == (
        "floor",
        "product",
        "spectrum",
        "geometry",
        "overlap",
        "export",
        "step",
        "end-to-end",
        "curves",
        "h100",
    )
