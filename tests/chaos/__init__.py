"""A campaign of kills and faults that anyone can run: ``python -m tests.chaos``."""
