"""One Hessian product with the networks of ``docs/examples/images32.py``, by hesstore and by other packages.

Run ``python -m tests.benchmarks.large_networks NAME --rows N``. It prints CPU seconds, because other work on the
machine changes them less than the time that passes. All products are computed in turn in one process with one thread.
``--top K`` adds the top K with the bound on other eigenvalues, and the number of products of ARPACK's ``eigsh``.
``--plan`` adds the seconds until ``hesstore analyse`` prints its plan, with all cores.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import hesstore
from hesstore.linalg import as_scipy
from tests.benchmarks.hessian_products import Product, optional_package
from tests.benchmarks.machine import peak_resident_mib
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 250
"""Number of rows in a batch of the other packages."""


def products(model: nn.Module, x: Tensor, y: Tensor, memory_gib: float) -> dict[str, Product]:
    """The map v ↦ H v of each package."""
    curvlinops, eigenthings = optional_package("curvlinops"), optional_package("hessian_eigenthings")
    batches = list(zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True))
    loss = eigenthings.supervised_loss(nn.functional.cross_entropy)
    other = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), batches, check_deterministic=False
    )
    return {
        "hesstore": hesstore.Hessian(model, x, y, memory_gib=memory_gib).matvec,
        "hessian-eigenthings": eigenthings.HessianOperator(model, batches, loss).matvec,
        "curvlinops": lambda v: (other @ v).detach(),
    }


def network(name: str, rows: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of ``images32`` in eval mode, after one call that sets running statistics, with its rows."""
    spec = importlib.util.spec_from_file_location("images32", ROOT / "docs" / "examples" / "images32.py")
    assert spec is not None
    assert spec.loader is not None
    images32: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(images32)
    x, y, *_ = (torch.from_numpy(part)[:rows] for part in images32.load())
    torch.manual_seed(0)
    model: nn.Module = getattr(images32, name)((3, 32, 32), 10)
    model(x[:64])
    return model.eval(), x, y


@click.command()
@click.argument("name", type=click.Choice(["resnet18", "transformer"]))
@click.option("--rows", default=2000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--memory-gib", default=1.0, show_default=True)
@click.option("--top", default=0, help="Number of eigenpairs to find, too.  [default: none]")
@click.option("--slack", default=3e-3, show_default=True, help="Width of the bound; inf for none.")
@click.option("--plan", is_flag=True, help="Measure the time until the plan, too.")
def main(name: str, rows: int, rounds: int, memory_gib: float, top: int, *, slack: float, plan: bool) -> None:
    """Print the CPU seconds of one product by each package, the best of some rounds.

    Before that, it prints the time and the memory that hesstore took with checks, tracing and cached values.
    """
    torch.set_num_threads(1)
    model, x, y = network(name, rows)
    if plan:
        print_seconds_to_plan(name, model, rows, memory_gib)
    if top:
        print_top(model, x, y, top, memory_gib, slack)
    v = torch.randn(sum(part.numel() for part in model.parameters()))
    seconds: dict[str, list[float]] = {}
    results: dict[str, Tensor] = {}
    with sdpa_kernel(SDPBackend.MATH):  # hessian-eigenthings differentiates no fused attention twice
        began = time.process_time()
        makers = products(model, x, y, memory_gib)
        makers["hesstore"](v)  # traces and caches
        prepared = time.process_time() - began
        sys.stdout.write(f"hesstore to the end of its first product: {prepared:.1f} s, {peak_resident_mib():.0f} MiB\n")
        for _ in range(rounds):
            for package, product in makers.items():
                began = time.process_time()
                results[package] = product(v)
                seconds.setdefault(package, []).append(time.process_time() - began)
    first = results["hesstore"]
    for package, times in seconds.items():
        difference = float((results[package] - first).norm() / first.norm())
        sys.stdout.write(f"{package:20} {min(times):8.2f} s  differs by {difference:.1e}\n")


def print_top(model: nn.Module, x: Tensor, y: Tensor, top: int, memory_gib: float, slack: float) -> None:
    """Print CPU seconds, memory, products and eigenvalues of the ``top`` eigenpairs, to a relative residual of 10⁻³."""
    began = time.process_time()
    pairs = hesstore.top_eigenpairs(model, x, y, k=top, memory_gib=memory_gib, slack=slack)
    took = time.process_time() - began
    values = " ".join(f"{value:.5g}" for value in pairs.eigenvalues)
    sys.stdout.write(f"top {top}: {took:.0f} s, {peak_resident_mib():.0f} MiB, {pairs.message}: {values}\n")
    hessian = hesstore.Hessian(model, x, y, memory_gib=memory_gib)
    start = np.random.default_rng(0).standard_normal(hessian.size).astype(np.float32)
    found = eigsh(as_scipy(hessian), top, which="LM", tol=1e-3, v0=start)[0]
    values = " ".join(f"{value:.5g}" for value in sorted(found, key=abs, reverse=True))
    sys.stdout.write(f"eigsh, with no bound on others: {hessian.num_matvecs} products: {values}\n")


def print_seconds_to_plan(name: str, model: nn.Module, rows: int, memory_gib: float) -> None:
    """Print the seconds from the start of ``hesstore analyse`` to the last line of its plan."""
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder, f"{name}.pth")
        torch.save(model.state_dict(), checkpoint)
        settings = ["--k", "5", "--lowest", "0", "--response", "0", "--probes", "0", "--memory-gib", str(memory_gib)]
        source = ["--model", f"images32:{name}", "--dataset", "images32:load", *settings]
        command = [sys.executable, "-m", "hesstore", "analyse", str(checkpoint), "-o", f"{folder}/s.zarr", *source]
        paths = os.pathsep.join([str(ROOT / "docs" / "examples"), os.environ.get("PYTHONPATH", "")])
        began = time.perf_counter()
        with Popen(
            command, env={**os.environ, "PYTHONPATH": paths, "IMAGES_ROWS": str(rows)}, stderr=PIPE, text=True
        ) as process:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "measured here" in line)
            took = time.perf_counter() - began
            process.kill()
    sys.stdout.write(f"seconds to the plan: {took:.1f} ({line.strip()})\n")


if __name__ == "__main__":
    main()
