"""Copies of an eigenvalue, from images of its eigenvector under maps that nearly commute with A.

A chain of Lanczos vectors contains one eigenvector of each multiple eigenvalue. Its image under a map that commutes
with A is an eigenvector with the same eigenvalue. The component of the image outside the chain is then one, too. So a
copy costs one product, which shows how well this holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hesstore.linalg.long_sums import inner_products, lengths
from hesstore.linalg.tridiagonal import empty
from hesstore.linalg.vector_rows import VectorRows, orthogonalise

if TYPE_CHECKING:
    from hesstore.linalg.operators import Images, VectorSpace

OUTSIDE = 0.2
"""An image is used if its component outside the span of the known vectors has at least this length."""


class _Eigenvector(NamedTuple):
    value: float
    distance: float
    vector: Tensor


class CopySearch:
    """Offers images of eigenvectors, those under the most precise maps first, and keeps the copies that are found.

    Parameters
    ----------
    images : Images
        The maps.
    generator : torch.Generator
        CPU generator that chooses among them.
    space : VectorSpace
        Size, precision and device of the vectors.

    Attributes
    ----------
    values : Tensor
        (n,) the eigenvalues of the copies that were found, on the host in float64.
    """

    def __init__(self, images: Images, generator: torch.Generator, space: VectorSpace) -> None:
        self._images, self._generator = images, generator
        self._rows = VectorRows(space)  # the known eigenvectors, and then the copies
        self._known = 0
        self.values = empty()
        self._eigenvectors: list[_Eigenvector] = []  # those whose images have not been used up
        self._collected: list[Tensor] = []  # images of the first of them
        self._level, self._batch = 0, 2

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """(n, P) the copies that were found, orthogonal to the known eigenvectors, and their products."""
        return self._rows.vectors(self._count)[self._known :], self._rows.products(self._count)[self._known :]

    @property
    def _count(self) -> int:
        """Number of known eigenvectors and copies."""
        return self._known + len(self.values)

    def restart(self, vectors: Tensor, products: Tensor) -> None:
        """Forget the copies; the known eigenvectors are ``vectors`` (n, P) now."""
        self._rows.put(0, vectors, products)
        self._known, self.values = len(vectors), empty()
        while self._eigenvectors:
            self.reject()

    def add(self, values: Tensor, distances: Tensor, vectors: Tensor, products: Tensor) -> None:
        """Add eigenvectors to the known ones, and ask for images of each, in this order.

        Parameters
        ----------
        values, distances : Tensor
            (n,) their eigenvalues, and how far these lie towards the wanted end of the spectrum; the outermost first.
        vectors, products : Tensor
            (n, P) the eigenvectors and their products.
        """
        copies = [each.clone() for each in self.pairs]
        self._known = self._rows.append_independent(self._known, vectors, products)
        count = self._rows.append_independent(self._known, *copies)
        self.values = self._rows.quotients(count)[self._known :] if len(copies[0]) else empty()
        self._eigenvectors += map(_Eigenvector, values.tolist(), distances.tolist(), vectors)

    def next_image(self, least: float) -> Tensor | None:
        """A unit vector along the component of an image outside the span of all known ones; None if there is no more.

        Only eigenvalues at a larger distance than ``least`` are considered.
        """
        count = self._count
        while self._eigenvectors and self._eigenvectors[0].distance > least:
            if self._collected:
                outside = self._collected.pop(0)
                orthogonalise(outside, self._rows.vectors(count))
                if float(lengths(outside)) > OUTSIDE:
                    return self._rows.unit(outside, count)
            elif self._level < self._images.levels:
                self._collect(self._rows.vectors(count))
            else:
                self.reject()
        return None

    @property
    def source(self) -> float:
        """The eigenvalue of the eigenvector of the last image."""
        return self._eigenvectors[0].value

    def accept(self, image: Tensor, product: Tensor) -> None:
        """Keep an image, which has turned out to be nearly an eigenvector."""
        self._rows.put(self._count, image[None], product[None])
        self.values = torch.cat([self.values, inner_products(image, product).to("cpu", torch.float64)[None]])

    def reject(self) -> None:
        """Use no more images of the eigenvector of the last image."""
        self._eigenvectors.pop(0)
        self._collected = []
        self._level, self._batch = 0, 2

    def _collect(self, known: Tensor) -> None:
        """Collect independent images. Large batches are drawn only if small ones have brought something."""
        vector = self._eigenvectors[0].vector
        images = self._images.images(vector.expand(self._batch, -1), self._level, self._generator)
        # Changes are often tiny, because the units of a group often act as one.
        changes = images - torch.outer(inner_products(images, vector), vector)
        if bool((lengths(changes) > OUTSIDE).any()):
            self._collected = _independent(images - inner_products(images, known) @ known)
        if len(self._collected) == self._batch:
            self._batch *= 2
        else:
            self._level, self._batch = self._level + 1, 2


def _independent(vectors: Tensor) -> list[Tensor]:
    """Orthonormal vectors by Gram–Schmidt with pivoting; components shorter than OUTSIDE are left out."""
    found: list[Tensor] = []
    while len(found) < len(vectors):
        norms = lengths(vectors)
        longest = int(norms.argmax())
        if not float(norms[longest]) > OUTSIDE:  # NaN, too, ends the search
            break
        found.append(vectors[longest] / norms[longest])
        vectors = vectors - torch.outer(inner_products(vectors, found[-1]), found[-1])
    return found
