"""Feed changed files to the commands that read files, for a limited time.

::

    python -m tests.chaos.fuzz --seconds 600 --seed 7

Each case changes one file: a table, a vector, a checkpoint, a manifest, an IDX file, the metadata or a chunk of a
store, a packed store or a config file. A command then reads it. The case fails if the command ends with a traceback or
an undocumented exit status, if it takes more than 1 GB of memory, if code in the file runs, or if the command accepts
the file and its results are not those that an independent reader finds in it. All cases come from one seed.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import tomllib
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import hesstore
from hesstore import durable_files
from hesstore.errors import HesstoreError
from hesstore.problem.idx_files import read_idx
from hesstore.store.decoding import is_decoding_error
from hesstore_cli.exit_status import ExitStatus
from hesstore_cli.main import run
from tests.support.export_stores import make_store
from tests.support.idx_files import write_idx

MEMORY = 1 << 30
_TOKENS = (
    *(
        b"nan",
        b"1e999",
        b"-1",
        b"{}",
        b"[]",
        b"null",
        b"9" * 30,
        b"\x00",
        b"\xff\xfe",
        b"../",
        b"/etc/passwd",
        b"\x1b[2J",
    ),
    *(
        b"<script>alert(1)</script>",
        b"1_5",
        b"0x10",
        b",",
        b"\r",
        b"\n\n",
        b'"',
        b"\xef\xbb\xbf",
        b"\xc2\xa0",
        b"e",
        b".",
        b"=-",
    ),
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1e308,
    "",
    "x",
    "../x",
    "\x1b[2J",
    [],
    {},
    [[]],
    [10**9, 10**9],
    "<b>",
)

Command = tuple[list[str], Callable[[str], None]]


class WrongError(Exception):
    """A command accepted a changed file, and its results are not those in the file."""


@dataclass
class Report:
    """What happened: the number of cases by kind and exit status, and the failures."""

    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, kind: str, status: int) -> None:
        """Count a case."""
        found = self.counts.setdefault(kind, {})
        found[status] = found.get(status, 0) + 1


# -- changes ------------------------------------------------------------------------------------------------------


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, insert, delete, repeat or replace some bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(len(changed) + 1)
        stop = min(len(changed), start + rng.choice((1, 1, 4, 30, 300)))
        match rng.randrange(6):
            case 0 if start < len(changed):
                changed[start] ^= 1 << rng.randrange(8)
            case 1:
                changed[start:stop] = rng.randbytes(stop - start)
            case 2:
                del changed[start:stop]
            case 3:
                changed[start:start] = changed[start:stop]
            case 4:
                changed[start:start] = rng.choice(_TOKENS)
            case 5:
                changed[start:stop] = rng.choice(_TOKENS)
    return bytes(changed[: rng.randrange(len(changed) + 1)]) if rng.random() < 0.1 else bytes(changed)


def change_lines(data: bytes, rng: random.Random) -> bytes:
    """Exchange, repeat or drop lines or cells of a text."""
    separator = rng.choice((b"\n", b","))
    parts = data.split(separator)
    one, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    match rng.randrange(4):
        case 0:
            parts[one], parts[other] = parts[other], parts[one]
        case 1:
            parts[one] = parts[other]
        case 2:
            parts.insert(one, parts[other])
        case 3:
            del parts[one]
    return separator.join(parts)


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Replace or remove a value at a random place of a JSON text, also of one within a string."""
    try:
        root = json.loads(data)
    except ValueError:
        return change_bytes(data, rng)
    place: Any = root
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return change_bytes(data, rng)
        key = rng.choice(keys)
        value = place[key]
        if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
            place = value
            continue
        if isinstance(value, str) and value.startswith(("{", "[")) and rng.random() < 0.8:
            place[key] = change_json(value.encode(), rng).decode(errors="replace")
        elif rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(_VALUES)
        return json.dumps(root).encode()


# -- files --------------------------------------------------------------------------------------------------------


