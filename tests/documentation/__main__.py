"""Write the generated parts of the pages in docs/ again, and optionally run the tutorial."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.documentation import tutorial
from tests.documentation.generated_pages import PAGES, regenerated


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.documentation", description=__doc__)
    parser.add_argument(
        "--tutorial",
        type=Path,
        metavar="STORE",
        help="Also run docs/tutorial.ipynb on the quickstart store, and save its outputs.",
    )
    arguments = parser.parse_args()
    for page in PAGES:
        page.write_text(regenerated(page))
    if arguments.tutorial:
        tutorial.write(tutorial.run(arguments.tutorial.resolve()))


main()
