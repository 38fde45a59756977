"""The plan of a sweep as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesstore.errors import size_text
from hesstore_cli.terminal.amounts import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from hesstore.engine.sweep import SweepPlan
    from hesstore.engine.sweep_plan import Span


def as_text(plan: SweepPlan) -> str:
    """Return the whole plan, as ``hesstore plan`` prints it."""
    free = "" if plan.disk_free is None else f"; {size_text(plan.disk_free)} are free"
    rows = {
        "device": _device(plan),
        "work": _work(plan) if plan.unfinished else "none",
        "time": _time_and_basis(plan),
        "disk": f"{size_text(plan.disk_now)} now, {span_text(plan.disk_end, size_text)} at the end{free}",
        "memory": f"at least {size_text(plan.memory_least)} in addition to the data, and up to "
        f"{size_text(plan.memory_cache)} of cached activations; {size_text(plan.memory_free)} are free",
    }
    head = (
        f"{plan.store or 'a new store'}: {plan.unfinished} of {plan.total} grid points to compute; {_pairs(plan)}"
        f"{plan.parameters:,} parameters, {plan.train_rows:,} + {plan.test_rows:,} rows"
    )
    return "\n".join([head, *(f"  {name:<8}{text}" for name, text in rows.items())])


def short_lines(plan: SweepPlan) -> list[str]:
    """Return the plan in three lines, as ``hesstore sweep`` shows it first."""
    disk = f"{span_text(plan.disk_end, size_text)} on disk at the end"
    return [
        f"plan: {plan.unfinished} of {plan.total} grid points to compute on {_device(plan)}; {disk}",
        f"plan: {_work(plan)}",
        f"plan: {_time_and_basis(plan)}",
    ]


def time_text(plan: SweepPlan) -> str:
    """Return ``about 12 to 40 min``; empty if no estimate is known."""
    return "" if plan.seconds is None or not plan.unfinished else f"about {time_span_text(plan.seconds)}"


def span_text(span: Span, form: Callable[[float], str]) -> str:
    """Return both ends of a span, with a common unit only once; if the ends read the same, return one of them."""
    low, high = form(span.least), form(span.most)
    number, _, unit = low.partition(" ")
    if low == high:
        return high
    return f"{number if unit and high.endswith(f' {unit}') else low} to {high}"


def time_span_text(span: Span) -> str:
    """Return a span of seconds in rounded units: ``50 s to 3 min``, ``12 to 40 min``, ``7 h``."""
    return span_text(span, _rounded_time)


def _device(plan: SweepPlan) -> str:
    together = f", {plan.together} grid points together" if plan.together > 1 else ""
    reason = f" ({plan.threads_reason})" if plan.threads_reason else ""
    return f"{plan.device}, {counted(plan.threads, 'thread')}{reason}{together}"


def _pairs(plan: SweepPlan) -> str:
    return f"{plan.k} eigenpairs of " if plan.k else "no spectra (k = 0), "


def _work(plan: SweepPlan) -> str:
    def rounded(number: float) -> str:
        return f"{float(f'{number:.2g}'):,.0f}"

    parts = []
    if plan.fits:
        parts.append(f"{plan.fits:,} {'fit' if plan.fits == 1 else 'fits'} of {span_text(plan.epochs, rounded)} epochs")
    if plan.k:
        parts.append(f"{span_text(plan.products, rounded)} Hessian products")
    return ", ".join(parts)


def _time_and_basis(plan: SweepPlan) -> str:
    known = time_text(plan)
    return f"{known} ({plan.basis})" if known else plan.basis


def _rounded_time(seconds: float) -> str:
    """Return seconds in a whole number of units: at least one, and usually less than a hundred."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{max(seconds / length, 1):.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
