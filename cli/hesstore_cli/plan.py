"""``hesstore plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hesstore.config import SweepConfig
from hesstore.resolving import merged
from hesstore_cli import completing
from hesstore_cli.amounts import size
from hesstore_cli.help_pages import Command
from hesstore_cli.options import layer_options, runs_option
from hesstore_cli.stored import stored_layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.planning import Span
    from hesstore.resolving import Layer
    from hesstore.sweep import SweepPlan


@click.command(cls=Command)
@click.argument(
    "store", metavar="[STORE]", required=False, type=click.Path(path_type=str), shell_complete=completing.stores
)
@layer_options
@click.option("--grow", is_flag=True, help="Plan what sweep --grow would compute.")
@runs_option
@click.option("--retry-failed", is_flag=True, help="Count λ that failed as to be tried again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def plan(
    context: click.Context,
    store: str | None,
    found: list[Layer],
    runs: tuple[int, ...],
    *,
    grow: bool,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Say what a sweep would take: λ, Hessian products, time, disk and memory. Nothing is computed or written.

    Of STORE, if it is there, what is left; its own config holds if no setting is given. Without STORE: a new one,
    wherever it may lie. Time is that of one process on this machine: measured on the data and the network in a few
    seconds, or as the λ took that STORE has. How many epochs and products a λ needs shows only then, so it is a span.

    \b
    Examples:
      hesstore plan --preset quickstart
      hesstore plan run.zarr --l2 0:0.1:1001 --grow
    """
    from hesstore.store.paths import locate
    from hesstore.sweep import plan_sweep

    if store is not None and _says_nothing(context, found) and not locate(store).is_new():
        found = [_own(store)]
    config = SweepConfig.from_mapping(merged(found))
    planned = plan_sweep(config, store, retry_failed=retry_failed, grow=grow, runs=runs)
    click.echo(as_json_text(planned) if as_json else as_text(planned))


def _says_nothing(context: click.Context, found: list[Layer]) -> bool:
    """Whether no option names a setting."""
    return len(found) == 1 and context.get_parameter_source("preset") != ParameterSource.COMMANDLINE


def _own(store: str) -> Layer:
    """The config of the store itself, unless it names code: nobody runs that for having been handed a store."""
    layer = stored_layer(store)
    for key in ("dataset", "model"):
        if ":" in str(layer.values.get(key, "")):
            raise click.UsageError(
                f"{store} names code, {key} = {layer.values[key]}: give its settings yourself, "
                f"as `hesstore config --of {store}` prints them"
            )
    return layer


def as_json_text(plan: SweepPlan) -> str:
    """All of it; spans as objects with ``least`` and ``most``."""
    import json
    from dataclasses import asdict

    return json.dumps(asdict(plan), indent=2, allow_nan=False)


def as_text(plan: SweepPlan) -> str:
    """The plan for people."""
    free = "" if plan.disk_free is None else f"; {size(plan.disk_free)} are free there"
    rows = {
        "device": _device(plan),
        "work": _work(plan) if plan.analyses else "none",
        "time": _time_and_basis(plan),
        "disk": f"{size(plan.disk_now)} now, {between(plan.disk_end, size)} at the end{free}",
        "memory": f"at least {size(plan.memory_least)} beside the data, and up to {size(plan.memory_cache)} of cached "
        f"activations; {size(plan.memory_free)} are free",
    }
    head = (
        f"{plan.store or 'a new store'}: {plan.analyses} of {plan.total} λ to do; {plan.k} eigenpairs of "
        f"{plan.parameters:,} parameters, {plan.train_rows:,} + {plan.test_rows:,} rows"
    )
    return "\n".join([head, *(f"  {name:<8}{text}" for name, text in rows.items())])


def briefly(plan: SweepPlan) -> list[str]:
    """The plan in a few lines, as a sweep begins."""
    disk = f"{between(plan.disk_end, size)} on disk at the end"
    return [
        f"plan: {plan.analyses} of {plan.total} λ to do on {_device(plan)}; {disk}",
        f"plan: {_work(plan)}",
        f"plan: {_time_and_basis(plan)}",
    ]


def _device(plan: SweepPlan) -> str:
    together = f", {plan.together} λ together" if plan.together > 1 else ""
    return f"{plan.device}, {plan.threads} thread{'s' * (plan.threads > 1)}{together}"


def _work(plan: SweepPlan) -> str:
    def count(number: float) -> str:
        return f"{float(f'{number:.2g}'):,.0f}"

    fits = (
        f"{plan.fits:,} {'fit' if plan.fits == 1 else 'fits'} of {between(plan.epochs, count)} epochs, "
        if plan.fits
        else ""
    )
    return f"{fits}{between(plan.products, count)} Hessian products"


def time_of(plan: SweepPlan) -> str:
    """``about 12 to 40 min``, or nothing where nobody knows."""
    return "" if plan.seconds is None or not plan.analyses else f"about {span_of_time(plan.seconds)}"


def _time_and_basis(plan: SweepPlan) -> str:
    known = time_of(plan)
    return f"{known} ({plan.basis})" if known else plan.basis


def between(span: Span, form: Callable[[float], str]) -> str:
    """Both ends of a span, or the one value that both are; a unit that they share stands once."""
    low, high = form(span.least), form(span.most)
    number, _, unit = low.partition(" ")
    if low == high:
        return high
    return f"{number if unit and high.endswith(f' {unit}') else low} to {high}"


def span_of_time(span: Span) -> str:
    """A span of seconds, as roughly as it is known: ``50 s to 3 min``, ``12 to 40 min``, ``7 h``."""
    return between(span, _roughly)


def _roughly(seconds: float) -> str:
    """In whole units, of which there are at least one and mostly less than a hundred."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{max(seconds / length, 1):.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
