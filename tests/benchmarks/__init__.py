"""``python -m tests.benchmarks``: how fast hesstore is, against this machine's limits and against the alternatives."""
