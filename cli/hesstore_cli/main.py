"""The entry point: the group of commands, and how errors become one line and an exit status."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from hesstore.errors import (
    ConfigMismatchError,
    CorruptStoreError,
    HesstoreError,
    StoreBusyError,
    StoreUnreachableError,
)
from hesstore_cli.config import config
from hesstore_cli.export import export
from hesstore_cli.imports import import_
from hesstore_cli.info import info
from hesstore_cli.plan import plan
from hesstore_cli.plot import plot
from hesstore_cli.status import status
from hesstore_cli.sweep import sweep
from hesstore_cli.verify import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED, USAGE, INTERRUPTED = 1, 2, 130
STATUS: dict[type[HesstoreError], int] = {
    ConfigMismatchError: 3,
    CorruptStoreError: 5,
    StoreBusyError: FAILED,
    StoreUnreachableError: FAILED,
}

EPILOG = """\b
Exit status:
  0    done                4    done, but some λ failed
  1    failed              5    the store is damaged
  2    bad input           75   stopped: the time limit
  3    another config      130  stopped: a signal
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="hesstore", message="%(prog)s %(version)s")
def cli() -> None:
    """Hessian spectra, gradients, weights and class accuracies along an L2 sweep, in one Zarr store.

    \b
    A first look, in about two minutes:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore info quickstart.zarr
      hesstore export quickstart.zarr --format csv
    """


for command in (plan, sweep, status, info, verify, export, import_, plot, config):
    cli.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    try:
        ended = cli.main(args=arguments, prog_name="hesstore", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return USAGE
    except click.UsageError as error:
        context = error.ctx.command_path if error.ctx else "hesstore"
        return _fail(f"{error.format_message()} (see {context} --help)", USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except HesstoreError as error:
        return _fail(str(error), STATUS.get(type(error), USAGE))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left: nothing to say, nowhere to say it
        return FAILED
    except OSError as error:
        return _fail(f"{error.filename or 'I/O'}: {error.strerror or error}", FAILED)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    return ended if isinstance(ended, int) else 0


def _fail(message: str, status: int) -> int:
    click.echo(f"hesstore: {' '.join(message.split())}", err=True)
    return status


def main() -> NoReturn:
    """The ``hesstore`` script."""
    sys.exit(run())
