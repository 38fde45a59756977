"""``python -m hesstore``: the command line."""

from hesstore_cli.main import main

main()
