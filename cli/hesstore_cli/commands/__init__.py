"""The commands of ``hesstore``, one module per command.

A command may import ``terminal``, ``options`` and all of ``hesstore``; it imports torch only when it runs.
"""
