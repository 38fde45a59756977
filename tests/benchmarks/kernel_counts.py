"""The kernels and waits of hesstore's work on a GPU, counted without one.

They were counted by PyTorch's dispatch, for an MLP with three layers, ten classes and k = 30, and for rows that pass
through the network in one chunk. Views and allocations are not counted. The prediction for an H100 computes with these
numbers.
"""

from __future__ import annotations

STEP = 31
"""Kernels of a training step of one model."""

STACKED_STEP = 35
"""Kernels of a training step of several models side by side, whatever their number."""

PRODUCT = 37
"""Kernels of a Hessian product of one model, for each chunk of rows."""

STACKED_PRODUCT = 32
"""The same for several models side by side."""

PRIMAL = 36
"""Kernels of the pass whose values products use again, for each chunk of rows."""

GRADIENT = 25
"""Kernels of the gradient of one model, for one chunk of rows."""

METRICS = 43
"""Kernels of the metrics of both splits, for one chunk of rows each."""

LANCZOS = 44
"""Kernels of Lanczos for each product and model, without the product: the mean over a whole search."""

LANCZOS_WAITS = 2.4
"""Waits of the host for the device, for each product and model: the mean over a whole search."""

LANCZOS_CHECKS = 0.27
"""Checks of the tridiagonal matrix on the host, for each product and model. They are among the waits."""

GEOMETRY = 3059
"""Kernels of the class geometry of one grid point: along the eigenvectors (2,301), gradients (142), others (616)."""

GEOMETRY_WAITS = 29
"""Waits of the host in the class geometry of one grid point."""
