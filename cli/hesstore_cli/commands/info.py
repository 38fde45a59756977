"""``hesstore info``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from hesstore.config.l2_grid import AXIS, axis_symbol, value_text
from hesstore.errors import size_text
from hesstore_cli.help_pages import Command
from hesstore_cli.options import store_argument
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.config_text import config_lines
from hesstore_cli.terminal.tables import table
from hesstore_cli.terminal.widths import fitted, width

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

    from hesstore.dataset.completeness import SpectrumSettings
    from hesstore.store.places.place import Place

ROWS = 8
"""Grid points of a run that are shown at most, without --all."""

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
@click.option("--all", "show_all", is_flag=True, help="Show the results at all grid points instead of at eight.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object, for programs.")
def info(store: str, *, provenance: bool, show_all: bool, as_json: bool) -> None:
    """Show the contents of STORE: config, runs and results.

    The output shows the sizes, the settings that have an effect, the arrays of the network, how many grid points of
    each run are complete, how complete their spectra are, and the results at some of them.

    \b
    Examples:
      hesstore info quickstart.zarr
      hesstore info quickstart.zarr --all
      hesstore info quickstart.zarr --provenance
    """
    import hesstore
    from hesstore.store.places.location import locate
    from hesstore_cli.terminal import provenance as provenance_text

    place = locate(store)
    facts = describe(hesstore.open(place, chunked=False, check=True), place, None if show_all else ROWS)
    if as_json:
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
    else:
        lines = provenance_text.lines(facts) if provenance else lines_of(facts, width())
        for line in lines:
            click.echo(fitted(line))


def describe(ds: xr.Dataset, place: Place, rows: int | None = ROWS) -> dict[str, Any]:
    """Return the facts of ``hesstore info --json``, with the results at ``rows`` grid points of each run, or at all."""
    from hesstore.store.decoding import decoding
    from hesstore.store.environments import environments
    from hesstore.store.import_origin import origin_of
    from hesstore.store.schema import axis_of

    known = environments(place, ds.attrs)
    config, identity = (json.loads(ds.attrs[name]) for name in ("config", "identity"))
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
        "data_digest": identity["data_digest"],
        "environment": known[0],
        "environments": known,
        "axis": axis_of(ds),
        "sizes": sizes,
        "parameters": identity["parameters"],
        "runs": [_run_facts(small.isel(run=position), rows) for position in range(sizes["run"])],
    }


def _run_facts(run: xr.Dataset, rows: int | None) -> dict[str, Any]:
    """Return the facts of one run: its grid points by status, and the results at some of the complete ones."""
    import numpy as np

    from hesstore.analysis.selection import evenly_spaced
    from hesstore.dataset.completeness import SpectrumSettings
    from hesstore.store.schema import Status, axis_of

    axis, settings = axis_of(run), SpectrumSettings.of(run.attrs)
    summary = settings.summary(settings.spectra(run)) if settings else None
    status = run["status"].values
    complete = np.flatnonzero(status == Status.COMPLETE)
    shown = evenly_spaced(len(complete), len(complete) if rows is None else rows)
    return {
        "run": int(run["run"]),
        "seed": int(run["seed"]),
        "direction": str(run["direction"].values),
        **{each.name.lower(): int((status == each).sum()) for each in Status},
        "failures": {
            f"{float(run[axis][index]):.10g}": str(run["failure"].values[index])
            for index in np.flatnonzero(status == Status.FAILED)
        },
        "spectra": summary.facts() if summary else None,
        "results": [_result(run.isel({axis: int(index)}), settings) for index in complete[shown]],
    }


def _result(point: xr.Dataset, settings: SpectrumSettings | None) -> dict[str, Any]:
    """Return the results at a complete grid point; an import may lack some of them."""
    from hesstore.dataset.class_accuracy import worst_class
    from hesstore.store.schema import axis_of

    axis = axis_of(point)
    label, accuracy = worst_class(point["class_accuracy"].sel(split="test").values) or (None, None)
    return {
        axis: float(point[axis]),
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


def lines_of(facts: dict[str, Any], columns: int) -> Iterator[str]:
    """Yield the lines of ``hesstore info``; tables fit ``columns``, other lines may be longer."""
    from hesstore.store.variable import CROSS_ENTROPY

    sizes = facts["sizes"]
    shape = f"{counted(sizes['run'], 'run')} × {counted(sizes[facts['axis']], 'grid point')}"
    modes = sizes.get("mode", 0)
    contents = [f"{sizes['param']:,} parameters"] if "param" in sizes else []  # a pack may lack them
    pairs = " of ".join([f"{modes} eigenpairs", *contents] if modes else contents or ["without vectors"])
    bytes_text = "" if facts["bytes"] is None else f", {size_text(facts['bytes'])}"
    yield f"{facts['path']}: {shape}, {pairs}{bytes_text}"
    yield f"config {facts['fingerprint'][:12]}"
    yield from config_lines(facts["config"], facts["parameters"])
    if facts["imported"]:
        yield f"imported from {facts['imported']} files"
    for run in facts["runs"]:
        yield ""
        unit = " (nat)" if facts["config"].get("loss", CROSS_ENTROPY) == CROSS_ENTROPY else ""
        yield from _run_lines(run, facts["axis"], modes, columns, unit)
    if not modes:
        command = f"sweep {facts['path']}" if facts["axis"] == AXIS else f"analyse … -o {facts['path']}"
        yield ""
        yield f"no spectra: made without analyses (k = 0); `hesstore {command} --k 30 --grow` adds them"


def _run_lines(run: dict[str, Any], axis: str, modes: int, columns: int, unit: str) -> Iterator[str]:
    states = ", ".join(f"{run[name]} {name}" for name in ("complete", "fitted", "pending", "failed") if run[name])
    yield f"run {run['run']} (seed {run['seed']}, {run['direction']}): {states}"
    for value, reason in run["failures"].items():
        yield f"  {value_text(axis, float(value))} failed: {reason}"
    if not run["results"]:
        return
    if run["spectra"]:
        yield f"  {run['spectra']['text']}"
    if len(run["results"]) < run["complete"]:
        yield f"  {len(run['results'])} of {run['complete']} complete grid points (--all shows all):"
    headings = (
        axis_symbol(axis),
        "test accuracy",
        "worst class",
        f"μ₁{unit}",
        "converged",
        "epochs",
        "products",
        "spectrum",
    )
    shown = range(len(headings)) if modes else OF_FITS
    rows = [[_row(result, axis, modes)[column] for column in shown] for result in run["results"]]
    align = "".join(">><>>>><"[column] for column in shown)
    for line in table([headings[column] for column in shown], rows, align=align, width=columns - 2):
        yield f"  {line}"


def _row(result: dict[str, Any], axis: str, modes: int) -> tuple[str, ...]:
    label = result["worst_class"]
    return (
        f"{result[axis]:.10g}",
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
