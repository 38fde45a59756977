"""``python -m tests.benchmarks``: an environment that does not tamper with BLAS, then the command line."""

import os
import sys

TAMPERING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def start_again_without(names: tuple[str, ...]) -> None:
    """Replace this process by one whose environment lacks ``names``, if it has any of them.

    OpenBLAS reads them when NumPy is first imported: afterwards it is too late.
    """
    if any(name in os.environ for name in names):
        environment = {name: value for name, value in os.environ.items() if name not in names}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - this very command


if __name__ == "__main__":
    start_again_without(TAMPERING)

    from tests.benchmarks.command_line import benchmark

    benchmark()
