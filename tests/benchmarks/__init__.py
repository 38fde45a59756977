"""Benchmarks (``python -m tests.benchmarks``): hesstore against the limits of this machine and against other tools."""
