"""The comparison of two stores. It imports ``analysis``, ``store`` and lower layers; it needs no torch."""
