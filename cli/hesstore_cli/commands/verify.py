"""``hesstore verify``."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.help_pages import Command
from hesstore_cli.options import json_option, store_argument
from hesstore_cli.terminal.amounts import counted
from hesstore_cli.terminal.bars import Bar
from hesstore_cli.terminal.streams import write_line
from hesstore_cli.terminal.widths import fitted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hesstore.integrity.findings import Findings, Problem
    from hesstore.integrity.recheck import Recheck
    from hesstore.integrity.repair import Repair


@click.command(cls=Command)
@store_argument
@click.option(
    "--deep",
    is_flag=True,
    help="Also recompute some complete grid points from their weights and the data, and search there for eigenvalues "
    "that are missing: each takes k Hessian products, and usually 20 to 80 more.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Maximum number of grid points that --deep recomputes.",
)
@click.option("--trust", is_flag=True, help="Allow --deep to import the module:factory in the config of STORE.")
@click.option(
    "--repair",
    "repairing",
    is_flag=True,
    help="Mark bad grid points as pending, so that the next sweep computes them, and remove temporary files.",
)
@json_option
def verify(store: str, *, deep: bool, sample: int, trust: bool, repairing: bool, as_json: bool) -> int:
    """Check STORE for damage, and repair it with --repair.

    Every file, every grid point and the metadata are checked. Damaged files and bad grid points are listed, one per
    line, and the exit status is 5. With --repair it is 5 only if some damage cannot be repaired.

    \b
    Examples:
      hesstore verify quickstart.zarr
      hesstore verify quickstart.zarr --deep
      hesstore verify quickstart.zarr --repair && hesstore sweep quickstart.zarr --preset quickstart
    """
    from hesstore.integrity.local_copy import fetch_to_folder

    with ExitStack() as stack:
        with Bar("fetching") as bar:
            folder = stack.enter_context(fetch_to_folder(store, writable=repairing, progress=bar.advance))
        report, deep_report, repair = _check(folder, deep=deep, sample=sample, trust=trust, repairing=repairing)
    if as_json:
        click.echo(json.dumps({**_facts(report, deep_report, repair), "path": store}, indent=2, allow_nan=False))
    else:
        for problem in (repair.before if repair else report).problems:
            click.echo(fitted(str(problem)))
        for line in _remarks(report, repair):
            write_line(line)
        write_line(_summary_line(store, report, deep_report, repair))
    return ExitStatus.DONE if (repair.after if repair else report).ok else ExitStatus.DAMAGED


def _check(
    folder: Path, *, deep: bool, sample: int, trust: bool, repairing: bool
) -> tuple[Findings, Recheck | None, Repair | None]:
    """Run the requested checks, and the repair if requested; return their reports."""
    from hesstore.integrity.repair import repair
    from hesstore.integrity.verify import verify as check

    deep_report: Recheck | None = None
    with Bar("reading") as bar:
        report = check(folder, progress=bar.advance)
    if deep and all(problem.index is not None for problem in report.problems):
        from hesstore.integrity.recheck import recheck

        with Bar("recomputing") as bar:
            deep_report = recheck(folder, sample=sample, avoid=report.bad, trust=trust, progress=bar.advance)
        report.problems += deep_report.problems
    elif deep:
        report.remarks.append("--deep was skipped: repair the files first")
    if not repairing:
        return report, deep_report, None
    condemned = deep_report.problems if deep_report else ()
    with Bar("repairing") as bar:
        return report, deep_report, repair(folder, condemned=condemned, progress=bar.advance)


def _remarks(report: Findings, repair: Repair | None) -> Iterator[str]:
    """Yield the remarks, the leftovers, and what the repair did, one line each."""
    last = repair.after if repair else report
    for remark in last.remarks:
        yield f"remark: {remark}"
    for leftover in last.leftovers:
        yield f"left by a killed process: {leftover}; --repair removes it"
    if repair is None:
        return
    for what, files in (("removed", repair.removed), ("rewritten", repair.rewritten)):
        for file in files:
            yield f"{what}: {file}"
    if repair.withdrawn:
        points = counted(len(repair.withdrawn), "grid point")
        yield f"{points} marked pending: run the same hesstore sweep or analyse again to compute them"


def _summary_line(store: str, report: Findings, deep_report: Recheck | None, repair: Repair | None) -> str:
    """Return the result of the check and what to do next, in one line."""
    last = repair.after if repair else report
    if last.ok:
        states = ", ".join(f"{count} {status.name.lower()}" for status, count in sorted(last.counts.items()))
        line = f"{store}: no damage in {counted(last.files, 'file')}; grid points: {states or 'none'}"
        if deep_report is None:
            return line
        pairs = f", {counted(deep_report.modes, 'eigenpair')} each" if deep_report.modes else ""
        line += f"; {len(deep_report.checked)} recomputed{pairs}"
        summary = deep_report.summary
        return f"{line}; by a new search, {summary.text}" if summary else line
    can_repair = repair is None and report.repairable
    remedy = (
        f"hesstore verify {shlex.quote(store)} --repair"
        if can_repair
        else "cannot be repaired: restore the store from a copy"
    )
    bad, damaged = counted(len(last.bad), "bad grid point"), counted(len(last.damaged_files), "damaged file")
    return f"hesstore: {store}: {bad}, {damaged}: {remedy}"


def _facts(report: Findings, deep_report: Recheck | None, repair: Repair | None) -> dict[str, Any]:
    """Return the facts for ``--json``."""
    last = repair.after if repair else report
    facts: dict[str, Any] = {
        "path": str(report.path),
        "ok": last.ok,
        "files": report.files,
        "l2": {status.name.lower(): count for status, count in sorted(last.counts.items())},
        "problems": [_problem(problem) for problem in (repair.before if repair else report).problems],
        "remarks": last.remarks,
        "leftovers": list(map(str, last.leftovers)),
        "deep": None,
        "repair": None,
    }
    if deep_report is not None:
        facts["deep"] = {
            "checked": [{"run": run, deep_report.axis: value} for run, value in deep_report.checked],
            "modes": deep_report.modes,
            "spectra": deep_report.summary.facts() if deep_report.summary else None,
        }
    if repair is not None:
        facts["repair"] = {
            "pending": [{"run": run, "index": index} for run, index in repair.withdrawn],
            "removed": repair.removed,
            "rewritten": repair.rewritten,
            "remaining": [_problem(problem) for problem in repair.after.problems],
        }
    return facts


def _problem(problem: Problem) -> dict[str, Any]:
    return {"run": problem.run, problem.axis: problem.value, "what": problem.what, "file": problem.file}
