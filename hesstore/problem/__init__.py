"""The training problem: data sets, models as functions of θ, seeds, and the user's own code.

May import ``store`` and below.
"""
