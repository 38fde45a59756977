"""The grammar of λ, or of another quantity such as the training step, and of the run in the names of files.

A label such as ``l2``, ``wd`` or ``step`` begins at a word boundary, its number follows, and the number ends at a
separator. A name that a reader could understand in two ways is an error that lists the candidates: a wrong value is
worse than none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from hesstore.config.l2_grid import AXIS
from hesstore.errors import ImportFilesError

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINTS = (".pth.tar", ".pth", ".pt", ".ckpt", ".safetensors")
"""The endings of files with weights."""

KINDS_OF = {
    "Hessian-eigenvalues": "eigenvalues",
    "Hessian-eigenvectors": "eigenvectors",
    "GGN-eigenvalues": "eigenvalues",
    "GGN-eigenvectors": "eigenvectors",
    "gradients": "gradients",
    "model_weights": "weights",
}
"""The kind of a file that hesstore or the original scripts wrote, by the beginning of its name."""

_START = r"(?<![^\W_])"  # no letter and no digit before
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_END = r"(?=$|[-_\s=()\[\];]|,(?![0-9])|\.(?![0-9]))"
_JOIN = r"[-_=:(\s]?"
_L2_LABEL = r"l2(?:[-_]?(?:strength|lambda|penalty|reg))?|lambda|lmbda|lam|λ|weight[-_]?decay|wd|regulari[sz]ation|reg"
_RUN_LABEL = r"seed|run"
_LABELS = {
    AXIS: _L2_LABEL,
    "step": r"(?:global[-_]?)?steps?|iterations?|iters?|it",
    "epoch": r"epochs?|ep",
}
"""The labels of a quantity in names; another one has its own name as its label."""
_LABELLED_RUN = re.compile(rf"{_START}({_RUN_LABEL})({_JOIN})(?=[+-]?\.?[0-9])", re.IGNORECASE)
_SERIES = r"(?:-(\[[^\]]*\]))?"  # the published files of a path between two minima end so
_CLASSIC = re.compile(rf"({'|'.join(KINDS_OF)})-([0-9]+)-({_NUMBER}){_SERIES}")
_TEXT = re.compile(r"\.csv(?:\.gz|\.zst)?$")
_TABLE = re.compile(r"(.*?)(_split_accurac(?:y|ies))?")
_MODEL = re.compile(r"Model-([0-9]+)")
_LAST_NUMBER = re.compile(r"(?<!_to)_([0-9]+)$")
_REAL = re.compile(rf"({_NUMBER}){_END}")
_WHOLE = re.compile(rf"([0-9]+){_END}")
_ALONE = re.compile(rf"(?<![^-_\s()\[\];])({_NUMBER}){_END}")
_OTHER_QUANTITY = re.compile(
    rf"{_START}(?:l1|lr|eta|acc|accuracy|val|valid|test|train|loss|err|error|epochs?|ep|steps?|it|iters?|iteration|batch|bs"
    r"|momentum|dropout|top|fold|layers?|width|hidden|k|v|version|temp|gamma|beta|sigma|noise)[-_\s]$",
    re.IGNORECASE,
)
_L2_BEFORE = re.compile(rf"{_START}(?:{_L2_LABEL})[-_=:\s]$", re.IGNORECASE)
_MORE_DIGITS = re.compile(r"[-_\s]([0-9]+)(?![0-9.eE])")
_CHUNK = re.compile(r"[^_\s]+")


class NameParts(NamedTuple):
    """The run in the name of a file, and the value on the grid as it is written there."""

    run: int
    value: str


class ClassicName(NamedTuple):
    """The parts of a name such as ``gradients-ID-L2.csv``; ``series`` is a suffix such as ``[3_to_4]``, or empty."""

    kind: str
    run: int
    l2: str
    series: str


class TableName(NamedTuple):
    """The parts of the name ``Model-ID….csv`` of a table of losses and accuracies."""

    run: int
    has_classes: bool


class OtherTableName(NamedTuple):
    """The parts of another name of such a table: its number, if it has one, and the name without the number."""

    number: int | None
    has_classes: bool
    series: str


def parse_classic_name(path: Path) -> ClassicName | None:
    """Return the parts of a name such as ``gradients-ID-L2.csv``, or None if the name has another form."""
    is_text = bool(_TEXT.search(path.name))
    stem = _TEXT.sub("", path.name) if is_text else stem_of(path)
    match = _CLASSIC.fullmatch(stem)
    if match is None or is_text == (KINDS_OF[match[1]] == "weights") or not (is_text or is_checkpoint(path)):
        return None
    return ClassicName(KINDS_OF[match[1]], int(match[2]), match[3], match[4] or "")


def parse_table_name(path: Path) -> TableName | None:
    """Return the parts of the name ``Model-ID.csv`` or ``Model-ID_split_accuracy.csv``; None for another form."""
    parts = _TABLE.fullmatch(_TEXT.sub("", path.name)) if _TEXT.search(path.name) else None
    model = _MODEL.fullmatch(parts[1]) if parts else None
    return TableName(int(model[1]), bool(parts[2])) if parts and model else None


def parse_other_table_name(path: Path) -> OtherTableName:
    """Return the parts of any other name of a table; its number follows ``run``, ``seed`` or the last ``_``.

    Raises
    ------
    ImportFilesError
        If the name has several numbers after ``run`` or ``seed``.
    """
    parts = _TABLE.fullmatch(_TEXT.sub("", path.name))
    assert parts is not None  # noqa: S101 - the pattern matches every text
    name, has_classes = parts[1], bool(parts[2])
    number, rest = _read_run(path, name)
    if rest != name:
        return OtherTableName(number, has_classes, rest)
    if last := _LAST_NUMBER.search(name):
        return OtherTableName(int(last[1]), has_classes, name[: last.start()])
    return OtherTableName(None, has_classes, name)


def is_text_table(path: Path) -> bool:
    """Whether the name ends as those of text files with columns do."""
    return bool(_TEXT.search(path.name))


def parse_name(path: Path, axis: str = AXIS) -> NameParts:
    """Return the run in the name of a checkpoint and its value of the quantity ``axis``: λ, a step or another one.

    It is the number after a label of that quantity, such as ``l2`` or ``wd``, ``step`` or ``epoch``, or else the only
    number that stands alone. The run is the whole number after ``run`` or ``seed``, or else 0. Names such as
    ``model_weights-ID-L2.pth`` have both.

    Raises
    ------
    ImportFilesError
        If the name has no such number, several of them, or one that cannot be read.
    """
    if axis == AXIS and (classic := parse_classic_name(path)):
        return NameParts(classic.run, classic.l2)
    run, rest = _read_run(path, stem_of(path))
    label = _LABELS.get(axis, re.escape(axis))
    matches = re.finditer(rf"{_START}({label})({_JOIN})(?=[+-]?\.?[0-9])", rest, re.IGNORECASE)
    labelled = [(match, _read_after(path, rest, match, _REAL)) for match in matches]
    if axis == AXIS:
        for match, text in labelled:
            _refuse_split_number(path, rest, match, text)
    # The whole number in l20 or reg2 may also be part of the word.
    weak = [text for match, text in labelled if axis == AXIS and not match[2] and text.isdigit()]
    strong = [text for match, text in labelled if axis != AXIS or match[2] or not text.isdigit()]
    candidates = strong or [*weak, *_numbers_alone(rest, axis)]
    what = "λ" if axis == AXIS else f"the {axis}"
    if axis == AXIS and not labelled and len(candidates) == 1 and candidates[0].isdigit() and int(candidates[0]):
        raise ImportFilesError(
            f"{path}: {candidates[0]} in the name could be λ or the number of a file: write l2_ before λ, or pass "
            "--values A,B,…"
        )
    if len({float(each) for each in candidates}) > 1:
        raise ImportFilesError(
            f"{path}: the name has several numbers that could be {what}: {', '.join(candidates)}: "
            f"write {axis}_ before the right one, or pass --values A,B,…"
        )
    if not candidates:
        example = f"{axis}_{'0.001' if axis == AXIS else '100'}.pth"
        raise ImportFilesError(
            f"{path}: the name has no number that could be {what}: rename the file, as in {example}, or pass "
            "--values A,B,…"
        )
    return NameParts(run, candidates[0])


def run_in_name(path: Path) -> int:
    """Return the whole number after ``run`` or ``seed`` in a file name, or 0.

    Raises
    ------
    ImportFilesError
        If there are several numbers, or if one of them is not whole.
    """
    return _read_run(path, stem_of(path))[0]


def stem_of(path: Path) -> str:
    """Return the name of a checkpoint without its ending."""
    ending = next((each for each in CHECKPOINTS if path.name.lower().endswith(each)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def is_checkpoint(path: Path) -> bool:
    """Whether the name ends as those of files with weights do."""
    return path.name.lower().endswith(CHECKPOINTS)


def _read_run(path: Path, stem: str) -> tuple[int, str]:
    """The run, and the stem without what names it."""
    matches = list(_LABELLED_RUN.finditer(stem))
    found = [_read_after(path, stem, match, _WHOLE) for match in matches]
    if len({int(each) for each in found}) > 1:
        raise ImportFilesError(
            f"{path}: the name has several numbers that could be the run: {', '.join(found)}: rename the file"
        )
    for match, text in zip(reversed(matches), reversed(found), strict=True):
        stem = stem[: match.start()] + stem[match.end() + len(text) :]
    return (int(found[0]) if found else 0), stem


def _read_after(path: Path, stem: str, label: re.Match[str], number: re.Pattern[str]) -> str:
    """The number that follows a label, or an error that quotes what follows."""
    if match := number.match(stem, label.end()):
        return match[1]
    chunk = _CHUNK.match(stem, label.end())
    text = chunk[0] if chunk else ""
    what = "a whole number" if number is _WHOLE else "a number as 0.001 or 1e-3"
    raise ImportFilesError(f"{path}: {text!r} after {label[1]!r} in the name is not {what}: rename the file")


def _refuse_split_number(path: Path, stem: str, label: re.Match[str], text: str) -> None:
    """Raise :class:`ImportFilesError` for 0_001, in which a separator may stand for the decimal point."""
    after = _MORE_DIGITS.match(stem, label.end() + len(text))
    if label[2] and text.isdigit() and after:
        raise ImportFilesError(
            f"{path}: {text + after[0]!r} after {label[1]!r} in the name could be {text} or {text}.{after[1]}: "
            "rename the file, as in l2_0.001.pth"
        )


def _numbers_alone(stem: str, axis: str) -> list[str]:
    """The numbers between separators, except those after the name of another quantity."""
    numbers = ((match[1], stem[: match.start()]) for match in _ALONE.finditer(stem))
    return [
        number
        for number, before in numbers
        if not before.endswith("=")
        and not _OTHER_QUANTITY.search(before)
        and not (axis != AXIS and _L2_BEFORE.search(before))
    ]
