"""A store as an xarray Dataset: opening it, its progress, and its networks.

It imports ``analysis``, ``problem``, ``store`` and lower layers.
"""
