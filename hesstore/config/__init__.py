"""The settings of a sweep: their kinds, limits, presets and sources. Imports :mod:`hesstore.errors` alone."""

from hesstore.config.sweep_config import PRESETS, SweepConfig, check_keys, fingerprint, settings

__all__ = ["PRESETS", "SweepConfig", "check_keys", "fingerprint", "settings"]
