"""``hesstore info``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli.options import store_argument
from hesstore_cli.terminal.amounts import size

if TYPE_CHECKING:
    import xarray as xr

    from hesstore.store.places.base import Place

ROWS = 8
SHOWN = ("status", "failure", "accuracy", "class_accuracy", "eigenvalues", "converged", "epochs", "matvecs")


@click.command()
@store_argument
@click.option(
    "--provenance",
    is_flag=True,
    help="Where it comes from instead: config, data, versions, commit, machine, threads, switches.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all of it, for programs.")
def info(store: str, *, provenance: bool, as_json: bool) -> None:
    """Say what STORE holds: config, progress by run, sizes, and results at a few λ.

    \b
    Examples:
      hesstore info quickstart.zarr
      hesstore info quickstart.zarr --provenance
    """
    import hesstore
    from hesstore.store.places.location import locate
    from hesstore_cli.terminal import provenance as of_store

    place = locate(store)
    facts = describe(hesstore.open(place), place)
    if as_json:
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
    else:
        click.echo(of_store.as_text(facts) if provenance else as_text(facts))


def describe(ds: xr.Dataset, place: Place) -> dict[str, Any]:
    """The facts of ``hesstore info --json``."""
    import numpy as np

    from hesstore.errors import CorruptStoreError
    from hesstore.store.environments import environments
    from hesstore.store.origin import origin_of
    from hesstore.store.schema import Status

    known = environments(place, ds.attrs)
    sizes = {str(name): int(length) for name, length in ds.sizes.items()}
    try:
        ds = ds[[*SHOWN]].load()  # some others have a file a λ
    except (ValueError, RuntimeError) as error:
        raise CorruptStoreError(f"{place}: {error}") from error
    status = ds["status"].values
    runs = []
    for position, run in enumerate(ds["run"].values):
        at = status[position]
        complete = np.flatnonzero(at == Status.COMPLETE)
        chosen = (
            complete[np.unique(np.linspace(0, len(complete) - 1, ROWS).round().astype(int))] if len(complete) else []
        )
        part = ds.isel(run=position)
        runs.append(
            {
                "run": int(run),
                "seed": int(part["seed"]),
                "direction": str(part["direction"].values),
                **{s.name.lower(): int((at == s).sum()) for s in Status},
                "failures": {
                    f"{float(part['l2'][i]):.10g}": str(part["failure"].values[i])
                    for i in np.flatnonzero(at == Status.FAILED)
                },
                "results": [_result(part.isel(l2=int(index))) for index in chosen],
            }
        )
    return {
        "path": str(place),
        "bytes": place.size(),
        "schema_version": ds.attrs["schema_version"],
        "fingerprint": ds.attrs["fingerprint"],
        "config": json.loads(ds.attrs["config"]),
        "imported": origin_of(ds.attrs).files or None,
        "data_digest": json.loads(ds.attrs["identity"])["data_digest"],
        "environment": known[0],
        "environments": known,
        "sizes": sizes,
        "runs": runs,
    }


def _result(cell: xr.Dataset) -> dict[str, Any]:
    import numpy as np

    classes = cell["class_accuracy"].sel(split="test").values
    known = bool(np.isfinite(classes).any())  # an import may lack them
    return {
        "l2": float(cell["l2"]),
        "test_accuracy": _finite(float(cell["accuracy"].sel(split="test"))),
        "worst_class": int(cell["label"][int(np.nanargmin(classes))]) if known else None,
        "worst_class_accuracy": float(np.nanmin(classes)) if known else None,
        "top_eigenvalue": _finite(float(cell["eigenvalues"][0])),
        "converged": int((cell["converged"] == 1).sum()),
        "epochs": int(cell["epochs"]),
        "matvecs": int(cell["matvecs"]),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def as_text(facts: dict[str, Any]) -> str:
    """The facts for people."""
    sizes = facts["sizes"]
    runs = f"{sizes['run']} run{'s' * (sizes['run'] != 1)}"
    shape = f"{runs} × {sizes['l2']} λ, {sizes['mode']} eigenpairs of {sizes['param']:,} parameters"
    settings = ", ".join(f"{key}={value}" for key, value in facts["config"].items() if value != "")
    lines = [
        f"{facts['path']}: {shape}, {size(facts['bytes'])}",
        f"config {facts['fingerprint'][:12]}: {settings}",
    ]
    if facts["imported"]:
        lines.append(f"imported from {facts['imported']} files")
    for run in facts["runs"]:
        states = ", ".join(f"{run[name]} {name}" for name in ("complete", "fitted", "pending", "failed") if run[name])
        lines += ["", f"run {run['run']} (seed {run['seed']}, {run['direction']}): {states}"]
        lines += [f"  λ = {l2} failed: {reason}" for l2, reason in run["failures"].items()]
        if run["results"]:
            lines.append("         λ  test acc.  worst class     μ₁ (nat)  converged  epochs  products")
        if len(run["results"]) < run["complete"]:
            lines.append(f"  ({len(run['results'])} of {run['complete']} complete λ are shown)")
        for row in run["results"]:
            worst = "–" if row["worst_class"] is None else f"{row['worst_class']:>3}: {row['worst_class_accuracy']:.3f}"
            lines.append(
                f"{row['l2']:>10.10g}  {_text(row['test_accuracy'], '.3f'):>9}  {worst:<10}   "
                f"{_text(row['top_eigenvalue'], '.4g'):>12}  {row['converged']:>4}/{sizes['mode']:<4}  "
                f"{row['epochs']:>6}  {row['matvecs']:>8}"
            )
    return "\n".join(lines)
