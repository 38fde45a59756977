"""Run the benchmarks' command line in an environment without variables that change OpenBLAS."""

import os
import sys

BLAS_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def restart_without(names: tuple[str, ...]) -> None:
    """Replace this process by one without the environment variables ``names``, if any of them is set.

    OpenBLAS reads them when NumPy is first imported, so it is too late to remove them afterwards.
    """
    if any(name in os.environ for name in names):
        environment = {name: value for name, value in os.environ.items() if name not in names}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - the same command again


if __name__ == "__main__":
    restart_without(BLAS_OVERRIDES)

    from tests.benchmarks.command_line import benchmark

    benchmark()
