"""The training problem: data sets, models as functions of θ, seeds, and custom code.

It imports ``store`` and lower layers.
"""
