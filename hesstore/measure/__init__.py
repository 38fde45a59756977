"""The results that are recorded at a grid point: metrics, class geometry and class response.

``network_geometry`` computes further ones on demand, from the weights of a store and its data.

May import ``curvature``, ``store`` and below.
"""
