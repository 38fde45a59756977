"""The config that several sources make together, as the command line makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from hesstore.config import SweepConfig
from hesstore.config.sources import layers, merge


def merged_config(
    preset: str = "paper",
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, object] | None = None,
) -> SweepConfig:
    """The config that :func:`hesstore.config.sources.layers` make together."""
    return SweepConfig.from_mapping(merge(layers(preset, file, assignments, options)))
