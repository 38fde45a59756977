"""The settings of a sweep: their types, limits, presets and sources. It imports only :mod:`hesstore.errors`."""

from hesstore.config.sweep_config import PRESETS, SweepConfig, check_keys, fingerprint, settings

__all__ = ["PRESETS", "SweepConfig", "check_keys", "fingerprint", "settings"]
