from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from hesstore.dataset.completeness import SpectrumSettings
from hesstore.store import Status

SETTINGS = SpectrumSettings(k=3, which="LM", slack=0.003, dtype="float32")
NAN, INF = math.nan, math.inf
MIXED = (
    "1 of 5 spectra is complete to 0.3 %; 1 to 0.4 %; 2 may lack eigenvalues up to |μ| = 2; the other has no bound on "
    "further eigenvalues"
)


@pytest.mark.parametrize(
    ("which", "eigenvalues", "bound", "fraction", "text"),
    [
        ("LM", [5, -2, 1], 1.003, 0.003, "complete to 0.3 %"),
        ("LM", [5, -2, 1], 1.00301, 0.00301, "complete to 0.31 %"),  # rounded up: never more than the bound says
        ("LM", [5, -2, -1], 1, 0, "complete"),
        ("LM", [5, -2, 1], 0.7, 0, "complete"),
        ("LM", [5, 2, -0.0098], 0.01221, 0.2459, "further eigenvalues up to |μ| = 0.0123 are possible (3rd: 0.0098)"),
        ("LM", [5, 2, 1e-7], 1.0001e-7, None, "further eigenvalues up to |μ| = 1.01e-07 are possible (3rd: 1e-07)"),
        ("LM", [0, 0, 0], 0, None, "further eigenvalues up to |μ| = 0 are possible (3rd: 0)"),
        ("LM", [5, 2, NAN], INF, None, "further eigenvalues of any size are possible (2nd: 2)"),
        ("LM", [5, 2, 1], NAN, None, "no bound on further eigenvalues"),
        ("LA", [5, -1, -2], -1.99, 0.005, "complete to 0.5 %"),
        ("LA", [5, 1, -2], -0.5, 0.75, "further eigenvalues up to μ = -0.5 are possible (3rd: -2)"),
        ("SA", [-5, -2, 1], 0.998, 0.002, "complete to 0.2 %"),
        ("SA", [-5, -2, -1], -1.5003, 0.5003, "further eigenvalues down to μ = -1.51 are possible (3rd: -1)"),
        ("SA", [-5, -2, 1], INF * -1, None, "further eigenvalues of any size are possible (3rd: 1)"),
    ],
)
def test_the_completeness_of_a_spectrum(
    which: str, eigenvalues: list[float], bound: float, fraction: float | None, text: str
) -> None:
    found = replace(SETTINGS, which=which).completeness(np.array(eigenvalues, float), bound)
    assert found is not None
    assert found.text == text
    assert found.fraction == (None if fraction is None else pytest.approx(fraction, rel=1e-3))


def test_eigenvalues_that_are_zero_to_rounding_depend_on_the_precision() -> None:
    eigenvalues = np.array([5, 2, 1e-7])
    found = replace(SETTINGS, dtype="float64").completeness(eigenvalues, 1.002e-7)
    assert found is not None
    assert found.text == "complete to 0.2 %"


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ([1.003] * 4, "all 4 spectra are complete to 0.3 %"),
        ([1], "the spectrum is complete to 0.3 %"),
        ([1, 1.0045, 1.004, 1.003], "2 of 4 spectra are complete to 0.3 %; the others to at most 0.45 %"),
        ([1, 1, 1.004], "2 of 3 spectra are complete to 0.3 %; the other to 0.4 %"),
        ([1.004, 1.02], "all 2 spectra are complete to 2 %"),
        ([1, 1.2, 1.4], "1 of 3 spectra is complete to 0.3 %; the others may lack eigenvalues up to |μ| = 1.4"),
        ([1.5], "the spectrum may lack eigenvalues up to |μ| = 1.5"),
        ([NAN, INF], "all 2 spectra have no bound on further eigenvalues"),
        ([1, 1.004, 1.5, 2, NAN], MIXED),
    ],
)
def test_the_summary_of_several_spectra(bounds: list[float], text: str) -> None:
    """Grid points that are not complete, and imported ones without a spectrum, are not counted."""
    count = len(bounds) + 2
    eigenvalues = np.tile([5.0, -2.0, 1.0], (count, 1))
    eigenvalues[-1] = NAN
    status = np.full(count, Status.COMPLETE)
    status[-2] = Status.FITTED
    ds = xr.Dataset(
        {
            "status": ("l2", status),
            "eigenvalues": (("mode", "l2"), eigenvalues.T),
            "eigenvalue_bound": ("l2", [*bounds, NAN, NAN]),
        }
    )
    summary = SETTINGS.summary(SETTINGS.spectra(ds))
    assert summary is not None
    assert summary.text == text
    assert summary.total == len(bounds) == summary.complete + summary.close + summary.loose + summary.unbounded
    assert SETTINGS.summary(SETTINGS.spectra(ds.isel(l2=[-1, -2]))) is None
