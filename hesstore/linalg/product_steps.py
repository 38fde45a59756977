"""Computations that ask for products with a matrix, so that those with several matrices can be computed together.

Such a computation is a generator: it yields vectors (P,), is sent their products, and returns its result.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hesstore.linalg.operators import OperatorStack

_T = TypeVar("_T")
ProductSteps = Generator[Tensor, Tensor, _T]


def with_products(steps: ProductSteps[_T], matvec: Callable[[Tensor], Tensor]) -> _T:
    """The result of a computation whose products are those of ``matvec``."""
    product: Tensor | None = None
    while True:
        try:
            vector = steps.send(product)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            result: _T = end.value
            return result
        product = matvec(vector)


def with_products_of_each(steps: Sequence[ProductSteps[_T]], operator: OperatorStack) -> list[_T | FloatingPointError]:
    """The results of G computations, each with another matrix of a stack.

    If a computation raised a :class:`FloatingPointError`, it takes the place of the result.
    """
    results: dict[int, _T | FloatingPointError] = {}
    products: dict[int, Tensor | None] = dict.fromkeys(range(len(steps)))
    while products:
        vectors = {}
        for place, product in products.items():
            try:
                vectors[place] = steps[place].send(product)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as end:
                results[place] = end.value
            except FloatingPointError as error:
                results[place] = error.with_traceback(None)  # which would keep the matrices
        products = {}
        if vectors:
            nothing = torch.zeros_like(next(iter(vectors.values())))
            of_all = operator.matvec(torch.stack([vectors.get(place, nothing) for place in range(len(steps))]))
            products = {place: of_all[place] for place in vectors}
    return [results[place] for place in range(len(steps))]
