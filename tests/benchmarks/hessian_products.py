"""Implementations of the Hessian product, by hesstore, by other packages, and by plain PyTorch.

Each is a function that takes a problem and returns the map v ↦ H v, which is made once and then called for each v.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from hesstore.curvature import FlatHessian
from tests.benchmarks import original_method

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.digit_problem import Problem

Product: TypeAlias = Callable[["Tensor"], "Tensor"]

SLOW_ROUNDS = 2


@dataclass(frozen=True)
class Implementation:
    """An implementation of the Hessian product.

    Parameters
    ----------
    name : str
        Its name in the tables.
    make : callable
        A function that takes a problem and returns the map v ↦ H v.
    requires : str
        The package that it needs in addition to those that hesstore needs; empty if there is no such package.
    max_rounds : int
        Largest number of timed rounds; 0 means all rounds. A few rounds suffice for a slow implementation.
    """

    name: str
    make: Callable[[Problem], Product]
    requires: str = ""
    max_rounds: int = 0

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is installed."""
        return not self.requires or importlib.util.find_spec(self.requires) is not None


def hesstore_product(problem: Problem) -> Product:
    """Return hesstore's product: the cached linearisation, in chunks of rows."""
    return FlatHessian(problem.model, problem.x, problem.y).at(problem.theta).matvec


def dataloader_product(problem: Problem) -> Product:
    """Return double backward over batches that a DataLoader makes from images for each product."""
    return original_method.double_backward(
        problem.module(), original_method.loader(problem, shuffle=False), len(problem.y)
    )


def small_batches_product(problem: Problem) -> Product:
    """Return double backward over batches of 64 rows in memory."""
    return original_method.double_backward(problem.module(), original_method.in_memory(problem), len(problem.y))


def full_batch_product(problem: Problem) -> Product:
    """Return double backward over all rows as one batch."""
    return original_method.double_backward(problem.module(), [(problem.x, problem.y)], len(problem.y))


def curvlinops_product(problem: Problem) -> Product:
    """Return the product of curvlinops, with all rows as one batch.

    Its check for determinism is switched off, because it costs passes over the data.
    """
    curvlinops = optional_package("curvlinops")
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
    """Return the product of hessian-eigenthings, with all rows as one batch."""
    eigenthings = optional_package("hessian_eigenthings")
    loss = eigenthings.supervised_loss(nn.functional.cross_entropy)
    operator = eigenthings.HessianOperator(problem.module(), [(problem.x, problem.y)], loss)
    product: Product = operator.matvec
    return product


def optional_package(package: str) -> Any:
    """Import a package that hesstore does not depend on; it is untyped, because it may be missing."""
    return importlib.import_module(package)


HESSTORE = Implementation("hesstore", hesstore_product)
ORIGINAL = Implementation("original (DataLoader, batches of 64)", dataloader_product, max_rounds=SLOW_ROUNDS)
CURVLINOPS = Implementation("curvlinops, full batch", curvlinops_product, requires="curvlinops")
EIGENTHINGS = Implementation("hessian-eigenthings, full batch", eigenthings_product, requires="hessian_eigenthings")
IMPLEMENTATIONS = (
    HESSTORE,
    ORIGINAL,
    Implementation("original on batches in memory", small_batches_product),
    CURVLINOPS,
    EIGENTHINGS,
    Implementation("double backward, full batch", full_batch_product),
)


def random_vector(problem: Problem, seed: int = 0) -> Tensor:
    """Return a seeded random vector (P,)."""
    return torch.randn(len(problem.theta), generator=torch.Generator().manual_seed(seed)).to(problem.device)
