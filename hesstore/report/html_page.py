"""The page of a report: one HTML file that contains its data, its program and the plotting library.

The page's content security policy names each script that a browser may run by its digest, and forbids every network
request. So a text of the store that looks like markup cannot run anything.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html import escape
from importlib import metadata, resources
from string import Template
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.colors import to_hex

from hesstore.analysis.lost_classes import MARGIN
from hesstore.analysis.selection import matrix_name
from hesstore.errors import AnalysisError
from hesstore.plots import style
from hesstore.report.overlaps import overlap_data
from hesstore.report.page_data import run_data, store_data
from hesstore.report.provenance import provenance
from hesstore.store.schema import axis_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr


SCRIPTS = ("data.js", "smoothing.js", "figures.js", "curves.js", "tables.js", "downloads.js", "page.js")
_SERVER = re.compile(r"https?://(?=[A-Za-z0-9])(?!www\.w3\.org/)")
"""The beginning of an address; those of www.w3.org are names of XML namespaces."""

_SHADES = 11


def page(
    ds: xr.Dataset,
    title: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    overlap: bool = True,
) -> str:
    """Return the page of a store as HTML; the same store gives the same text.

    Parameters
    ----------
    ds : Dataset
        A store, which is read one run at a time.
    title : str
        The page's title and heading.
    progress : callable, optional
        Called with (grid points read, all grid points); with the overlap maps, each grid point counts twice.
    overlap : bool
        Whether the page has a map of the overlap of the top spans of each run, for which eigenvectors are read.

    Raises
    ------
    AnalysisError
        If plotly is not installed, or the store has no complete grid point.
    """
    library = _plotly()
    facts = store_data(ds)
    program = '"use strict";\n' + "".join(_asset(name) for name in SCRIPTS)
    blocks = []
    steps = _Steps(progress, len(facts["grid"]), len(facts["runs"]) * (2 if overlap else 1))
    for run in (run["id"] for run in facts["runs"]):
        data = run_data(ds, run, steps.next())
        data["overlap"] = overlap_data(ds, run, steps.next()) if overlap else None
        blocks.append(_block(f"run-{run}", _json(data)))
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        policy=" ".join(_digest(text) for text in (program, library)),
        style=_asset("page.css"),
        summary=escape(_summary(ds)),
        symbol=escape(facts["axis"]["symbol"]),
        **_matrix(ds),
        runs="".join(f"<li>{escape(_run_summary(run))}</li>" for run in facts["runs"]),
        provenance=_sections(provenance(ds)),
        version=escape(metadata.version("hesstore")),
        facts=_json({**facts, "look": _look()}).replace("<", "\\u003c"),
        blocks="\n".join([*blocks, _block("library", library)]),
        margin=f"{MARGIN:g}",
        program=program,
    )


def _matrix(ds: xr.Dataset) -> dict[str, str]:
    """Return how the page speaks of the matrix whose eigenpairs the store has."""
    name = matrix_name(ds)
    if name == "Hessian":
        return {"matrix": "H, the Hessian of E", "letter": "H", "kind": name}
    text = "G, the Gauss-Newton part of the Hessian of E, which has no negative eigenvalues"
    return {"matrix": text, "letter": "G", "kind": name}


def _plotly() -> str:
    """Return the plotting library as JavaScript, without addresses of servers, which its maps and its upload use."""
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra
    except ImportError:
        raise AnalysisError('a report needs plotly: pip install "hesstore[report]"') from None
    return _SERVER.sub("", get_plotlyjs())


class _Steps:
    """The progress of several readers of all grid points, one after the other, as the progress of the page."""

    def __init__(self, progress: Callable[[int, int], None] | None, points: int, steps: int) -> None:
        self._progress, self._points, self._total, self._before = progress, points, points * steps, -points

    def next(self) -> Callable[[int, int], None]:
        """Return the callback of the next reader; when it is called, all readers before it have finished."""
        self._before += self._points
        before = self._before

        def report(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(before + self._points * done // total, self._total)

        return report


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """Return the name of a script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


def _block(name: str, text: str) -> str:
    """Return ``text`` in gzip and base64, in an element that the page's program finds by its name."""
    packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return f'<script type="application/gzip" id="{name}">{packed}</script>'


def _look() -> dict[str, Any]:
    """Return the colours of the figures of :mod:`hesstore.plots`."""
    shades = colormaps[style.DIVERGING].reversed().resampled(_SHADES)
    lightness = colormaps[style.SEQUENTIAL].resampled(_SHADES)
    return {
        "classes": style.COLOURS,
        "diverging": [to_hex(shades(index)) for index in range(_SHADES)],
        "sequential": [to_hex(lightness(index)) for index in range(_SHADES)],
    }


def _summary(ds: xr.Dataset) -> str:
    axis = axis_of(ds)
    sizes = ds.sizes
    runs = (
        f"1 run with {sizes[axis]} grid points"
        if sizes["run"] == 1
        else (f"{sizes['run']} runs with {sizes[axis]} grid points each")
    )
    parameters = f"{sizes['param']:,} parameters, " if "param" in sizes else ""
    pairs = f"{sizes['mode']} eigenpairs per grid point" if "mode" in sizes else "no spectra (k = 0)"
    return f"{runs}; {parameters}{sizes['label']} classes, {pairs}"


def _run_summary(run: dict[str, Any]) -> str:
    """Return a line such as "run 0 (seed 0, up): 14 complete, 2 pending; all 14 spectra are complete to 0.3 %"."""
    counts = ", ".join(f"{number} {state}" for state, number in reversed(run["counts"].items()) if number)
    states = "; ".join(filter(None, (counts, run["spectra"])))
    store = f"{run['store']}, " if run["store"] else ""
    return f"run {run['id']} ({store}seed {run['seed']}, {run['direction']}): {states}"


def _sections(sections: dict[str, dict[str, str]]) -> str:
    """Return tables of names and values as HTML."""
    return "".join(
        f"<div><h3>{escape(name)}</h3><table><tbody>{''.join(map(_row, rows.items()))}</tbody></table></div>"
        for name, rows in sections.items()
    )


def _row(entry: tuple[str, str]) -> str:
    name, value = entry
    breakable = re.sub(r"(?<=[._])", "<wbr>", escape(name))  # long names break after a dot or an underscore
    return f'<tr><th scope="row">{breakable}</th><td>{escape(value)}</td></tr>'
