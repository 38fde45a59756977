"""The entry point: the group of commands, and how errors become one line and an exit status."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from hesstore.errors import HesstoreError
from hesstore_cli.commands.completion import completion
from hesstore_cli.commands.config import config
from hesstore_cli.commands.diff import diff
from hesstore_cli.commands.export import export
from hesstore_cli.commands.import_files import import_
from hesstore_cli.commands.info import info
from hesstore_cli.commands.plan import plan
from hesstore_cli.commands.plot import plot
from hesstore_cli.commands.report import report
from hesstore_cli.commands.status import status
from hesstore_cli.commands.sweep import sweep
from hesstore_cli.commands.verify import verify
from hesstore_cli.decoding import is_of_decoding
from hesstore_cli.exit_status import EPILOG, ExitStatus
from hesstore_cli.terminal.warning_lines import told_in_a_line

if TYPE_CHECKING:
    from collections.abc import Sequence


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


for command in (plan, sweep, status, info, verify, export, import_, plot, report, diff, config, completion):
    cli.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    try:
        with told_in_a_line():
            ended = cli.main(args=arguments, prog_name="hesstore", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return ExitStatus.USAGE
    except click.UsageError as error:
        context = error.ctx.command_path if error.ctx else "hesstore"
        return _fail(f"{error.format_message()} (see {context} --help)", ExitStatus.USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except HesstoreError as error:
        return _fail(str(error), ExitStatus.of(error))
    except (ValueError, RuntimeError) as error:
        if not is_of_decoding(error):
            raise
        return _fail(f"a chunk is damaged ({error}): hesstore verify says which", ExitStatus.DAMAGED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left: nothing to say, nowhere to say it
        return ExitStatus.FAILED
    except OSError as error:
        return _fail(f"{error.filename or 'I/O'}: {error.strerror or error}", ExitStatus.FAILED)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", ExitStatus.INTERRUPTED)
    return ended if isinstance(ended, int) else ExitStatus.DONE


def _fail(message: str, status: int) -> int:
    click.echo(f"hesstore: {' '.join(message.split())}", err=True)
    return status


def main() -> NoReturn:
    """The ``hesstore`` script."""
    sys.exit(run())
