"""A variable of a store: its type, its attributes, and how it is divided into chunks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK_POINTS = 256
"""The maximum number of grid points in a chunk of a small variable.

Recording a grid point rewrites the chunks that hold it. If a chunk held a whole run, the bytes written during a run
would grow with the square of its number of grid points.
"""

CROSS_ENTROPY = "cross_entropy"
"""The value of the setting ``loss`` with which losses are in nats; others are pure numbers."""

HESSIAN = "hessian"
"""The value of the setting ``operator`` with which eigenpairs are those of H, not of its Gauss–Newton part."""

_OF_GGN = {"Hessian": "Gauss-Newton matrix", "H v": "G v"}

BOOKKEEPING = {"role": "bookkeeping"}
"""The attribute that marks variables for the library's own use."""

TEXT = {"missing_value": ""}
"""The attribute of texts. Because of it xarray decodes them to Python objects, with NaN for texts that are missing.

Without it they are of NumPy's StringDType, which has no missing value, so that stores would not concatenate.
"""


@dataclass(frozen=True)
class Variable:
    """A variable of the store.

    Parameters
    ----------
    name : str
        The name of the variable.
    dims : tuple of str
        Its dimensions; the first two are always run and the grid's axis, which is l2 in a sweep.
    dtype : str
        A NumPy dtype, or ``string``.
    fill : object
        The value of entries that have not been written.
    long_name, units : str
        A description and the unit, also for plot labels. Pure numbers have no unit.
    attrs : mapping
        Further attributes.
    setting : str
        The setting of the sweep that asks for the variable; empty for variables that every store has.
    by_l2 : bool
        Whether each grid point has a file of its own, which is always the case for variables over the parameters.
    of_hessian : bool
        Whether the variable is about the Hessian whatever the eigenpairs are of, so that others lack it.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    fill: Any
    long_name: str
    units: str = ""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    setting: str = ""
    by_l2: bool = False
    of_hessian: bool = False

    def along(self, axis: str) -> Variable:
        """Return the same variable in a store whose grid has this axis."""
        run, current, *others = self.dims
        return self if current == axis else replace(self, dims=(run, axis, *others))

    def of_loss(self, loss: str) -> Variable:
        """Return the same variable in a store whose setting ``loss`` has this value."""
        if loss == CROSS_ENTROPY:
            return self
        units = "" if self.units in {"nat", "nat-1"} else self.units
        return replace(self, units=units, long_name=self.long_name.replace("cross-entropy", "squared error"))

    def of_operator(self, operator: str) -> Variable:
        """Return the same variable in a store whose setting ``operator`` has this value."""
        if operator == HESSIAN:
            return self
        long_name, attrs = self.long_name, dict(self.attrs)
        for name, other in _OF_GGN.items():
            long_name = long_name.replace(name, other)
            attrs = {key: each.replace(name, other) if key == "comment" else each for key, each in attrs.items()}
        return replace(self, long_name=long_name, attrs=attrs)

    @property
    def is_large(self) -> bool:
        """Whether each grid point has a file of its own, which the process that computed it writes."""
        return self._of_parameters or self.by_l2

    @property
    def is_bookkeeping(self) -> bool:
        """Whether the variable serves the library and is left out of users' tables."""
        return self.attrs.get("role") == BOOKKEEPING["role"]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the array. Texts that were not written are missing values, as NaN is among numbers."""
        units = {"units": self.units} if self.units else {}
        return {"long_name": self.long_name, **units, **self.attrs, **(TEXT if self.dtype == "string" else {})}

    @property
    def _of_parameters(self) -> bool:
        return self.dims[-1] == "param"

    def chunks(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape of a chunk: one row of parameters, one grid point, or a block of grid points of a run."""
        _, grid, *others = self.dims
        block = 1 if self.is_large else min(CHUNK_POINTS, sizes[grid])
        is_whole = [not self._of_parameters or dim == "param" for dim in others]
        # Not every version of zarr takes a chunk of length zero.
        return (1, block, *(max(1, sizes[dim]) if whole else 1 for dim, whole in zip(others, is_whole, strict=True)))

    def shards(self, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
        """Return the shape of a shard, one grid point, for a variable that has several chunks per grid point."""
        if not (self._of_parameters and len(self.dims) > 3):
            return None
        return (1, 1, *(max(1, sizes[dim]) for dim in self.dims[2:]))
