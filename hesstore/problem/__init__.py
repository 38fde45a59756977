"""The training problem: data sets, models as functions of θ, and seeds.

It imports ``store`` and lower layers.
"""