class Code:
    """A pickle that runs code when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


class Files:
    """The sound files of all kinds, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.canary = folder, folder / "canary"
        make_store(folder / "s.zarr")
        self.exported = folder / "exported"
        for arguments in (
            ("export", folder / "s.zarr", "-o", self.exported),
            ("export", folder / "s.zarr", "--format", "zip", "-o", folder / "s.zarr.zip"),
        ):
            assert run([*map(str, arguments)]) == 0
        (folder / "evil.py").write_text(f"import os\nos.mkdir({str(self.canary)!r})\n")
        self.sound = {path.name: path.read_bytes() for path in self.exported.iterdir()}
        self._write_checkpoints()
        images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
        write_idx(folder / "plain", images)
        write_idx(folder / "packed", images, compressed=True)

    def _write_checkpoints(self) -> None:
        state = torch.load(self.exported / "model_weights-0-0.01000.pth", weights_only=True)
        self.checkpoints: list[tuple[str, bytes]] = []
        for name, saved in (
            ("plain.pth", state),
            ("nested.pth", {"model": {"state_dict": state}, "epoch": 3, "note": "x"}),
            ("code.pth", {"state_dict": state, "extra": Code(self.canary)}),
        ):
            for legacy in (False, True):
                buffer = io.BytesIO()
                torch.save(saved, buffer, _use_new_zipfile_serialization=not legacy)
                self.checkpoints.append((name, buffer.getvalue()))
        self.checkpoints.append(("pickle.pth", pickle.dumps(Code(self.canary))))
        save_file(state, self.folder / "w.safetensors")
        self.checkpoints.append(("w.safetensors", (self.folder / "w.safetensors").read_bytes()))
        array = io.BytesIO()
        np.save(array, np.arange(6.0))
        self.checkpoints.append(("a.npy", array.getvalue()))


# -- cases --------------------------------------------------------------------------------------------------------


