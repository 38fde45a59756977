"""A grid point in words: its place and its main results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hesstore.config.l2_grid import AXIS, value_text

if TYPE_CHECKING:
    from collections.abc import Mapping

PHASES = {"fitting": "fit", "analysing": "analysis: spectrum and class geometry"}
"""The phases of a grid point, as they are shown."""


def point_text(run: int, value: float, axis: str = AXIS) -> str:
    """Return ``run 0, λ = 0.006``."""
    return f"run {run}, {value_text(axis, value)}"


def result_pieces(facts: Mapping[str, Any]) -> list[str]:
    """Return the main results of a complete grid point, one text each, without those that are missing."""
    forms = (
        ("test_accuracy", "test accuracy {test_accuracy:.3f}"),
        ("worst_class", "worst class {worst_class}: {worst_class_accuracy:.3f}"),
        ("eigenvalue", "μ₁ {eigenvalue:.4g}"),
        ("spectrum", "spectrum {spectrum}"),
    )
    return [form.format_map(facts) for name, form in forms if facts.get(name) is not None]
