"""What all parts are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of what is measured.

    Parameters
    ----------
    rows : int
        Training digits.
    lambdas : int
        Most λ of a curve.
    repeats : int
        Rounds over the contestants; a median is over so many times, or fewer where a table says so.
    epochs : int
        Mean epochs at a λ in the prediction ``h100``.
    skip_original : bool
        Whether to leave out the original method where it takes minutes.
    device : str
        Where contestants compute.
    threads : int
        PyTorch's threads; 0 leaves them alone.
    hidden : tuple of int
        Widths of the network's hidden layers.
    k : int
        Number of eigenpairs.
    """

    rows: int = 8000
    lambdas: int = 8
    repeats: int = 5
    epochs: int = 12
    skip_original: bool = False
    device: str = "cpu"
    threads: int = 0
    hidden: tuple[int, ...] = (128, 128)
    k: int = 30
