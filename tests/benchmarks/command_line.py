"""The command line of the benchmarks. It prints tables to stdout and progress to stderr, and can write JSON.

Each part is imported when it runs, because the number of threads must be set before NumPy and PyTorch are loaded.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tests.benchmarks.benchmark_settings import Settings
from tests.benchmarks.result_tables import Table, machine_line, progress

if TYPE_CHECKING:
    from tests.benchmarks.result_tables import Facts

PARTS = ("floor", "product", "spectrum", "geometry", "overlap", "export", "step", "end-to-end", "curves", "h100")
ON_REQUEST = ("gpu",)
"""The parts that are measured only if they are named."""

DISTURBED = 0.05
"""The share of the cores used by other processes above which times are not to be trusted."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS, *ON_REQUEST, "all"]), metavar="[PARTS]...")
@click.option("--rows", default=8000, show_default=True, type=click.IntRange(100), help="Number of training digits.")
@click.option(
    "--lambdas",
    default=8,
    show_default=True,
    type=click.IntRange(2),
    help="Largest number of grid points of a curve, the overlap map or an export.",
)
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Number of timed rounds.")
@click.option(
    "--epochs",
    default=9,
    show_default=True,
    type=click.IntRange(1),
    help="h100: mean epochs per grid point.",
)
@click.option("--skip-original", is_flag=True, help="Leave out the original method where it takes minutes.")
@click.option("--device", default="cpu", show_default=True, help="PyTorch device: cpu, cuda or cuda:N.")
@click.option("--threads", default=0, type=click.IntRange(0), help="PyTorch threads; 0 keeps PyTorch's default.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the rows to this file.",
)
def benchmark(
    parts: tuple[str, ...],
    rows: int,
    lambdas: int,
    repeats: int,
    epochs: int,
    device: str,
    threads: int,
    json_file: Path | None,
    *,
    skip_original: bool,
) -> None:
    """Measure PARTS, or all of these parts but the last in this order if none are given.

    Every result is checked before its time counts. A result that fails its check is printed as WRONG, without a time.

    \b
    floor       the rate of matrix products, and the shortest time for a
                Hessian product that follows from it
    product     one Hessian product: hesstore against other tools
    spectrum    the largest eigenpairs: hesstore against other tools
    geometry    the cost of class geometry, in Hessian products
    overlap     the overlap map of all pairs of grid points
    export      eigenvectors as CSV: hesstore against other writers
    step        one training step: hesstore against plain PyTorch loops
    end-to-end  one grid point from initial weights to CSV files
    curves      time and memory of a sweep as the problem grows
    h100        a prediction for an NVIDIA H100, without any measurement
    gpu         the first run on a GPU, with --device cuda: checks against
                the CPU in float64, then times
    """
    set_threads(threads)
    settings = Settings(
        rows=rows,
        lambdas=lambdas,
        repeats=repeats,
        epochs=epochs,
        skip_original=skip_original,
        device=device,
        threads=threads,
    )
    facts = prepare_machine(settings)
    click.echo(machine_line(facts))
    chosen = PARTS if not parts or "all" in parts else tuple(dict.fromkeys(parts))
    results: dict[str, list[Table]] = {}
    for part in chosen:
        results[part], facts[f"other processes during {part}"] = run_monitored(part, settings)
        if json_file is not None:  # written after each part, because a later one may fail
            json_file.write_text(as_json(facts, results), encoding="utf-8")


def set_threads(threads: int) -> None:
    """Set the number of PyTorch threads if it is given, and one OpenBLAS thread unless the environment sets a number.

    Idle OpenBLAS threads spin for a while. On two cores, this makes ``eigsh`` with PyTorch products three times as
    slow, while hesstore's solver does not use OpenBLAS. The single thread thus helps the other tools.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in THREAD_VARIABLES if threads else ():
        os.environ[name] = str(threads)


def prepare_machine(settings: Settings) -> Facts:
    """Set the number of threads of this process, and return a description of the machine."""
    import torch  # noqa: PLC0415 - after the thread variables

    from tests.benchmarks.machine import describe  # noqa: PLC0415 - imports PyTorch

    if settings.threads:
        torch.set_num_threads(settings.threads)
    return describe(torch.device(settings.device))


def run_monitored(part: str, settings: Settings) -> tuple[list[Table], str]:
    """Run a part, and warn if other processes use a large share of the cores meanwhile.

    Returns
    -------
    tuple
        The tables of the part, and the share of the cores that other processes used, as text.
    """
    from tests.benchmarks.machine import busy_seconds_of_others  # noqa: PLC0415 - imports PyTorch

    began, before = time.perf_counter(), busy_seconds_of_others()
    tables = run_part(part, settings)
    cores = len(os.sched_getaffinity(0))
    share = max(0.0, busy_seconds_of_others() - before) / (time.perf_counter() - began) / cores
    if share > DISTURBED:
        click.echo(
            f"  ! other processes used {share:.0%} of the cores during {part}; its times are unreliable, run it again"
        )
    return tables, f"{share:.0%} of the cores"


def run_part(part: str, settings: Settings) -> list[Table]:
    """Measure one part, and print each of its tables as soon as it is finished."""
    progress(f"{part} …")
    tables: list[Table] = []
    for table in importlib.import_module(f"tests.benchmarks.{part.replace('-', '_')}").run(settings):
        click.echo(f"\n{table.text()}")
        tables.append(table)
    return tables


def as_json(facts: Facts, results: dict[str, list[Table]]) -> str:
    """Return ``{"machine": facts, part: rows, …}`` as JSON; each row names its table."""
    rows = {
        part: [{"table": table.title, **row} for table in tables for row in table.rows]
        for part, tables in results.items()
    }
    return json.dumps({"machine": facts, **rows}, indent=1, ensure_ascii=False) + "\n"