class Fuzzer:
    """Runs cases in ``folder``."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.report = folder, seed, Report()
        durable_files._sync = lambda path: None  # noqa: ARG005 - no power loss is tested
        self.files = Files(folder)
        self.kinds = (
            *(self.table, self.checkpoint, self.idx, self.config, self.metadata, self.checkpoint, self.idx),
            *(self.config, self.chunk, self.checkpoint, self.packed, self.idx, self.config, self.manifest),
        )

    def run_case(self, number: int) -> None:
        """Run a case; its number and the seed decide everything."""
        rng = random.Random(f"{self.seed}/{number}")  # noqa: S311 - not for secrets
        kind = self.kinds[number % len(self.kinds)]
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        said = ""
        try:
            said = kind(work, rng)
        except Exception:  # noqa: BLE001 - any is a failure
            said = traceback.format_exc()
        if self.files.canary.exists():
            self.files.canary.rmdir()
            said = f"{said}\ncode in the file was run"
        if said:
            self.report.failures.append(f"{kind.__name__} {number}: {said}")
            shutil.copytree(work, self.folder / f"failed-{self.seed}-{number}", dirs_exist_ok=True)

    def command(self, kind: str, *arguments: object) -> tuple[int, str, str]:
        """Run a command; return its exit status, its standard output, and what is wrong with its end."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = int(run([*map(str, arguments)]))
        self.report.count(kind, status)
        told = err.getvalue()
        wrong = ""
        if status not in set(ExitStatus):
            wrong = f"exit status {status}"
        if "Traceback" in told or "not enough memory" in told:
            wrong = told
        lines = told.splitlines()
        if (
            status in {1, 2, 3, 5}
            and arguments[0] not in {"verify", "diff"}
            and not (lines and lines[-1].startswith("hesstore: "))
        ):
            wrong = f"exit status {status} without a message: {told!r}"
        if "\x1b" in told or "\x1b" in out.getvalue():
            wrong = f"a terminal escape: {told!r} {out.getvalue()!r}"
        return status, out.getvalue(), wrong

    # -- imports

    def import_folder(self, work: Path) -> tuple[int, str]:
        """Import the files; a store that was made must be sound."""
        status, _, wrong = self.command("import", "import", work / "in", work / "made.zarr")
        if status == 0:
            verified, text, _ = self.command("verify", "verify", work / "made.zarr")
            if verified != 0:
                return status, f"the import made a store that is not sound: {text}"
        elif (work / "made.zarr").exists():
            return status, "a store stays after an error"
        return status, wrong

    def table(self, work: Path, rng: random.Random) -> str:
        """Change a CSV file of an export, and import all."""
        shutil.copytree(self.files.exported, work / "in", ignore=shutil.ignore_patterns("manifest.jsonl"))
        names = sorted(name for name in self.files.sound if name.endswith(".csv"))
        path = work / "in" / rng.choice(names)
        change = rng.choice((change_bytes, change_lines))
        data = change(path.read_bytes(), rng)
        path.write_bytes(gzip.compress(data) if rng.random() < 0.1 else data)
        status, wrong = self.import_folder(work)
        if status == 0 and not wrong:
            check_text(data, path.name, work / "made.zarr")
        return wrong

    def checkpoint(self, work: Path, rng: random.Random) -> str:
        """Change a checkpoint, and import it."""
        name, data = rng.choice(self.files.checkpoints)
        suffix = ".safetensors" if name.endswith(".safetensors") else ".pth"
        (work / "in").mkdir()
        path = work / "in" / f"model_weights-0-0.01000{suffix}"
        path.write_bytes(change_bytes(data, rng) if rng.random() < 0.9 else data)
        status, wrong = self.import_folder(work)
        if status == 0 and not wrong:
            check_weights(path, work / "made.zarr")
        return wrong

    def manifest(self, work: Path, rng: random.Random) -> str:
        """Change the manifest, and import all, or export again into the folder."""
        shutil.copytree(self.files.exported, work / "in")
        path = work / "in" / "manifest.jsonl"
        header, *entries = path.read_bytes().splitlines(keepends=True)
        if rng.random() < 0.2:
            header = header.replace(b'"mnist-5k', b'"evil:code').replace(b'\\"mnist-5k', b'\\"evil:code')
        if rng.random() < 0.5:
            data = change_json(header, rng) + b"\n" + b"".join(entries)
        else:
            data = change_bytes(header + b"".join(entries), rng)
        path.write_bytes(data)
        if rng.random() < 0.3:
            return self.command("export", "export", self.folder / "s.zarr", "-o", work / "in")[2]
        return self.import_folder(work)[1]

    # -- stores

    def read_store(self, store: Path, work: Path, rng: random.Random) -> str:
        """Read a store by one of the commands; an export that works must be that of the sound store."""
        match rng.randrange(8):
            case 0 | 1 | 2:
                status, _, wrong = self.command("export", "export", store, "-o", work / "out")
                if status == 0 and not wrong:
                    check_export(work / "out", self.files.sound)
            case 3:
                wrong = self.command("info", "info", store, *rng.choice(([], ["--json"], ["--provenance"], ["--all"])))[
                    2
                ]
            case 4:
                wrong = self.command("status", "status", store)[2]
            case 5:
                wrong = self.command(
                    "verify", "verify", store, *(["--repair"] if store.is_dir() and rng.random() < 0.5 else [])
                )[2]
            case 6:
                wrong = self.command("list", "list", store.parent)[2]
            case _:
                wrong = ""
                try:
                    with hesstore.open(store, check=True) as ds:
                        repr(ds)
                        ds.load()
                except HesstoreError:
                    pass
                except (ValueError, RuntimeError) as error:  # a lazy Dataset reads a chunk only now
                    if not is_decoding_error(error):
                        raise
        return wrong

    def metadata(self, work: Path, rng: random.Random) -> str:
        """Change a file with metadata of a store."""
        store = work / "s.zarr"
        shutil.copytree(self.folder / "s.zarr", store)
        path = rng.choice((store / "zarr.json", rng.choice(sorted(store.rglob("zarr.json")))))
        data = path.read_bytes()
        path.write_bytes(change_json(data, rng) if rng.random() < 0.7 else change_bytes(data, rng))
        return self.read_store(store, work, rng)

    def chunk(self, work: Path, rng: random.Random) -> str:
        """Change a chunk of a store."""
        store = work / "s.zarr"
        shutil.copytree(self.folder / "s.zarr", store)
        path = rng.choice(
            sorted(each for each in store.rglob("*") if each.is_file() and f"{os.sep}c{os.sep}" in str(each))
        )
        path.write_bytes(change_bytes(path.read_bytes(), rng))
        return self.read_store(store, work, rng)

    def packed(self, work: Path, rng: random.Random) -> str:
        """Change a packed store, as a file or one of its members."""
        store, data = work / "s.zarr.zip", (self.folder / "s.zarr.zip").read_bytes()
        if rng.random() < 0.5:
            store.write_bytes(change_bytes(data, rng))
            return self.read_store(store, work, rng)
        with zipfile.ZipFile(io.BytesIO(data)) as sound, zipfile.ZipFile(store, "w", zipfile.ZIP_DEFLATED) as changed:
            names = sound.namelist()
            chosen = rng.choice(names)
            for name in names:
                content = sound.read(name)
                if name == chosen:
                    content = (change_json if name.endswith(".json") else change_bytes)(content, rng)
                    name = rng.choice((name, name, name, f"../{name}", f"/{name}", f"a\\{name}"))  # noqa: PLW2901
                changed.writestr(name, content)
            if rng.random() < 0.1:
                changed.writestr("zeros", bytes(1 << 24))
        return self.read_store(store, work, rng)

    # -- others

    def config(self, work: Path, rng: random.Random) -> str:
        """Change a config file."""
        data = (
            b'dataset = "mnist-5k"\nhidden = [20, 20]\nl2 = "0:0.1:16"\nk = 5\nlr = 1e-3\nseeds = [0, 1]\n'
            b'direction = "both"\npolish = 3\ndensity = true\n'
        )
        path = work / "c.toml"
        path.write_bytes(rng.choice((change_bytes, change_lines))(data, rng))
        status, out, wrong = self.command("config", "config", "--config", path)
        if status == 0 and not wrong:
            given, printed = tomllib.loads(path.read_text()), tomllib.loads(out)
            for name, value in given.items():
                if name != "l2" and str(printed[name]) not in {str(value), str([value]), str(value).lower()}:
                    if isinstance(value, (int, float)) and float(printed[name]) == float(value):
                        continue
                    raise WrongError(f"{name} = {value!r} became {printed[name]!r}")
        return wrong

    def idx(self, work: Path, rng: random.Random) -> str:
        """Change an IDX file."""
        path = work / "file"
        path.write_bytes(change_bytes((self.folder / rng.choice(("plain", "packed"))).read_bytes(), rng))
        try:
            found = read_idx(path)
        except HesstoreError as error:
            self.report.count("idx", ExitStatus.of(error))
            return "" if "\n" not in str(error) else str(error)
        self.report.count("idx", 0)
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        axes = data[3]
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        if found.shape != shape or found.tobytes() != data[4 + 4 * axes :]:
            raise WrongError("the array is not that of the file")
        return ""


