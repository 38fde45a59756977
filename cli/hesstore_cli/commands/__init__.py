"""The commands of ``hesstore``, one module each."""
