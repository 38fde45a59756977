"""Derivatives traced once as graphs of tensor operations, then rewritten to do less, with the same result."""

from hesstore.programs.gradient import GradientProgram, trace_gradient
from hesstore.programs.tangent import TangentProgram, trace

__all__ = ["GradientProgram", "TangentProgram", "trace", "trace_gradient"]