# -- independent readers ----------------------------------------------------------------------------------------------


def check_text(data: bytes, name: str, store: Path) -> None:
    """Raise :class:`WrongError` unless the numbers of a changed CSV file are those in the store."""
    lines = [line.strip() for line in data.decode("utf-8-sig").replace("\r", "\n").split("\n") if line.strip()]
    with hesstore.open(store, chunked=False) as ds:
        if name.startswith("Model-"):
            heads = [head.strip() for head in lines[0].split(",")]
            for line in lines[1:]:
                row = dict(zip(heads, line.split(","), strict=True))
                point = ds.sel(run=0, l2=float(row["L2_strength"]))
                for head, found in (
                    ("Train_Loss", point.loss.sel(split="train")),
                    ("Test_Loss", point.loss.sel(split="test")),
                ):
                    if head in row:
                        _compare(float(row[head] or "nan"), float(found), head)
            return
        point = ds.sel(run=0, l2=float(name.removesuffix(".csv").rpartition("-")[2]))
        if name.startswith("Hessian-eigenvalues"):
            _compare(sorted(map(float, lines)), sorted(point.eigenvalues.values), name)
        elif name.startswith("Hessian-eigenvectors"):
            rows = np.array([[float(cell) for cell in line.split(",")] for line in lines])
            _compare(np.sort(np.abs(rows).ravel()), np.sort(np.abs(point.eigenvectors.values).ravel()), name)
        elif name.startswith("gradients"):
            values = [float(cell) for line in lines for cell in line.partition(":")[2].split(",")]
            _compare(values, point.gradient.values, name)


def check_weights(path: Path, store: Path) -> None:
    """Raise :class:`WrongError` unless the weights in the store are those that PyTorch or safetensors finds."""
    if path.suffix == ".pth":
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        while not all(isinstance(value, torch.Tensor) for value in loaded.values()):
            loaded = next(value for value in loaded.values() if isinstance(value, dict))
    else:
        loaded = load_file(path)
    with hesstore.open(store, chunked=False) as ds:
        found = ds.weights.isel(run=0, l2=0).values
    _compare(np.concatenate([value.float().numpy().ravel() for value in loaded.values()]), found, path.name)


def check_export(folder: Path, sound: dict[str, bytes]) -> None:
    """Raise :class:`WrongError` if an exported file differs from that of the sound store."""
    for path in folder.iterdir():
        if path.suffix == ".csv" and path.name in sound and path.read_bytes() != sound[path.name]:
            raise WrongError(f"{path.name} differs from the sound one")


def _compare(expected: Any, found: Any, name: str) -> None:
    if not np.allclose(np.asarray(expected, float), np.asarray(found, float), rtol=1e-6, atol=0, equal_nan=True):
        raise WrongError(f"{name}: {expected!r} became {found!r}")


def limit_memory() -> None:
    """Let this process take at most 1 GB more than it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def main() -> int:
    """Run cases until the time is over; print the counts and the failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="time after which no further case begins")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--folder", type=Path, help="where the files of failed cases stay")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        fuzzer = Fuzzer(folder, options.seed)
        limit_memory()
        number = options.first
        while time.monotonic() < end:
            fuzzer.run_case(number)
            number += 1
        report = fuzzer.report
    sys.stdout.write(f"{number - options.first} cases: {json.dumps(report.counts)}\n")
    for failure in report.failures:
        sys.stdout.write(f"{failure}\n")
    sys.stdout.write(f"{len(report.failures)} failures\n")
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
