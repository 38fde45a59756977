"""How complete a spectrum is: what its bound on further eigenvalues says, in numbers and in words.

All outputs that say it take their words from here: ``info``, ``status``, ``verify --deep``, the report and the repr.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hesstore.store.schema import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray

LOOSE = 0.1
"""The largest fraction that texts state as a completeness; beyond it, they state the bound itself."""
ROUNDING = 16.0
"""The same as in :mod:`hesstore.linalg.eigenpairs`, which needs PyTorch."""


@dataclass(frozen=True)
class Completeness:
    """How complete one spectrum is.

    Attributes
    ----------
    which : str
        The end of the spectrum: LM, LA or SA.
    found : int
        Number of eigenvalues that were found.
    last : float
        The last of them.
    bound : float
        The bound on further eigenvalues; NaN if the store has none, infinite if nothing is known.
    fraction : float or None
        How far the bound lies beyond the last eigenvalue, relative to its magnitude; at least 0. None if the bound is
        not finite, or if the last eigenvalue is zero to rounding.
    """

    which: str
    found: int
    last: float
    bound: float
    fraction: float | None

    @property
    def text(self) -> str:
        """How complete the spectrum is, such as ``complete to 0.3 %``."""
        if math.isnan(self.bound):
            return "no bound on further eigenvalues"
        if self.is_close:
            return f"complete to {_percent(self.fraction)}" if self.fraction else "complete"
        further = "of any size" if math.isinf(self.bound) else _range(self.which, self.bound)
        last = abs(self.last) if self.which == "LM" else self.last
        return f"further eigenvalues {further} are possible ({_ordinal(self.found)}: {last:.3g})"

    @property
    def is_close(self) -> bool:
        """Whether the bound is so close to the last eigenvalue that the fraction says how complete the spectrum is."""
        return self.fraction is not None and self.fraction <= LOOSE


@dataclass(frozen=True)
class SpectraSummary:
    """How complete several spectra are.

    Attributes
    ----------
    which : str
        The end of the spectrum: LM, LA or SA.
    slack : float
        The fraction that the sweep asked for.
    total : int
        Number of spectra.
    complete : int
        Number of spectra that are complete to ``slack``.
    close : int
        Number of spectra that are not, but whose fraction is at most :data:`LOOSE`.
    fraction : float or None
        The largest fraction of those that are complete or close.
    loose : int
        Number of spectra with a bound that is further away.
    bound : float or None
        The outermost bound of those.
    unbounded : int
        Number of spectra without a finite bound.
    """

    which: str
    slack: float
    total: int
    complete: int
    close: int
    fraction: float | None
    loose: int
    bound: float | None
    unbounded: int

    def facts(self) -> dict[str, Any]:
        """Return the attributes and the text, for JSON."""
        return {**asdict(self), "text": self.text}

    @property
    def text(self) -> str:
        """How complete they are, such as ``12 of 16 spectra are complete to 0.3 %; the others to at most 0.45 %``."""
        clauses: list[str] = []
        left = self.total

        def add(count: int, one: str, several: str) -> None:
            nonlocal left
            if not count:
                return
            if left < self.total:
                who = str(count) if count < left else "the others" if count > 1 else "the other"
            elif count == self.total:
                who = f"all {count} spectra" if count > 1 else "the spectrum"
            else:
                who = f"{count} of {self.total} spectra"
            clauses.append(f"{who} {one if count == 1 else several}")
            left -= count

        if self.fraction is not None:
            largest = _percent(self.fraction)
            to = _percent(self.slack) if self.complete else largest
            add(self.complete or self.close, f"is complete to {to}", f"are complete to {to}")
            if self.complete:
                add(self.close, f"to {largest}", f"to at most {largest}")
        if self.bound is not None:
            lack = f"may lack eigenvalues {_range(self.which, self.bound)}"
            add(self.loose, lack, lack)
        add(self.unbounded, "has no bound on further eigenvalues", "have no bound on further eigenvalues")
        return "; ".join(clauses)


@dataclass(frozen=True)
class SpectrumSettings:
    """The settings of a sweep that say how complete its spectra should be.

    Attributes
    ----------
    k : int
        Number of eigenpairs.
    which : str
        The end of the spectrum: LM, LA or SA.
    slack : float
        The fraction that the sweep asked for.
    dtype : str
        The working precision.
    """

    k: int
    which: str
    slack: float
    dtype: str

    @classmethod
    def of(cls, attributes: Mapping[Any, Any]) -> SpectrumSettings | None:
        """Return the settings in the root attributes of a store; None if these lack one, or k is 0."""
        config = json.loads(attributes.get("config", "{}"))
        try:
            found = cls(config["k"], config["which"], config["slack"], config["dtype"])
        except KeyError:
            return None
        return found if found.k else None

    def completeness(self, eigenvalues: NDArray[np.float64], bound: float) -> Completeness | None:
        """How complete the spectrum of one grid point is; None if no eigenvalue was found.

        Parameters
        ----------
        eigenvalues : ndarray
            (k,) μ in the order of the solver; NaN for those that were not found.
        bound : float
            The ``eigenvalue_bound`` of the grid point.
        """
        found = eigenvalues[np.isfinite(eigenvalues)]
        if not found.size:
            return None
        last, rounding = float(found[-1]), ROUNDING * float(np.finfo(self.dtype).eps) * float(np.abs(found).max())
        fraction = None
        if np.isfinite(bound) and abs(last) > rounding:
            fraction = max(0.0, _distance(bound, self.which) - _distance(last, self.which)) / abs(last)
        return Completeness(self.which, int(found.size), last, bound, fraction)

    def spectra(self, ds: xr.Dataset) -> list[Completeness]:
        """How complete the spectrum of each complete grid point is, in the order of ``ds``.

        Parameters
        ----------
        ds : Dataset
            A store or a part of it, with ``status``, all ``eigenvalues`` and ``eigenvalue_bound``.
        """
        complete, dims = np.asarray(ds["status"].values == Status.COMPLETE), ds["status"].dims
        eigenvalues = ds["eigenvalues"].transpose(*dims, "mode").values[complete]
        bounds = np.asarray(ds["eigenvalue_bound"].transpose(*dims).values)[complete]
        spectra = [self.completeness(*each) for each in zip(eigenvalues, bounds.tolist(), strict=True)]
        return [each for each in spectra if each is not None]

    def summary(self, spectra: Sequence[Completeness]) -> SpectraSummary | None:
        """How complete several spectra are; None if there are none."""
        if not spectra:
            return None
        close = [each.fraction for each in spectra if each.is_close and each.fraction is not None]
        bounds = [each.bound for each in spectra if math.isfinite(each.bound) and not each.is_close]
        complete = sum(fraction <= self.slack * (1 + 1e-9) for fraction in close)
        return SpectraSummary(
            which=self.which,
            slack=self.slack,
            total=len(spectra),
            complete=complete,
            close=len(close) - complete,
            fraction=max(close, default=None),
            loose=len(bounds),
            bound=max(bounds, key=lambda bound: _distance(bound, self.which), default=None),
            unbounded=len(spectra) - len(close) - len(bounds),
        )


def _distance(eigenvalue: float, which: str) -> float:
    """The distance of an eigenvalue towards the end of the spectrum: |μ|, μ or −μ."""
    return {"LM": abs(eigenvalue), "LA": eigenvalue, "SA": -eigenvalue}[which]


def _range(which: str, bound: float) -> str:
    """The eigenvalues up to a bound, such as ``up to |μ| = 0.0123``; a bound is rounded outwards."""
    if which == "SA":
        return f"down to μ = {-_round_up(-bound, 3):.3g}"
    return f"up to {'|μ|' if which == 'LM' else 'μ'} = {_round_up(bound, 3):.3g}"


def _percent(fraction: float) -> str:
    """A fraction in percent, rounded up to two digits: a text must not claim more than the bound."""
    return f"{_round_up(100 * fraction, 2):.2g} %"


def _round_up(value: float, digits: int) -> float:
    """Round up to a number of significant digits, except for an excess that is rounding itself."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) + 1 - digits)
    return math.ceil(value / unit - 1e-6) * unit


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
