"""Derivatives traced once as graphs of tensor operations, then rewritten to do less work with the same result.

Imports torch alone and knows nothing of networks. The files: ``tracing`` records a function as a graph; ``tangent``,
``second_order`` and ``gradient`` make the programs; ``simplify``, ``constant_columns`` and ``graph_split`` rewrite
their graphs.
"""

from hesstore.autodiff.gradient import GradientProgram, trace_gradient
from hesstore.autodiff.second_order import ValueProgram, trace_second_order, trace_value
from hesstore.autodiff.tangent import TangentProgram, trace_tangent

__all__ = [
    "GradientProgram",
    "TangentProgram",
    "ValueProgram",
    "trace_gradient",
    "trace_second_order",
    "trace_tangent",
    "trace_value",
]
