"""Kill sweeps again and again, on a disk, in a bucket and with Dask workers, and inject faults.

::

    python -m tests.chaos                 # 210 kills, about half an hour on two cores
    python -m tests.chaos --kills 9       # a small campaign

After each kill a reader compares the store with that of a sweep that was not killed: a grid point is complete and has
the same numbers, or it is not complete. No grid point that was complete may be lost. All kills come from one seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.campaign import run_campaign, table

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=210, help="number of kills, a fifth of them with Dask workers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and of the faults")
    parser.add_argument("--seconds", type=float, default=7200.0, help="time after which no further kill begins")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run_campaign(Path(folder), options.kills, options.seed, options.seconds)
    sys.stdout.write(f"{table(rows)}\n")
    sys.exit(any(row.wrong or row.lost for row in rows))
