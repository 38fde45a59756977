"""Kill a sweep repeatedly: ``python -m tests.support.kills FOLDER``.

It runs in a process of its own, because its children are forks.

Each child is a sweep that is killed by SIGKILL: by itself at a chosen step of a chosen write, or by its parent at a
random moment. After each kill a reader checks the store, and the next child resumes the sweep.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import hesstore.engine.sweep
from hesstore import durable_files
from hesstore.autodiff.tracing import trace_graph
from hesstore.config import SweepConfig
from hesstore.integrity.verify import verify
from tests.support.sweeps import TIMES, results
from tests.support.toy import TOY

CONFIG = {**TOY, "direction": "both", "epochs": 2, "l2": "0,0.001,0.05"}
STEPS = ("write", "fsync", "rename", "done")
PLACES = ("eigenvectors/c", "gradient/c", "weights/c", "loss/c", "entries_digest/c", "/digest/c", "status/c")
RANDOM_STEPS, RANDOM_MOMENTS = 3, 2


def sweep(store: Path) -> None:
    """Run the whole sweep in this process."""
    torch.set_num_threads(1)
    hesstore.engine.sweep.run_sweep(SweepConfig.from_mapping(CONFIG), store)


def run_child(store: Path, *, place: str = "", step: str = "", count: int = 0, seconds: float | None = None) -> bool:
    """Run a sweep in a fork; kill it before the ``count``-th ``step`` of a write to a path that contains ``place``.

    Returns whether it was killed. It may have finished before.
    """
    pid = os.fork()
    if pid == 0:
        left = count

        def observe(at: str, path: Path) -> None:
            nonlocal left
            if (not step or at == step) and place in str(path):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        if count:
            durable_files.observe = observe
        try:
            sweep(store)
        except BaseException as error:  # noqa: BLE001 - a forked child must not continue
            print(f"child: {error!r}", file=sys.stderr)  # noqa: T201
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def check(store: Path, reference: Path) -> int:
    """Check in a fork that a reader finds each grid point complete and right, or not complete. Returns the number."""
    pid = os.fork()
    if pid == 0:
        os._exit(_count(store, reference))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert 0 <= code < 200, f"the reader failed: {code}"
    return code


def _count(store: Path, reference: Path) -> int:
    try:
        if not store.exists():
            return 0
        report = verify(store)
        assert report.ok, list(map(str, report.problems))  # a kill damages nothing
        found, right = results(store), results(reference)
        complete = found["status"].values == 2
        fitted = found["status"].values >= 1
        for name in sorted(set(map(str, found)) - {*TIMES, "status", "digest", "failure"}):
            values, expected = found[name].values, right[name].values
            seen = fitted if name in {"weights", "loss", "accuracy", "confusion", "epochs"} else complete
            np.testing.assert_array_equal(values[seen], expected[seen], err_msg=name)  # a NaN is a NaN
        assert (found["digest"].values[complete] == right["digest"].values[complete]).all()
        return int(complete.sum())
    except BaseException as error:  # noqa: BLE001 - as above
        print(f"reader: {error!r}", file=sys.stderr)  # noqa: T201
        return 255


def plans() -> Iterator[dict[str, object]]:
    """When to kill: at two of the steps of each kind of write, while the template is made, and at random."""
    rng = random.Random(0)  # noqa: S311 - not for secrets
    for index, place in enumerate(PLACES):
        for step in STEPS[index % 2 :: 2]:
            yield {"place": place, "step": step, "count": rng.randint(1, 3)}
    for count in (1, 7, 100):
        yield {"place": ".partial", "count": count}
    yield {"place": "zarr.json", "step": "rename", "count": 30}
    for _ in range(RANDOM_STEPS):
        yield {"count": rng.randint(1, 300)}
    for _ in range(RANDOM_MOMENTS):
        yield {"seconds": rng.uniform(0.1, 3.0)}


def same_bytes(store: Path, reference: Path) -> None:
    """Check that every chunk that a sweep writes is the same, except for times."""
    for file in reference.rglob("c/**/*"):
        inside = file.relative_to(reference)
        if file.is_file() and inside.parts[0] not in TIMES:
            assert file.read_bytes() == (store / inside).read_bytes(), inside


def main(folder: Path) -> Counter[str]:
    """Carry out the plans, with a new store whenever one is complete. Returns the number of kills and of ends."""
    counts: Counter[str] = Counter()
    trace_graph(torch.sin, torch.zeros(1))  # loads what tracing needs, so that no child does
    reference, store = folder / "reference.zarr", folder / "killed.zarr"
    assert not run_child(reference)
    complete = 0
    for plan in plans():
        if plan.get("place") in {".partial", "zarr.json"}:
            shutil.rmtree(store, ignore_errors=True)
            complete = 0
        killed = run_child(store, **plan)  # type: ignore[arg-type]
        counts["kills" if killed else "ends"] += 1
        now = check(store, reference)
        assert now >= complete, "a complete grid point was lost"
        complete = now
        if not killed:
            same_bytes(store, reference)
            shutil.rmtree(store)
            complete = 0
    assert not run_child(store)
    same_bytes(store, reference)
    return counts


if __name__ == "__main__":
    print(dict(main(Path(sys.argv[1]))))  # noqa: T201
