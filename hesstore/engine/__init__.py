"""The sweep: its plan, driver, workers, executors and machine. May import ``measure`` and below.

Read :func:`hesstore.engine.sweep.run_sweep` first: its steps are the steps of a sweep.
"""
