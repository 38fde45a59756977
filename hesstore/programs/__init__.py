"""Derivatives traced once as graphs of tensor operations, then rewritten to do less, with the same result."""

from hesstore.programs.along import ValueProgram, trace_along, trace_value
from hesstore.programs.gradient import GradientProgram, trace_gradient
from hesstore.programs.tangent import TangentProgram, trace

__all__ = [
    "GradientProgram",
    "TangentProgram",
    "ValueProgram",
    "trace",
    "trace_along",
    "trace_gradient",
    "trace_value",
]
