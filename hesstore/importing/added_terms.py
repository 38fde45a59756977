"""What ``Train_Reg_Loss`` adds to ``Train_Loss`` in a table: s·λ‖θ‖².

The authors define it with s = 1, although the gradient that their script applies is that of (λ/2)‖θ‖². With
``hesstore export --reg-loss objective``, s is the factor c of the objective's own penalty. In a table of a centred
penalty, ‖θ‖ is the distance to the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hesstore.errors import ImportFilesError
from hesstore.exporting.original_csv import REG_LOSSES
from hesstore.problem.state_dicts import read_state_dict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from hesstore.importing.accuracy_tables import AccuracyTable

WITHIN = 0.2
"""The relative deviation of a measured s from 1 or 1/2 up to which it counts as that value."""
AGREES, DIGITS = 0.01, 1e-8
"""The relative and absolute differences up to which a row agrees with its norm; tables have 9 decimals."""


@dataclass(frozen=True)
class AddedTerm:
    """The term that ``Train_Reg_Loss`` adds to ``Train_Loss`` in a table.

    Attributes
    ----------
    scale : float
        s of s·λ‖θ‖².
    reason : str
        Why s has this value, as the end of a sentence.
    notes : tuple of str
        What does not agree, each in one line.
    """

    scale: float
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredTerm:
    """s as the norms in a table or in a weight file show it.

    Attributes
    ----------
    scale : float
        1 or 1/2; NaN if the median of the ratios is neither.
    median : float
        The median of the ratios of the added term to λ‖θ‖².
    norm : str
        Where the norms come from: a column, or a file.
    is_centred : bool
        Whether they are distances to a reference.
    ratios : dict of float to float
        The ratios that are not rounding, by λ.
    """

    scale: float
    median: float
    norm: str
    is_centred: bool = False
    ratios: dict[float, float] = field(default_factory=dict)

    def notes(self) -> Iterator[str]:
        """Yield a line if some rows do not agree with their norms."""
        off = {l2: abs(ratio / self.scale - 1) for l2, ratio in self.ratios.items()}
        differing = {l2: value for l2, value in off.items() if value > AGREES}
        if differing:
            worst = max(differing, key=lambda l2: differing[l2])
            yield (
                f"{self.norm}: at {len(differing)} of {len(off)} λ, Train_Reg_Loss − Train_Loss is not λ·{self.norm}², "
                f"by up to {differing[worst]:.0%} at λ = {worst:.10g}: the column may be that of another training"
            )


def measure_term(
    table: AccuracyTable, weights: Mapping[float, Path], buffers: Collection[str] = ()
) -> MeasuredTerm | None:
    """Measure s from the distances or the norms in a table, or from one weight file; None if it has none of them."""
    rows = table.rows.items()
    sources = {
        table.distance: {l2: row.distance for l2, row in rows},
        "r0": {l2: row.weights_norm for l2, row in rows},
    }
    found = [_measured(table, name, norms) for name, norms in sources.items() if name]
    known = [term for term in found if term is not None and not math.isnan(term.scale)]
    if known:
        return known[0]
    norms_known = [term for term in found if term is not None and not term.is_centred]
    if norms_known:
        return norms_known[0]
    for l2, path in weights.items():
        if l2 and l2 in table.rows and math.isfinite(table.rows[l2].added):
            arrays = read_state_dict(path, buffers=buffers).arrays.values()
            norm = math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))
            return _measured(table, path.name, {l2: norm})
    return None


def _measured(table: AccuracyTable, name: str, norms: Mapping[float, float]) -> MeasuredTerm | None:
    squares = {l2: l2 * norm**2 for l2, norm in norms.items() if l2 and norm and math.isfinite(norm)}
    ratios = {l2: table.rows[l2].added / square for l2, square in squares.items()}
    ratios = {l2: ratio for l2, ratio in ratios.items() if math.isfinite(ratio)}
    if not ratios:
        return None
    median = float(np.median([*ratios.values()]))
    scale = next((scale for scale in (1.0, 0.5) if abs(median / scale - 1) <= WITHIN), math.nan)
    certain = {l2: ratio for l2, ratio in ratios.items() if AGREES * squares[l2] > DIGITS}
    return MeasuredTerm(scale, median, name, is_centred=name == table.distance, ratios=certain)


def choose_term(
    path: Path, measured: MeasuredTerm | None, penalty_scale: float, *, given: str | None, manifest: str
) -> AddedTerm:
    """Choose s of a table: from the option, or else the manifest, or else what was measured, or else 1.

    Parameters
    ----------
    path : Path
        The table.
    measured : MeasuredTerm or None
        What its norms show.
    penalty_scale : float
        The factor c of the objective's penalty.
    given, manifest : str
        One of :data:`~hesstore.exporting.original_csv.REG_LOSSES`, according to the user and to the manifest; None or
        empty if they do not say.

    Raises
    ------
    ImportFilesError
        If the norms show neither s = 1 nor s = 1/2, and neither user nor manifest says what the term is.
    """
    scales = dict(zip(REG_LOSSES, (1.0, penalty_scale), strict=True))
    notes = tuple(measured.notes()) if measured and not math.isnan(measured.scale) else ()
    if given:
        return AddedTerm(scales[given], f"as --reg-loss {given} says", notes)
    if manifest:
        return AddedTerm(scales[manifest], f"as the manifest says: it is that of --reg-loss {manifest}", notes)
    if measured is None:
        return AddedTerm(
            1.0,
            "taken as λ‖θ‖², as in the published tables, because no norm shows it (--reg-loss objective: the penalty "
            "of the objective)",
        )
    if math.isnan(measured.scale):
        raise ImportFilesError(
            f"{path}: Train_Reg_Loss − Train_Loss is {measured.median:.3g} times λ‖θ‖² with the norms of "
            f"{measured.norm}, but 1 or 0.5 was expected: pass --reg-loss full or --reg-loss objective"
        )
    times = "" if measured.scale == 1 else f"{measured.scale:g}·"
    square = "‖θ − θ_ref‖²" if measured.is_centred else "‖θ‖²"
    return AddedTerm(measured.scale, f"which is {times}λ{square}, as {measured.norm} shows", notes)
