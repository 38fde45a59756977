"""The settings of a sweep: their types, limits, presets and sources. It imports only :mod:`hesstore.errors`."""

from hesstore.config.sweep_config import PRESETS, TRAINING_SETTINGS, SweepConfig, check_keys, fingerprint, settings

__all__ = ["PRESETS", "TRAINING_SETTINGS", "SweepConfig", "check_keys", "fingerprint", "settings"]
