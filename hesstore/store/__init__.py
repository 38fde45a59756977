"""The Zarr store: its schema, and how it is created, filled and read. This package never imports torch.

It imports ``config`` and lower layers.
"""

from hesstore.store.reading import open_store as open  # noqa: A004 - hesstore.open is the public name
from hesstore.store.schema import SCHEMA_VERSION, Run, Status, StoreSpec
from hesstore.store.writing import SweepStore

__all__ = ["SCHEMA_VERSION", "Run", "Status", "StoreSpec", "SweepStore", "open"]
