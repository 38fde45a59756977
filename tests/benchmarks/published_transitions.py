"""Transitions in the tables that the authors of arXiv 2512.11866 publish, by the package's own analyses.

The tables are in the repository ``andresfernando-git/Neural-Network-paper``; they are not part of this project::

    python -m tests.benchmarks.published_transitions "lr=0.0015_1_split_accuracies.csv" "lr=0.0015_2.csv"

A table has one row per λ: ``L2_strength``, ``Train_Loss``, ``Test_Loss``, ``Test_Accuracy`` in percent, ``r0`` = ‖θ‖,
and in some ``Class_0_Accuracy`` to ``Class_9_Accuracy`` in percent. Several tables are taken as seeds of one sweep.
"""

from __future__ import annotations

import csv
from pathlib import Path

import click
import numpy as np
import xarray as xr

from hesstore import analysis
from hesstore.analysis.change_points import THRESHOLD
from hesstore.config.l2_grid import AXIS
from hesstore.store.schema import SPLITS, Status
from hesstore_cli.commands.transitions import lines

CLASSES = 10


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("tables", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--threshold", default=THRESHOLD, show_default=True, help="Smallest strength of a transition.")
@click.option("--every", default=1, show_default=True, type=click.IntRange(1), help="Use one row of so many.")
def published_transitions(tables: tuple[Path, ...], threshold: float, every: int) -> None:
    """Print the transitions of TABLES, and where classes are lost, as `hesstore transitions` does."""
    ds = xr.concat(
        [read_table(path, seed) for seed, path in enumerate(tables)],
        "run",
        join="outer",
        fill_value={"status": Status.PENDING},
    )
    ds = ds.isel({AXIS: slice(None, None, every)})
    found = analysis.transitions(ds, threshold=threshold)
    has_classes = bool(np.isfinite(ds["class_accuracy"]).any())
    losses = analysis.lost_classes(ds, "class_accuracy") if has_classes else None
    click.echo("\n".join(lines(ds, found, losses, threshold)))


def read_table(path: Path, seed: int) -> xr.Dataset:
    """Return a table as a store of one run; empty cells are NaN, and a class whose column is missing is."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> list[float]:
        return [float(row.get(name) or "nan") for row in rows]

    accuracies = np.array([column(f"Class_{label}_Accuracy") for label in range(CLASSES)]).T / 100
    missing = np.full_like(accuracies, np.nan)
    variables = {
        "status": np.full(len(rows), Status.COMPLETE, np.int8),
        "weights_norm": np.array(column("r0")),
        "loss": np.array([column("Train_Loss"), column("Test_Loss")]).T,
        "class_accuracy": np.stack([missing, accuracies], axis=1),
    }
    dims = ("run", AXIS, "split", "label")
    coords = {
        "run": [seed],
        AXIS: column("L2_strength"),
        "split": list(SPLITS),
        "label": range(CLASSES),
        "seed": ("run", [seed]),
        "direction": ("run", np.array(["up"], object)),
    }
    return xr.Dataset({name: (dims[: values.ndim + 1], values[None]) for name, values in variables.items()}, coords)


if __name__ == "__main__":
    published_transitions()
