"""Write the pages of ``docs/`` that are made from the code, and run the tutorial again."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.documentation import tutorial
from tests.documentation.generated_pages import PAGES, made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.documentation", description=__doc__)
    parser.add_argument(
        "--tutorial", type=Path, metavar="STORE", help="Also run docs/tutorial.ipynb on the quickstart's store."
    )
    arguments = parser.parse_args()
    for page in PAGES:
        page.write_text(made(page))
    if arguments.tutorial:
        tutorial.write(tutorial.run(arguments.tutorial.resolve()))


main()
