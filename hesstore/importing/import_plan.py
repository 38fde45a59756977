"""What store a set of files becomes: its grid, runs, parameters and config. Reads the beginning of few files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.config import SweepConfig
from hesstore.config.l2_grid import L2_DECIMALS
from hesstore.errors import ConfigError, ImportFilesError
from hesstore.importing import readers
from hesstore.importing.sources import KINDS, Sources, same_strength
from hesstore.store.origin import ORIGIN, Origin
from hesstore.store.parameter_coordinates import parameter_coordinates
from hesstore.store.schema import Run, StoreSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hesstore.importing.readers import AccuracyRow, Shapes

Cell = tuple[int, float]
"""Run ID and λ."""

VARIABLES_OF = {
    "accuracy": ("loss", "penalty", "accuracy", "class_accuracy"),
    "eigenvalues": ("eigenvalues",),
    "eigenvectors": ("eigenvectors",),
    "gradients": ("gradient",),
    "weights": ("weights",),
}
_CLASSES = 10
"""Classes where no file tells: digits."""


@dataclass(frozen=True)
class Plan:
    """What the files become.

    Attributes
    ----------
    sources : Sources
        The files.
    settings : mapping
        Settings that the user gave.
    recompute : bool
        Whether λ with weights have everything computed from them.
    """

    sources: Sources
    settings: Mapping[str, Any]
    recompute: bool

    # -- the grid ---------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> dict[Cell, AccuracyRow]:
        """Accuracies and losses, by run and λ."""
        return {(run, l2): row for run, (rows, _) in self._tables.items() for l2, row in rows.items()}

    @cached_property
    def _tables(self) -> dict[int, tuple[dict[float, AccuracyRow], int]]:
        return {run: readers.accuracies(path) for run, path in sorted(self.sources.tables.items())}

    @cached_property
    def paths(self) -> dict[str, dict[Cell, Path]]:
        """The files of each kind but the tables, by run and λ."""
        return {kind: self._by_cell(files) for kind, files in self.sources.files.items()}

    def _by_cell(self, files: Mapping[tuple[int, str], Path]) -> dict[Cell, Path]:
        found: dict[Cell, Path] = {}
        for (run, text), path in files.items():
            cell = run, self._l2_of(text)
            if cell in found:
                raise same_strength(found[cell], path)
            found[cell] = path
        return found

    def _l2_of(self, text: str) -> float:
        """λ as a file name has it; names round, so that λ of a table is meant which is written like this."""
        decimals = len(text.partition(".")[2])
        known = self._by_text.setdefault(decimals, {})
        if not known:
            known |= {f"{l2:.{decimals}f}": l2 for l2 in self._known}
        return known.get(text, round(float(text), L2_DECIMALS))

    @cached_property
    def _by_text(self) -> dict[int, dict[str, float]]:
        return {}

    @cached_property
    def _known(self) -> list[float]:
        """λ that are known with all their digits."""
        of_header = self._header_config.l2 if self._header_config else ()
        return sorted({*(l2 for _, l2 in self.rows), *of_header})

    @cached_property
    def cells(self) -> list[Cell]:
        """All λ of all runs that have any file."""
        return sorted({*self.rows, *chain.from_iterable(self.paths.values())})

    def has(self, kind: str, cell: Cell) -> bool:
        """Whether a λ has a file of a kind."""
        return cell in (self.rows if kind == "accuracy" else self.paths[kind])

    # -- the config -------------------------------------------------------------------------------------------

    @cached_property
    def _header_config(self) -> SweepConfig | None:
        header = self.sources.header
        if header is None:
            return None
        try:
            return SweepConfig.from_mapping(header["config"])
        except (KeyError, ConfigError, TypeError):
            return None

    @cached_property
    def config(self) -> SweepConfig:
        """The manifest's config, or the defaults; then what the user gave; grid, runs and k as the files have them.

        Raises
        ------
        ImportFilesError
            If what the user gave contradicts the files.
        """
        base = self._header_config.to_mapping() if self._header_config else {}
        values = {**base, **{key: value for key, value in self.settings.items() if key != "l2"}}
        found = {l2 for _, l2 in self.cells}
        of_header = set(self._header_config.l2) if self._header_config else set()
        values["l2"] = sorted(found | of_header)
        if not base and "seeds" not in self.settings:
            values |= self._guessed_runs(str(values.get("direction", "up")))
        if "penalty" not in self.settings and not base:
            values |= self._guessed_penalty()
        modes = self.modes
        if modes and not self._may_choose_k:
            if "k" in self.settings and SweepConfig.from_mapping({"k": self.settings["k"]}).k != modes:
                raise ImportFilesError(
                    f"k: {self.settings['k']} was given, the files have {modes} eigenpairs: leave it out"
                )
            values["k"] = modes
        elif not modes and not self.recompute:
            values["k"] = 1
        elif modes and "k" not in self.settings:
            values["k"] = modes
        config = SweepConfig.from_mapping(values)
        if self.sources.runs[-1] >= len(config.runs()):
            raise ImportFilesError(
                f"run ID {self.sources.runs[-1]} has files, but seeds and direction make {len(config.runs())} runs"
            )
        return config

    @property
    def _may_choose_k(self) -> bool:
        """Whether all spectra will be computed."""
        return self.recompute and all(self.has("weights", cell) for cell in self.cells)

    def _guessed_runs(self, direction: str) -> dict[str, Any]:
        """A seed a run, as nothing tells; IDs without files are runs that are pending."""
        count = self.sources.runs[-1] + 1
        return {"seeds": list(range(-(-count // 2) if direction == "both" else count))}

    def _guessed_penalty(self) -> dict[str, str]:
        """The form of the penalty, from what the tables say it adds and the weights; half if they don't tell."""
        for cell in self.cells:
            if cell[1] and self.has("accuracy", cell) and self.has("weights", cell):
                row = self.rows[cell]
                squares = sum(
                    float(np.sum(np.square(array, dtype=np.float64)))
                    for array in readers.weights(self.paths["weights"][cell]).values()
                )
                scale = (row.train_reg_loss - row.train_loss) / (cell[1] * squares) if squares else math.nan
                if math.isfinite(scale):
                    return {"penalty": "full" if abs(scale - 1) < abs(scale - 0.5) else "half"}
        return {}

    @cached_property
    def modes(self) -> int:
        """Eigenpairs of the first file that has any; 0 if none has."""
        if files := self.paths["eigenvalues"]:
            return len(readers.eigenvalues(next(iter(files.values()))))
        if files := self.paths["eigenvectors"]:
            return sum(1 for _ in readers.lines_of(next(iter(files.values()))))
        return 0

    # -- the network ------------------------------------------------------------------------------------------

    @cached_property
    def shapes(self) -> Shapes:
        """Of the parameters: as the manifest or the first weights have them, or as the first gradient lets guess.

        Else they are one vector, of the length of an eigenvector, or of one entry where no file has vectors.
        """
        header = self.sources.header
        if header is not None and "parameters" in header.get("identity", {}):
            return {name: tuple(shape) for name, shape in header["identity"]["parameters"]}
        if files := self.paths["weights"]:
            return readers.layout_of(readers.weights(next(iter(files.values()))))
        if files := self.paths["gradients"]:
            return readers.guessed_layout(
                {name: len(values) for name, values in readers.gradients(next(iter(files.values()))).items()}
            )
        if files := self.paths["eigenvectors"]:
            return {"parameters": (len(next(readers.eigenvectors(next(iter(files.values()))))),)}
        return {"parameters": (1,)}  # accuracies and eigenvalues alone

    @property
    def size(self) -> int:
        """P."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def classes(self) -> int:
        """Number of classes: columns of a table, or the network's last parameter."""
        columns = max((count for _, count in self._tables.values()), default=0)
        if columns:
            return columns
        last = list(self.shapes.values())[-1]
        return last[0] if len(self.shapes) > 1 else _CLASSES

    # -- the store --------------------------------------------------------------------------------------------

    def origin(self) -> Origin:
        """What the store says of the files."""
        runs = self.config.runs()
        computed = {cell for cell in self.cells if self.recompute and self.has("weights", cell)}
        missing: dict[str, dict[str, list[float]]] = {}
        for kind in KINDS:
            for run in range(len(runs)):
                absent = [
                    l2
                    for number, l2 in self.cells
                    if number == run and (number, l2) not in computed and not self.has(kind, (number, l2))
                ]
                if absent:
                    missing.setdefault(kind, {})[str(run)] = absent
        return Origin(files=self.sources.style, source=self.sources.digest(), recompute=self.recompute, missing=missing)

    def spec(self, identity: Mapping[str, Any], environment: Mapping[str, Any]) -> StoreSpec:
        """The store to be; ``identity`` beside the config's."""
        config = self.config
        parameters = [[name, list(shape)] for name, shape in self.shapes.items()]
        origin = self.origin()
        return StoreSpec(
            l2=config.l2,
            runs=tuple(Run(index, *run) for index, run in enumerate(config.runs())),
            k=config.k,
            num_classes=self.classes,
            param_coords=parameter_coordinates([(name, shape) for name, shape in self.shapes.items()]),
            identity={**config.identity(), "parameters": parameters, "imported": origin.source, **identity},
            attrs={
                "config": json.dumps(config.to_mapping()),
                "penalty_scale": config.penalty_scale,
                "environment": json.dumps(dict(environment)),
                ORIGIN: origin.to_json(),
            },
            notes=self._notes(),
        )

    def _notes(self) -> dict[str, dict[str, str]]:
        """Attributes of the variables: where their numbers are from, and how they were rounded."""
        notes = {}
        for kind, names in VARIABLES_OF.items():
            paths = self.sources.tables if kind == "accuracy" else self.sources.files[kind]
            if not paths or (self.recompute and all(self.has("weights", cell) for cell in self.cells)):
                continue
            first = next(iter(paths.values()))
            digits = None if kind == "weights" else readers.decimals(first)
            rounding = f", off by up to {0.5 * 10**-digits:.0e}: {digits} decimals" if digits is not None else ""
            exact = "weights alone are used where there are any" if self.recompute else ""
            text = f"imported from {len(paths)} files such as {first.name}{rounding}{'; ' if exact else ''}{exact}"
            notes.update({name: {"provenance": text} for name in names})
        return notes
