"""The files to import by run ID and λ. It is known before the config: the config's grid and runs follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from hesstore.config import SweepConfig
from hesstore.config.l2_grid import L2_DECIMALS, round_l2
from hesstore.errors import ConfigError, ExportError, ImportFilesError
from hesstore.exporting.manifest import NAME as MANIFEST
from hesstore.exporting.manifest import read_entries
from hesstore.importing.accuracy_tables import read_accuracies
from hesstore.importing.added_terms import measure_term
from hesstore.importing.readers import read_gradients
from hesstore.importing.sources import Sources, duplicate_error
from hesstore.problem.state_dicts import tensor_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hesstore.importing.accuracy_tables import AccuracyRow, AccuracyTable
    from hesstore.importing.added_terms import MeasuredTerm

_EXACT = Context(prec=1000)
"""As many digits as a name of 255 bytes and a λ of every size can need."""

Key = tuple[int, float]
"""The run ID and λ of a grid point, while its run and the grid are not known yet."""


@dataclass(frozen=True)
class FileIndex:
    """The files to import by run ID and λ.

    Attributes
    ----------
    sources : Sources
        The files.
    given_buffers : tuple of str, optional
        The names of the tensors in the weight files that are no parameters, if the user gave them.
    """

    sources: Sources
    given_buffers: tuple[str, ...] | None = None
    _known_by_digits: dict[int, dict[Decimal, list[float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def manifest_config(self) -> SweepConfig | None:
        """The config in the manifest, if there is a manifest with a valid one."""
        header = self.sources.header
        if header is None:
            return None
        try:
            return SweepConfig.from_mapping(header["config"])
        except (KeyError, ConfigError, TypeError):
            return None

    @property
    def manifest_l2(self) -> tuple[float, ...]:
        """The grid in the manifest."""
        return self.manifest_config.l2 if self.manifest_config else ()

    @cached_property
    def tables(self) -> dict[int, AccuracyTable]:
        """The tables of losses and accuracies, by run ID."""
        return self._read_tables(self.sources.tables)

    @cached_property
    def replaced(self) -> dict[int, AccuracyTable]:
        """The tables that are not used because those of the same run have class accuracies, by run ID."""
        return self._read_tables(self.sources.replaced)

    def _read_tables(self, paths: Mapping[int, Path]) -> dict[int, AccuracyTable]:
        certain = self.manifest_config is not None  # hesstore wrote these files
        return {run: read_accuracies(path, percent_is_certain=certain) for run, path in sorted(paths.items())}

    @cached_property
    def buffers(self) -> frozenset[str] | None:
        """The names of the tensors in the weight files that are no parameters: those given, or without a gradient.

        None if nothing shows which they are.
        """
        if self.given_buffers is not None:
            return frozenset(self.given_buffers)
        if not (self.paths["gradients"] and self.paths["weights"]):
            return None
        known = read_gradients(next(iter(self.paths["gradients"].values())))
        weights = next(iter(self.paths["weights"].values()))
        tensors = tensor_names(weights, known)
        return frozenset(tensors) - known.keys() if known.keys() <= set(tensors) else None

    def weights_of(self, run: int) -> dict[float, Path]:
        """The weight files of a run, by λ."""
        return {l2: path for (of, l2), path in self.paths["weights"].items() if of == run}

    @cached_property
    def measured_terms(self) -> dict[int, MeasuredTerm | None]:
        """What the norms in the files show about ``Train_Reg_Loss`` in each table."""
        return {
            run: measure_term(table, self.weights_of(run), self.buffers or ()) for run, table in self.tables.items()
        }

    def manifest_reg_loss(self, path: Path) -> str:
        """What ``Train_Reg_Loss`` of a table adds, according to the manifest next to it; empty if it does not say.

        Raises
        ------
        ImportFilesError
            If the manifest is damaged.
        """
        try:
            entries = read_entries(path.parent / MANIFEST)
        except ExportError as error:
            raise ImportFilesError(str(error)) from None
        return next((entry.reg_loss for entry in entries if entry.name == path.name and entry.describes(path)), "")

    @cached_property
    def rows(self) -> dict[Key, AccuracyRow]:
        """The rows of these tables."""
        return {(run, l2): row for run, table in self.tables.items() for l2, row in table.rows.items()}

    @cached_property
    def paths(self) -> dict[str, dict[Key, Path]]:
        """The files of each other kind."""
        return {kind: self._by_key(files) for kind, files in self.sources.files.items()}

    @cached_property
    def keys(self) -> list[Key]:
        """The run ID and λ of every grid point that has at least one file, in ascending order."""
        return sorted({*self.rows, *chain.from_iterable(self.paths.values())})

    def has(self, kind: str, key: Key) -> bool:
        """Whether a grid point has a file of this kind."""
        return key in (self.rows if kind == "accuracy" else self.paths[kind])

    def _by_key(self, files: Mapping[tuple[int, str], Path]) -> dict[Key, Path]:
        found: dict[Key, Path] = {}
        for (run, text), path in files.items():
            key = run, self._l2_of(text, path)
            if key in found:
                raise duplicate_error(found[key], path)
            found[key] = path
        return found

    def _l2_of(self, text: str, path: Path) -> float:
        """λ from the text in a file name, which may be rounded.

        The number itself is λ if a table or the manifest has it, or if neither has a value that rounds to it.
        Otherwise, the only value that rounds to it is λ.

        Raises
        ------
        ImportFilesError
            If several values round to it, or if it is too small or too large.
        """
        try:
            exact = round_l2(text)
        except ValueError as error:
            raise ImportFilesError(f"{path}: {error}: rename the file") from None
        if exact in self._known_l2:
            return exact
        written = Decimal(text)
        candidates = self._rounded(int(written.as_tuple().exponent)).get(written, [])
        if len(candidates) > 1:
            shown = ", ".join(f"{l2:.{L2_DECIMALS}g}" for l2 in candidates[:6])
            raise ImportFilesError(
                f"{path}: the name rounds λ to {text}, which could be any of {shown}"
                f"{', …' if len(candidates) > 6 else ''}: rename the file, with all decimals of λ"
            )
        return candidates[0] if candidates else exact

    def _rounded(self, exponent: int) -> dict[Decimal, list[float]]:
        """The known λ by what they are when rounded to the digit of 10 to the power of ``exponent``."""
        if exponent not in self._known_by_digits:
            found = self._known_by_digits[exponent] = {}
            for l2 in sorted(self._known_l2):
                rounded = Decimal(l2).quantize(Decimal((0, (1,), exponent)), context=_EXACT)
                found.setdefault(rounded, []).append(l2)
        return self._known_by_digits[exponent]

    @cached_property
    def _known_l2(self) -> frozenset[float]:
        """The λ that tables and manifest give with all their digits."""
        return frozenset({*(l2 for _, l2 in self.rows), *self.manifest_l2})
