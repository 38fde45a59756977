"""The settings that all parts of the benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The sizes of the problem, and how often and where it is measured.

    Parameters
    ----------
    rows : int
        Number of training digits.
    lambdas : int
        Largest number of grid points of a curve, an overlap map or an export.
    repeats : int
        Number of rounds. Each round times every implementation once, unless a table reports fewer.
    epochs : int
        Mean number of epochs per grid point in the prediction ``h100``.
    skip_original : bool
        Whether to leave out the original method where it takes minutes.
    device : str
        PyTorch device on which the implementations compute.
    threads : int
        Number of PyTorch threads; 0 leaves PyTorch's default.
    hidden : tuple of int
        Widths of the network's hidden layers.
    k : int
        Number of eigenpairs.
    """

    rows: int = 8000
    lambdas: int = 8
    repeats: int = 5
    epochs: int = 9
    skip_original: bool = False
    device: str = "cpu"
    threads: int = 0
    hidden: tuple[int, ...] = (128, 128)
    k: int = 30
