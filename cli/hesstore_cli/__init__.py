"""The command line of hesstore: one module a command; it alone talks to terminals."""
