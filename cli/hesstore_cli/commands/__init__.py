"""The commands of ``hesstore``, one module per command."""
