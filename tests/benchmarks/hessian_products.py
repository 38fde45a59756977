"""Each way to compute H v, as a callable that is made once and then called for each v."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from hesstore import Hessian
from tests.benchmarks import original_method

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.digit_problem import Problem

Product: TypeAlias = Callable[["Tensor"], "Tensor"]

SLOW_TIMINGS = 2


@dataclass(frozen=True)
class Contestant:
    """A way to compute H v.

    Parameters
    ----------
    name : str
        What tables call it.
    make : callable
        Problem → (v ↦ H v).
    requires : str
        The package it needs, if hesstore does not need it too.
    most : int
        The most times to time it (0: as often as the others): a few are enough for what takes seconds.
    """

    name: str
    make: Callable[[Problem], Product]
    requires: str = ""
    most: int = 0

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is there."""
        return not self.requires or importlib.util.find_spec(self.requires) is not None


def hesstore_product(problem: Problem) -> Product:
    """The cached linearisation, in chunks of rows."""
    return Hessian(problem.model, problem.x, problem.y).at(problem.theta).matvec


def dataloader_product(problem: Problem) -> Product:
    """Double backward over batches that a DataLoader makes from images at each product."""
    return original_method.double_backward(
        problem.module(), original_method.loader(problem, shuffle=False), len(problem.y)
    )


def small_batches_product(problem: Problem) -> Product:
    """Double backward over batches of 64 that lie in memory."""
    return original_method.double_backward(problem.module(), original_method.in_memory(problem), len(problem.y))


def full_batch_product(problem: Problem) -> Product:
    """Double backward over all rows at once."""
    return original_method.double_backward(problem.module(), [(problem.x, problem.y)], len(problem.y))


def curvlinops_product(problem: Problem) -> Product:
    """curvlinops' Hessian, all rows as one batch, without its check for determinism, which costs passes."""
    curvlinops = imported("curvlinops")
    module = problem.module()
    data = [(problem.x, problem.y)]
    operator = curvlinops.HessianLinearOperator(
        module, nn.CrossEntropyLoss(), list(module.parameters()), data, check_deterministic=False
    )

    def product(v: Tensor) -> Tensor:
        result: Tensor = (operator @ v).detach()
        return result

    return product


def eigenthings_product(problem: Problem) -> Product:
    """hessian-eigenthings' Hessian, all rows as one batch."""
    eigenthings = imported("hessian_eigenthings")
    loss = eigenthings.supervised_loss(nn.functional.cross_entropy)
    operator = eigenthings.HessianOperator(problem.module(), [(problem.x, problem.y)], loss)
    product: Product = operator.matvec
    return product


def imported(package: str) -> Any:
    """A package that may be missing, without its types: it is no dependency of hesstore's."""
    return importlib.import_module(package)


HESSTORE = Contestant("hesstore", hesstore_product)
ORIGINAL = Contestant("original (DataLoader, batches of 64)", dataloader_product, most=SLOW_TIMINGS)
CURVLINOPS = Contestant("curvlinops, full batch", curvlinops_product, requires="curvlinops")
EIGENTHINGS = Contestant("hessian-eigenthings, full batch", eigenthings_product, requires="hessian_eigenthings")
CONTESTANTS = (
    HESSTORE,
    ORIGINAL,
    Contestant("original on batches in memory", small_batches_product),
    CURVLINOPS,
    EIGENTHINGS,
    Contestant("double backward, full batch", full_batch_product),
)


def direction(problem: Problem, seed: int = 0) -> Tensor:
    """A seeded random v (P,)."""
    return torch.randn(len(problem.theta), generator=torch.Generator().manual_seed(seed)).to(problem.device)
