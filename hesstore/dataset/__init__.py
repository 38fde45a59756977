"""A store as an xarray Dataset: opening it, its progress, how complete its spectra are, and its networks.

It imports ``analysis``, ``problem``, ``store`` and lower layers.
"""
