"""What is recorded at a grid point: metrics, class geometry, class response.

May import ``curvature``, ``store`` and below.
"""
