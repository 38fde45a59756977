"""The plan of a sweep as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore_cli.terminal.amounts import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.engine.sweep import SweepPlan
    from hesstore.engine.sweep_plan import Span


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
