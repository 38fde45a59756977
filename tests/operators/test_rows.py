"""The forms of data that the operators take, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from hesstore.errors import DataError
from hesstore.operators.rows import load_rows

X = torch.arange(24.0).view(8, 3)
MASK = torch.arange(8)[:, None] % 2 == 0
Y = torch.arange(8) % 3


class Pairs(Dataset[Any]):
    """A data set with NumPy rows, or rows in another form."""

    def __init__(self, *, by_name: bool = False, several: bool = False) -> None:
        self.by_name, self.several = by_name, several

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, index: int) -> Any:
        if index >= len(Y):
            raise IndexError(index)
        if self.by_name:
            return {"tokens": X[index].long(), "mask": MASK[index], "labels": int(Y[index])}
        x = X[index].numpy()
        return ((x, MASK[index]) if self.several else x), int(Y[index])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X, Y, strict=True))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, Y),
        (X.numpy(), Y.tolist()),
        (X.tolist(), Y.numpy()),
        (pd.DataFrame(X.numpy()), pd.Series(Y.numpy())),
        (TensorDataset(X, Y), None),
        (Pairs(), None),
        (DataLoader(Pairs(), batch_size=3), None),
        (DataLoader(Stream(), batch_size=5), None),
        ([(X[:5], Y[:5]), (X[5:], Y[5:])], None),
    ],
)
def test_one_input(x: Any, y: Any) -> None:
    rows = load_rows(x, y)
    assert isinstance(rows.inputs, Tensor)
    assert torch.equal(rows.inputs.float(), X)
    assert torch.equal(rows.y, Y)


@pytest.mark.parametrize(
    ("x", "y", "keywords"),
    [
        ((X, MASK.numpy()), Y, ()),
        (Pairs(several=True), None, ()),
        ({"a": X, "b": MASK}, Y, ("a", "b")),
        (DataLoader(Pairs(by_name=True), batch_size=3), None, ("tokens", "mask")),
    ],
)
def test_several_inputs(x: Any, y: Any, keywords: tuple[str, ...]) -> None:
    rows = load_rows(x, y).to(torch.device("cpu"), torch.float64)
    assert isinstance(rows.inputs, tuple)
    assert rows.keywords == keywords
    first, mask = rows.inputs
    assert torch.equal(first.double(), X.double())
    assert first.dtype == (torch.int64 if "tokens" in keywords else torch.float64)
    assert torch.equal(mask, MASK)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, None, "y: missing"),
        (X, Y[:7], r"inputs \(8, 3\) do not match targets \(7,\)"),
        ((X, MASK[:7]), Y, r"inputs \(7, 1\) do not match"),
        (X[:0], Y[:0], "there are no rows"),
        (X.where(X > 0, torch.nan), Y, "x: 1 values are NaN"),
        (X.to_sparse(), Y, "not a dense tensor"),
        (np.array(["a", "b"]), Y[:2], "not an array of numbers"),
        ([X, X], Y, "pass a tuple"),
        ((), Y, "an empty tuple"),
        ({}, Y, "an empty dict"),
        (7, None, "y: missing"),
        (TensorDataset(X, X, Y), None, r"its batches are list of 3, not \(inputs, targets\)"),
        ([{"x": X, "y": Y}], None, "dicts without 'labels'"),
        ([(X, Y), (X[:, :2], Y)], None, "pad them to one length"),
        ([], None, "there are no rows"),
        (Stream(), None, "yields single rows"),
    ],
)
def test_data_that_are_refused(x: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_rows(x, y)
    assert "\n" not in str(caught.value)
