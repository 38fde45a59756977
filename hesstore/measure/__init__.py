"""The results that are recorded at a grid point: metrics, class geometry and class response.

May import ``curvature``, ``store`` and below.
"""
