"""The page of a report: HTML that carries its data, its plots' library and its program.

What a browser runs is named in the page's content security policy by its digest. So a text of the store that would be
markup could start nothing, and nothing can be asked of a network.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from html import escape
from importlib import metadata, resources
from string import Template
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.colors import to_hex

from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.report.data import of_run, overview
from hesstore.report.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr


SCRIPTS = ("data.js", "figures.js", "tables.js", "page.js")
_SHADES = 11


def page(ds: xr.Dataset, title: str, progress: Callable[[int, int], None] | None = None) -> str:
    """The page of a store; the same store gives the same text.

    Parameters
    ----------
    ds : Dataset
        A store. It is read one run at a time.
    title : str
        The page's title and heading.
    progress : callable, optional
        Is told (λ read, all λ).

    Raises
    ------
    AnalysisError
        If plotly is not installed, or no λ of the store is complete.
    """
    library = _plotly()
    facts = overview(ds)
    program = '"use strict";\n' + "".join(_asset(name) for name in SCRIPTS)
    runs = [run["id"] for run in facts["runs"]]
    count = len(facts["l2"])
    blocks = []
    for at, run in enumerate(runs):
        told = None if progress is None else _within(progress, at * count, count * len(runs))
        blocks.append(_block(f"run-{run}", _json(of_run(ds, run, told))))
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        policy=" ".join(_digest(text) for text in (program, library)),
        style=_asset("page.css"),
        summary=escape(_summary(ds)),
        runs="".join(f"<li>{escape(_progress(run))}</li>" for run in facts["runs"]),
        provenance=_sections(provenance(ds)),
        version=escape(metadata.version("hesstore")),
        facts=_json({**facts, "look": _look()}).replace("<", "\\u003c"),
        blocks="\n".join([*blocks, _block("library", library)]),
        program=program,
    )


def _plotly() -> str:
    """The library that draws, as JavaScript."""
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra
    except ImportError:
        raise AnalysisError('a report needs plotly: pip install "hesstore[report]"') from None
    text: str = get_plotlyjs()
    return text


def _within(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """As a content security policy names a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def _block(name: str, text: str) -> str:
    """``text`` as base64 of gzip, where the page's program finds it by name."""
    packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return f'<script type="application/gzip" id="{name}">{packed}</script>'


def _look() -> dict[str, Any]:
    """The colours of the pictures of :mod:`hesstore.plots`."""
    shades = colormaps[style.DIVERGING].reversed().resampled(_SHADES)
    return {"classes": style.COLOURS, "diverging": [to_hex(shades(index)) for index in range(_SHADES)]}


def _summary(ds: xr.Dataset) -> str:
    sizes = ds.sizes
    runs = "1 run" if sizes["run"] == 1 else f"{sizes['run']} runs"
    parameters = f" of {sizes['param']:,} parameters" if "param" in sizes else ""
    return f"{runs} × {sizes['l2']} λ, {sizes['mode']} eigenpairs{parameters}, {sizes['label']} classes"


def _progress(run: dict[str, Any]) -> str:
    """«run 0 (seed 0, up): 14 complete, 2 pending»."""
    counts = ", ".join(f"{number} {state}" for state, number in reversed(run["counts"].items()) if number)
    return f"run {run['id']} (seed {run['seed']}, {run['direction']}): {counts}"


def _sections(sections: dict[str, dict[str, str]]) -> str:
    """Tables of names and values."""
    return "".join(
        f"<div><h3>{escape(name)}</h3><table><tbody>{''.join(map(_row, rows.items()))}</tbody></table></div>"
        for name, rows in sections.items()
    )


def _row(entry: tuple[str, str]) -> str:
    name, value = entry
    return f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
