"""The command line of hesstore. It is the only package that writes to terminals."""
