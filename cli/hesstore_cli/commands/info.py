"""``hesstore info``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli.help_pages import Command
from hesstore_cli.options import store_argument
from hesstore_cli.terminal.amounts import counted, size
from hesstore_cli.terminal.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

    from hesstore.dataset.completeness import SpectrumSettings
    from hesstore.store.places.place import Place

ROWS = 8
"""Grid points of a run that are shown at most."""

OF_FITS = (0, 1, 2, 5)
"""The columns of the table of results that a store without spectra has."""

READ = (
    "status",
    "failure",
    "accuracy",
    "class_accuracy",
    "eigenvalues",
    "eigenvalue_bound",
    "converged",
    "epochs",
    "matvecs",
)


@click.command(cls=Command)
@store_argument
@click.option(
    "--provenance",
    is_flag=True,
    help="Show the origin instead: config, data, versions, commit, machine, threads and switches.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object, for programs.")
def info(store: str, *, provenance: bool, as_json: bool) -> None:
    """Show the contents of STORE: config, runs and results.

    The output shows the config, the sizes, how many grid points of each run are complete, how complete their spectra
    are, and the results at some of them.

    \b
    Examples:
      hesstore info quickstart.zarr
      hesstore info quickstart.zarr --provenance
    """
    import hesstore
    from hesstore.store.places.location import locate
    from hesstore_cli.terminal import provenance as provenance_text

    place = locate(store)
    facts = describe(hesstore.open(place, chunked=False, check=True), place)
    if as_json:
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
    else:
        click.echo(provenance_text.as_text(facts) if provenance else as_text(facts))


def describe(ds: xr.Dataset, place: Place) -> dict[str, Any]:
    """Return the facts of ``hesstore info --json``."""
    from hesstore.store.decoding import decoding
    from hesstore.store.environments import environments
    from hesstore.store.import_origin import origin_of

    known, config = environments(place, ds.attrs), json.loads(ds.attrs["config"])
    sizes = {str(name): int(length) for name, length in ds.sizes.items()}
    with decoding(str(place)):
        small = ds[[name for name in READ if name in ds]].load()  # other variables have a file per grid point
    return {
        "path": str(place),
        "bytes": place.size(),
        "schema_version": ds.attrs["schema_version"],
        "fingerprint": ds.attrs["fingerprint"],
        "config": config,
        "imported": origin_of(ds.attrs).files or None,
        "conversions": list(origin_of(ds.attrs).conversions),
        "data_digest": json.loads(ds.attrs["identity"])["data_digest"],
        "environment": known[0],
        "environments": known,
        "sizes": sizes,
        "runs": [_run_facts(small.isel(run=position)) for position in range(sizes["run"])],
    }


def _run_facts(run: xr.Dataset) -> dict[str, Any]:
    """Return the facts of one run: its grid points by status, and the results at some of the complete ones."""
    import numpy as np

    from hesstore.analysis.selection import evenly_spaced
    from hesstore.dataset.completeness import SpectrumSettings
    from hesstore.store.schema import AXIS, Status

    settings = SpectrumSettings.of(run.attrs)
    summary = settings.summary(settings.spectra(run)) if settings else None
    status = run["status"].values
    complete = np.flatnonzero(status == Status.COMPLETE)
    return {
        "run": int(run["run"]),
        "seed": int(run["seed"]),
        "direction": str(run["direction"].values),
        **{each.name.lower(): int((status == each).sum()) for each in Status},
        "failures": {
            f"{float(run[AXIS][index]):.10g}": str(run["failure"].values[index])
            for index in np.flatnonzero(status == Status.FAILED)
        },
        "spectra": summary.facts() if summary else None,
        "results": [
            _result(run.isel({AXIS: int(index)}), settings) for index in complete[evenly_spaced(len(complete), ROWS)]
        ],
    }


def _result(point: xr.Dataset, settings: SpectrumSettings | None) -> dict[str, Any]:
    """Return the results at a complete grid point; an import may lack some of them."""
    from hesstore.dataset.progress import worst_class
    from hesstore.store.schema import AXIS

    label, accuracy = worst_class(point["class_accuracy"].sel(split="test").values) or (None, None)
    return {
        "l2": float(point[AXIS]),
        "test_accuracy": _finite(float(point["accuracy"].sel(split="test"))),
        "worst_class": label,
        "worst_class_accuracy": accuracy,
        "epochs": int(point["epochs"]),
        **(_spectrum(point, settings) if "eigenvalues" in point else {}),
    }


def _spectrum(point: xr.Dataset, settings: SpectrumSettings | None) -> dict[str, Any]:
    """Return the facts about the spectrum of a grid point."""
    bound = float(point["eigenvalue_bound"])
    spectrum = settings.completeness(point["eigenvalues"].values, bound) if settings else None
    return {
        "top_eigenvalue": _finite(float(point["eigenvalues"][0])),
        "eigenvalue_bound": _finite(bound),
        "complete_to": spectrum.fraction if spectrum else None,
        "spectrum": spectrum.text if spectrum else None,
        "converged": int((point["converged"] == 1).sum()),
        "matvecs": int(point["matvecs"]),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_text(facts: dict[str, Any]) -> str:
    """Return the facts as ``hesstore info`` prints them."""
    sizes = facts["sizes"]
    shape = f"{counted(sizes['run'], 'run')} × {counted(sizes['l2'], 'grid point')}"
    modes = sizes.get("mode", 0)
    contents = [f"{sizes['param']:,} parameters"] if "param" in sizes else []  # a pack may lack them
    pairs = " of ".join([f"{modes} eigenpairs", *contents] if modes else contents or ["without vectors"])
    settings = ", ".join(f"{key}={value}" for key, value in facts["config"].items() if value != "")
    lines = [
        f"{facts['path']}: {shape}, {pairs}, {size(facts['bytes'])}",
        f"config {facts['fingerprint'][:12]}: {settings}",
    ]
    if facts["imported"]:
        lines.append(f"imported from {facts['imported']} files")
    for run in facts["runs"]:
        lines += ["", *_run_lines(run, modes)]
    if not modes:
        lines += ["", "no spectra: made without analyses (k = 0); `hesstore sweep … --k 30 --grow` adds them"]
    return "\n".join(lines)


def _run_lines(run: dict[str, Any], modes: int) -> Iterator[str]:
    states = ", ".join(f"{run[name]} {name}" for name in ("complete", "fitted", "pending", "failed") if run[name])
    yield f"run {run['run']} (seed {run['seed']}, {run['direction']}): {states}"
    for l2, reason in run["failures"].items():
        yield f"  λ = {l2} failed: {reason}"
    if not run["results"]:
        return
    if run["spectra"]:
        yield f"  {run['spectra']['text']}"
    if len(run["results"]) < run["complete"]:
        yield f"  {len(run['results'])} of {run['complete']} complete grid points:"
    headings = ("λ", "test accuracy", "worst class", "μ₁ (nat)", "converged", "epochs", "products", "spectrum")
    shown = range(len(headings)) if modes else OF_FITS
    rows = [[_row(result, modes)[column] for column in shown] for result in run["results"]]
    align = "".join(">><>>>><"[column] for column in shown)
    for line in table([headings[column] for column in shown], rows, align=align):
        yield f"  {line}"


def _row(result: dict[str, Any], modes: int) -> tuple[str, ...]:
    label = result["worst_class"]
    return (
        f"{result['l2']:.10g}",
        _text(result["test_accuracy"], ".3f"),
        "–" if label is None else f"{label}: {result['worst_class_accuracy']:.3f}",
        _text(result.get("top_eigenvalue"), ".4g"),
        f"{result.get('converged')}/{modes}",
        str(result["epochs"]),
        str(result.get("matvecs")),
        result.get("spectrum") or "–",
    )


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
