"""``python -m hesstore``: the command line."""

from hesstore_cli.main import main

if __name__ == "__main__":
    main()
