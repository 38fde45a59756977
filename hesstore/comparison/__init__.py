"""The comparison of two stores. May import ``analysis``, ``store`` and below; needs no torch."""
