"""The sweep: its plan, driver, workers, executors and machine. May import ``measure`` and below."""
