"""A store as an xarray Dataset: opening it, its progress, its networks.

May import ``analysis``, ``problem``, ``store`` and below.
"""
