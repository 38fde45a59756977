"""Derivatives traced once as graphs of tensor operations, then rewritten to do less work with the same result.

Imports torch alone and knows nothing of networks. The files: ``tracing`` records a function as a graph; ``tangent``,
``line`` and ``gradient`` make the programs; the other files rewrite their graphs, each by one kind of rule.
"""

from hesstore.autodiff.gradient import GradientProgram, trace_gradient
from hesstore.autodiff.line import LineProgram, Lines, trace_line
from hesstore.autodiff.tangent import TangentProgram, trace_linear, trace_tangent

__all__ = [
    "GradientProgram",
    "LineProgram",
    "Lines",
    "TangentProgram",
    "trace_gradient",
    "trace_line",
    "trace_linear",
    "trace_tangent",
]
