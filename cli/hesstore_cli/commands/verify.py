"""``hesstore verify``."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.options import store_argument

if TYPE_CHECKING:
    from pathlib import Path

    from hesstore.integrity.findings import Findings, Problem
    from hesstore.integrity.recheck import Recheck
    from hesstore.integrity.repair import Repair


@click.command()
@store_argument
@click.option("--deep", is_flag=True, help="Also calculate some complete λ again from their weights and the data.")
@click.option(
    "--sample", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Most λ for --deep."
)
@click.option("--trust", is_flag=True, help="Let --deep import the module:factory that STORE's config names.")
@click.option(
    "--repair", "repairing", is_flag=True, help="Mark bad λ pending, for the next sweep; remove temporary files."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def verify(store: str, *, deep: bool, sample: int, trust: bool, repairing: bool, as_json: bool) -> int:
    """Check that STORE holds what it says: every file, every λ, its metadata.

    Bad λ and damaged files are listed, a line each, and the exit status is 5. With --repair it is 5 only if something
    remains that can't be repaired.

    \b
    Examples:
      hesstore verify quickstart.zarr
      hesstore verify quickstart.zarr --deep
      hesstore verify quickstart.zarr --repair && hesstore sweep quickstart.zarr --preset quickstart
    """
    from hesstore.integrity.local_copy import fetch_to_folder
    from hesstore_cli.terminal.console import Bar

    with ExitStack() as held:
        with Bar("fetching") as bar:
            folder = held.enter_context(fetch_to_folder(store, writable=repairing, progress=bar.advance))
        report, again, done = _checked(folder, deep=deep, sample=sample, trust=trust, repairing=repairing)
    if as_json:
        click.echo(json.dumps({**_facts(report, again, done), "path": store}, indent=2, allow_nan=False))
    else:
        for problem in (done.before if done else report).problems:
            click.echo(str(problem))
        _tell(store, report, again, done)
    return ExitStatus.DONE if (done.after if done else report).ok else ExitStatus.DAMAGED


def _checked(
    folder: Path, *, deep: bool, sample: int, trust: bool, repairing: bool
) -> tuple[Findings, Recheck | None, Repair | None]:
    """What the checks that are asked for say of a folder, and what was repaired."""
    from hesstore.integrity.repair import repair
    from hesstore.integrity.verify import verify as check
    from hesstore_cli.terminal.console import Bar

    again: Recheck | None = None
    with Bar("reading") as bar:
        report = check(folder, progress=bar.advance)
    if deep and all(problem.index is not None for problem in report.problems):
        from hesstore.integrity.recheck import recheck

        with Bar("calculating again") as bar:
            again = recheck(folder, sample=sample, avoid=report.bad, trust=trust, progress=bar.advance)
        report.problems += again.problems
    elif deep:
        report.remarks.append("not calculated again: repair the files first")
    if not repairing:
        return report, again, None
    with Bar("repairing") as bar:
        return report, again, repair(folder, condemned=again.problems if again else (), progress=bar.advance)


def _tell(store: str, report: Findings, again: Recheck | None, done: Repair | None) -> None:
    """What is not data: remarks, leftovers, and how it ended."""
    where = shlex.quote(store)
    last = done.after if done else report
    for remark in last.remarks:
        click.echo(f"remark: {remark}", err=True)
    for leftover in last.leftovers:
        click.echo(f"left by a killed process: {leftover}; --repair removes it", err=True)
    if done is not None:
        for name, files in (("removed", done.removed), ("written anew", done.rewritten)):
            for file in files:
                click.echo(f"{name}: {file}", err=True)
        if done.withdrawn:
            click.echo(f"{len(done.withdrawn)} λ are pending now: run the same hesstore sweep again", err=True)
    if last.ok:
        states = ", ".join(f"{count} {status.name.lower()}" for status, count in sorted(last.counts.items()))
        deep = "" if again is None else f"; {len(again.checked)} λ calculated again, {again.modes} eigenpairs of each"
        click.echo(f"{store}: all is well in {last.files} files: {states or 'no'} λ{deep}", err=True)
        return
    is_offered = done is None and report.repairable
    remedy = f"hesstore verify {where} --repair" if is_offered else "can't be repaired: restore it from a copy"
    click.echo(f"hesstore: {store}: {len(last.bad)} bad λ, {len(last.damaged_files)} damaged files: {remedy}", err=True)


def _facts(report: Findings, again: Recheck | None, done: Repair | None) -> dict[str, Any]:
    last = done.after if done else report
    facts: dict[str, Any] = {
        "path": str(report.path),
        "ok": last.ok,
        "files": report.files,
        "l2": {status.name.lower(): count for status, count in sorted(last.counts.items())},
        "problems": [_problem(problem) for problem in (done.before if done else report).problems],
        "remarks": last.remarks,
        "leftovers": list(map(str, last.leftovers)),
        "deep": None,
        "repair": None,
    }
    if again is not None:
        facts["deep"] = {"checked": [{"run": run, "l2": l2} for run, l2 in again.checked], "modes": again.modes}
    if done is not None:
        facts["repair"] = {
            "pending": [{"run": run, "index": index} for run, index in done.withdrawn],
            "removed": done.removed,
            "rewritten": done.rewritten,
            "remaining": [_problem(problem) for problem in done.after.problems],
        }
    return facts


def _problem(problem: Problem) -> dict[str, Any]:
    return {"run": problem.run, "l2": problem.l2, "what": problem.what, "file": problem.file}
