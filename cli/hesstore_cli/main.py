"""The entry point: the group of commands, and errors as one line and an exit status."""

from __future__ import annotations

import errno
import gc
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

import click

from hesstore.errors import HesstoreError
from hesstore_cli.commands.analyse import analyse
from hesstore_cli.commands.completion import completion
from hesstore_cli.commands.config import config
from hesstore_cli.commands.diff import diff
from hesstore_cli.commands.export import export
from hesstore_cli.commands.import_files import import_
from hesstore_cli.commands.info import info
from hesstore_cli.commands.list_stores import list_
from hesstore_cli.commands.plan import plan
from hesstore_cli.commands.plot import plot
from hesstore_cli.commands.refine import refine
from hesstore_cli.commands.report import report
from hesstore_cli.commands.slice_losses import slice_
from hesstore_cli.commands.status import status
from hesstore_cli.commands.sweep import sweep
from hesstore_cli.commands.transitions import transitions
from hesstore_cli.commands.verify import verify
from hesstore_cli.exit_status import EPILOG, ExitStatus
from hesstore_cli.help_pages import CommandGroup
from hesstore_cli.terminal.streams import write_line
from hesstore_cli.terminal.warning_lines import one_line_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="hesstore", message="%(prog)s %(version)s")
def cli() -> None:
    """Record Hessian spectra, gradients, weights and class accuracies along an L2 sweep in one Zarr store.

    STORE is a folder, a .zip file or an s3:// URL; stores can also be read from http(s):// URLs.

    \b
    A first example, which takes about two minutes:
      hesstore sweep quickstart.zarr --preset quickstart
      hesstore info quickstart.zarr
      hesstore export quickstart.zarr --format csv
    """


cli.add_section("Run a sweep", config, plan, sweep, refine, status)
cli.add_section("Analyse checkpoints", analyse)
cli.add_section("Look at results", list_, info, transitions, plot, slice_, report, diff)
cli.add_section("Exchange files", export, import_)
cli.add_section("Maintenance", verify, completion)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    try:
        with one_line_warnings():
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
    except (KeyboardInterrupt, click.Abort):  # Abort is a RuntimeError
        return _fail("interrupted", ExitStatus.INTERRUPTED)
    except (ValueError, RuntimeError) as error:
        from hesstore.store.decoding import damaged_file, is_decoding_error

        if not is_decoding_error(error):
            raise
        what = damaged_file(error) or "a chunk"
        return _fail(f"{what} is damaged ({error}): `hesstore verify` lists every damaged file", ExitStatus.DAMAGED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has ended, so no message can reach it
        return ExitStatus.FAILED
    except (OSError, MemoryError) as error:
        return _fail_of_system(error)
    return ended if isinstance(ended, int) else ExitStatus.DONE


_WITHOUT_DASK = (["info"], ["status"], ["list"])
"""Commands that read a few small variables, where the import of Dask by xarray would take a third of the time."""


def main() -> NoReturn:
    """Run the ``hesstore`` script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an encoding such as latin-1 has no λ
    if sys.argv[1:2] in _WITHOUT_DASK:
        sys.modules["dask"] = None  # type: ignore[assignment]  # Python then refuses to import it, and xarray works without
    status = run()
    gc.freeze()  # at its end, Python would search all objects for garbage, which takes a third of a second
    sys.exit(status)


def _fail_of_system(error: OSError | MemoryError) -> int:
    if isinstance(error, MemoryError):
        return _fail(f"not enough memory: {error or 'give a machine or a limit with more'}", ExitStatus.FAILED)
    from hesstore.durable_files import describe_system_error

    is_input = error.errno == errno.ENAMETOOLONG
    return _fail(describe_system_error(error), ExitStatus.USAGE if is_input else ExitStatus.FAILED)


def _fail(message: str, status: int) -> int:
    write_line(f"hesstore: {' '.join(message.split())}")
    return status
