"""The store against a plain model in memory, through any sequence of operations that Hypothesis can think of."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hesstore import durable_files
from hesstore.errors import StoreBusyError
from hesstore.store.growing import grow_store
from hesstore.store.schema import BY_NAME, Run, Status, StoreSpec
from hesstore.store.writing import SweepStore

P, K, CLASSES = 7, 2, 3
Cell = tuple[int, str, float]


class Killed(BaseException):
    """Stands for the end of the process."""


def spec(l2: tuple[float, ...], seeds: tuple[int, ...]) -> StoreSpec:
    return StoreSpec(
        grid=l2,
        runs=tuple(Run(index, seed, "up") for index, seed in enumerate(seeds)),
        k=K,
        num_classes=CLASSES,
        parameters=[("a.a", (P,))],
        identity={"l2": list(l2), "seeds": list(seeds), "k": K, "which": "LM", "solver": "lanczos", "tol": 1e-3,
                  "max_matvecs": 9, "hessian_samples": 0, "direction": "up"},
        attrs={"config": "{}", "environment": "{}", "penalty_scale": 0.5},
    )  # fmt: skip


SHAPES = {"mode": K, "param": P, "split": 2, "label": CLASSES, "pred": CLASSES}
AT = {
    Status.FITTED: ["weights", "loss", "confusion", "epochs"],
    Status.COMPLETE: ["gradient", "eigenvectors", "eigenvalues", "converged", "solver_message"],
    Status.FAILED: ["failure"],
}


def values(status: Status, seed: int) -> dict[str, Any]:
    """What a record of a status might hold."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for name in AT[status]:
        variable = BY_NAME[name]
        shape = tuple(SHAPES[dim] for dim in variable.dims[2:])
        if variable.dtype == "string":
            made[name] = f"text {seed}"
        else:
            made[name] = (rng.standard_normal(shape) * 9).astype(variable.dtype)
    return made


class StoreMachine(RuleBasedStateMachine):
    """Records, re-opens, grows, resets; kills in the middle of any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "s.zarr"

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def create(self) -> None:
        self.l2: tuple[float, ...] = (0.0, 0.5)
        self.seeds: tuple[int, ...] = (3,)
        self.store = SweepStore.create(self.path, spec(self.l2, self.seeds))
        self.model: dict[Cell, dict[str, Any]] = {}
        self.status: dict[Cell, Status] = {}

    def cell(self, run: Run, index: int) -> Cell:
        return run.seed, run.direction, float(self.store.grid[index])

    @rule(data=st.data(), seed=st.integers(0, 1000))
    def record(self, data: st.DataObject, seed: int) -> None:
        self._record(data, seed, None)

    @rule(data=st.data(), seed=st.integers(0, 1000), after=st.integers(0, 40))
    def killed_in_a_record(self, data: st.DataObject, seed: int, after: int) -> None:
        self._record(data, seed, after)
        self.reopen()

    def _record(self, data: st.DataObject, seed: int, kill_after: int | None) -> None:
        unfinished = [
            (run, index)
            for run in self.store.runs
            for index in range(len(self.store.grid))
            if self.status.get(self.cell(run, index), Status.PENDING) < Status.COMPLETE
        ]
        if not unfinished:
            return  # what is finished is not written again
        run, index = data.draw(st.sampled_from(unfinished))
        cell = self.cell(run, index)
        now = self.status.get(cell, Status.PENDING)
        following = [Status.FITTED, Status.FAILED] if now == Status.PENDING else [Status.COMPLETE, Status.FAILED]
        status = data.draw(st.sampled_from(following))
        record = values(status, seed)
        left = kill_after

        def observe(step: str, path: Path) -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise Killed

        durable_files.observe = observe
        try:
            self.store.record(run, index, status, record)
        except Killed:
            there = Status(int(SweepStore.open(self.path).status(run)[index]))
            assert there in {now, status}
            if there == now:
                if now == Status.FITTED:  # what it has is what it had
                    kept = self.model[cell]
                    np.testing.assert_array_equal(self.store.read("weights", run, index), kept["weights"])
                return
        finally:
            durable_files.observe = durable_files._unobserved
        self.status[cell] = status
        self.model.setdefault(cell, {}).update(record)

    @rule()
    def reopen(self) -> None:
        self.store = SweepStore.open(self.path)

    @rule()
    def reset_failed(self) -> None:
        self.store.reset(Status.FAILED, self.store.runs)
        for cell, status in list(self.status.items()):
            if status == Status.FAILED:
                del self.status[cell], self.model[cell]

    @rule(l2=st.floats(0.01, 0.99).map(lambda value: round(value, 2)), more_seeds=st.booleans())
    @precondition(lambda self: len(self.l2) * len(self.seeds) < 12)
    def grow(self, l2: float, *, more_seeds: bool) -> None:
        self.l2 = tuple(sorted({*self.l2, l2}))
        self.seeds = (*self.seeds, max(self.seeds) + 1) if more_seeds else self.seeds
        self.store = grow_store(self.store, spec(self.l2, self.seeds))

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.store.runs))
        with self.store.claim(run), pytest.raises(StoreBusyError), SweepStore.open(self.path).claim(run):
            pass

    @invariant()
    def any_reader_sees_what_was_recorded(self) -> None:
        ds = xr.open_zarr(self.path).load()
        assert tuple(ds["l2"].values) == self.l2
        assert sorted(ds["seed"].values) == sorted(self.seeds)
        for position, seed in enumerate(ds["seed"].values):
            for l2 in self.l2:
                cell, found = (int(seed), "up", l2), ds.isel(run=position).sel(l2=l2)
                status = self.status.get(cell, Status.PENDING)
                assert int(found["status"]) == status
                promised = [name for at in Status if at <= status and at in AT for name in AT[at]]
                if status == Status.FAILED:
                    promised = ["failure"]
                for name in promised:
                    np.testing.assert_array_equal(found[name].values, self.model[cell][name], err_msg=name)
                if status in {Status.FITTED, Status.COMPLETE}:
                    assert int(found["digest"]) != 0
        assert {variable.name for variable in spec(self.l2, self.seeds).variables} == set(ds.data_vars)


StoreMachine.TestCase.settings = settings(
    max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_sequence_of_operations = pytest.mark.slow(StoreMachine.TestCase)
