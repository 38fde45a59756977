"""The front door in Python: the Hessian of the user's network on the user's data, as an operator.

May import all packages below the engine, and the engine's facts about devices. ``network`` turns an ``nn.Module`` into
a function of θ, ``rows`` turns data into tensors, and ``operators`` has the public classes.
"""

from hesstore.operators.blocks import Block
from hesstore.operators.operators import GGN, Hessian, Trace, top_eigenpairs

__all__ = ["GGN", "Block", "Hessian", "Trace", "top_eigenpairs"]
