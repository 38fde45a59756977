"""Suggestions for mistyped words and for other names of a thing, for error messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SYNONYMS = {
    "batch": "batch_size",
    "bs": "batch_size",
    "config_file": "config",
    "cores": "threads",
    "data": "dataset",
    "data_path": "data_dir",
    "data_root": "data_dir",
    "decay": "l2",
    "delete": "overwrite",
    "force": "overwrite",
    "gpu": "device",
    "grid": "l2",
    "hidden_size": "hidden",
    "hidden_sizes": "hidden",
    "j": "workers",
    "jobs": "workers",
    "lambda": "l2",
    "lambdas": "l2",
    "layers": "hidden",
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "max_iter": "max_matvecs",
    "network": "model",
    "njobs": "workers",
    "n_jobs": "workers",
    "num_epochs": "epochs",
    "num_workers": "workers",
    "out": "output",
    "precision": "dtype",
    "processes": "workers",
    "procs": "workers",
    "random_seed": "seeds",
    "reg": "l2",
    "regularisation": "l2",
    "regularization": "l2",
    "seed": "seeds",
    "strengths": "l2",
    "tolerance": "tol",
    "wd": "l2",
    "weight_decay": "l2",
    "width": "hidden",
    "widths": "hidden",
}
"""Names that other programs give to a setting or an option, and its name here."""


def synonym_of(word: str, known: Iterable[str]) -> str | None:
    """Return the one of the ``known`` names for which another program says ``word``; None if no one is."""
    name = word.lstrip("-").replace("-", "_").lower()
    meant = SYNONYMS.get(name)
    return next((each for each in known if each.lstrip("-").replace("-", "_") == meant), None) if meant else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown ``word``: the most similar known word, or an empty string.

    Examples
    --------
    >>> did_you_mean("quickstrat", ["paper", "quickstart"])
    '; did you mean quickstart?'
    >>> did_you_mean("learning_rate", ["l2", "lr"])
    '; did you mean lr?'
    >>> did_you_mean("fast", ["paper", "quickstart"])
    ''
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word).lower(), by_lower, n=1)
    meant = synonym_of(str(word), by_lower.values()) or (by_lower[near[0]] if near else None)
    return f"; did you mean {meant}?" if meant else ""
