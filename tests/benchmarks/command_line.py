"""The command line: which parts to run, tables on stdout, progress on stderr, JSON in a file.

Parts are imported when they run: the number of threads has to be set before NumPy and PyTorch are loaded.
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
DISTURBED = 0.05
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS, "all"]))
@click.option("--rows", default=8000, show_default=True, type=click.IntRange(100), help="Training digits.")
@click.option(
    "--lambdas",
    default=8,
    show_default=True,
    type=click.IntRange(2),
    help="Most λ of a curve, the overlap map, an export.",
)
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Rounds over the contestants.")
@click.option("--epochs", default=12, show_default=True, type=click.IntRange(1), help="h100: mean epochs at a λ.")
@click.option("--skip-original", is_flag=True, help="Leave out the slow DataLoader method where it takes minutes.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--threads", default=0, type=click.IntRange(0), help="PyTorch's threads; 0 leaves them alone.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all rows here too.")
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
    """Measure PARTS (all of them by default).

    Floor: this machine's matrix products, and the least time that a Hessian product can take. Product, spectrum, step,
    end-to-end: hesstore against the alternatives. Curves: time and memory as the problem grows. H100: a prediction.

    Every result is checked before its time counts; one that fails is printed as wrong, without a time.
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
    facts = machine(settings)
    click.echo(machine_line(facts))
    chosen = PARTS if not parts or "all" in parts else tuple(dict.fromkeys(parts))
    results: dict[str, list[Table]] = {}
    for part in chosen:
        results[part], facts[f"others during {part}"] = undisturbed(part, settings)
        if json_file is not None:  # after each part: a later one may fail
            json_file.write_text(as_json(facts, results), encoding="utf-8")


def set_threads(threads: int) -> None:
    """PyTorch's threads if given, and one for the BLAS of NumPy and SciPy unless the environment has its own wish.

    Idle threads of OpenBLAS spin for a while. On two cores that makes ``eigsh`` with products by PyTorch three times as
    slow; hesstore's own solver does not use them. So this is to the benefit of the others.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in THREAD_VARIABLES if threads else ():
        os.environ[name] = str(threads)


def machine(settings: Settings) -> Facts:
    """Set the number of threads; what was measured on."""
    import torch  # noqa: PLC0415 - after the thread variables

    from tests.benchmarks.machine import describe  # noqa: PLC0415 - imports PyTorch

    if settings.threads:
        torch.set_num_threads(settings.threads)
    return describe(torch.device(settings.device))


def undisturbed(part: str, settings: Settings) -> tuple[list[Table], str]:
    """The tables of a part, and how much of the cores other processes used meanwhile; says so if it is much."""
    from tests.benchmarks.machine import busy_seconds_of_others  # noqa: PLC0415 - imports PyTorch

    began, before = time.perf_counter(), busy_seconds_of_others()
    tables = run_part(part, settings)
    cores = len(os.sched_getaffinity(0))
    share = max(0.0, busy_seconds_of_others() - before) / (time.perf_counter() - began) / cores
    if share > DISTURBED:
        click.echo(f"  ! other processes used {share:.0%} of the cores during {part}: do not trust its times")
    return tables, f"{share:.0%} of the cores"


def run_part(part: str, settings: Settings) -> list[Table]:
    """Measure one part and print its tables as they come."""
    progress(f"{part} …")
    tables: list[Table] = []
    for table in importlib.import_module(f"tests.benchmarks.{part.replace('-', '_')}").run(settings):
        click.echo(f"\n{table.text()}")
        tables.append(table)
    return tables


def as_json(facts: Facts, results: dict[str, list[Table]]) -> str:
    """``{"machine": facts, part: rows}``; each row names its table."""
    rows = {
        part: [{"table": table.title, **row} for table in tables for row in table.rows]
        for part, tables in results.items()
    }
    return json.dumps({"machine": facts, **rows}, indent=1, ensure_ascii=False) + "\n"
