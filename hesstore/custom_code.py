"""The edge to the user's code: custom models and data sets, which settings name as ``module:factory``, and callbacks.

Whatever this code does, hesstore ends with one error that names it and its line: it may raise, call ``sys.exit``, parse
the command line of hesstore as its own, or print.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import os
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hesstore.errors import CallbackError, HesstoreError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

_NOT_THE_USERS = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(__file__).parent, *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
)


def call_factory(name: str, error: type[HesstoreError], *arguments: object) -> Any:
    """Call the factory that ``name`` names, and return its result.

    Parameters
    ----------
    name : str
        ``module:factory``.
    error : type
        The class of errors to raise.
    *arguments : object
        The arguments of the factory.

    Raises
    ------
    error
        If the factory does not exist, raises an exception or ends the program.
    """
    factory = load_factory(name, error)
    with running_user_code(name, error), contextlib.redirect_stdout(sys.stderr):
        return factory(*arguments)


def load_factory(name: str, error: type[HesstoreError]) -> Callable[..., Any]:
    """Import the callable that ``name`` names; modules in the working folder are found too.

    What the module prints goes to stderr: stdout belongs to the results of hesstore.

    Parameters
    ----------
    name : str
        ``module:factory``.
    error : type
        The class of errors to raise.

    Raises
    ------
    error
        If the module can't be imported, ends the program, or has no such callable.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise error(f"{name!r} is not module:factory")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    printed = io.StringIO()
    try:
        with _own_arguments(module_name), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            module = importlib.import_module(module_name)
    except SystemExit as cause:
        raise error(
            f"{name!r}: importing {module_name!r} {_exit_text(cause, printed.getvalue())}: "
            'run such code only if __name__ == "__main__"'
        ) from cause
    except KeyboardInterrupt:
        raise
    except BaseException as cause:
        raise error(
            f"{name!r}: can't import {module_name!r} ({type(cause).__name__}: {first_line(cause)}{_place(cause)})"
        ) from cause
    sys.stderr.write(printed.getvalue())
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise error(f"{name!r}: module {module_name!r} has no callable {attribute!r}")
    return factory  # type: ignore[no-any-return]  # callable() narrows Any to a bare Callable


@contextmanager
def running_user_code(name: str, error: type[HesstoreError], *, may_interrupt: bool = False) -> Iterator[None]:
    """Turn whatever the user's code raises within the block into one error; errors of hesstore pass.

    Parameters
    ----------
    name : str
        How messages name the code.
    error : type
        The class of errors to raise.
    may_interrupt : bool
        Whether exceptions that do not derive from ``Exception`` pass too, except ``SystemExit``. By these, a callback
        ends the call of its own caller.
    """
    try:
        with _own_arguments(name):
            yield
    except (HesstoreError, KeyboardInterrupt):
        raise
    except SystemExit as cause:
        raise exit_error(name, error, cause) from cause
    except BaseException as cause:
        if may_interrupt and not isinstance(cause, Exception):
            raise
        raise error(f"{name!r} raised {type(cause).__name__}: {first_line(cause)}{_place(cause)}") from cause


def calls_back(*names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function that takes functions of the user: whatever these raise becomes one :class:`CallbackError`.

    The errors of hesstore pass, and so do exceptions that do not derive from ``Exception``, such as
    ``KeyboardInterrupt`` but not ``SystemExit``, and all that the command line of hesstore raises.

    Parameters
    ----------
    *names : str
        The names of the arguments that are functions, or None.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: P.args, **others: P.kwargs) -> T:
            try:
                bound = signature.bind(*arguments, **others)
            except TypeError:
                return function(*arguments, **others)  # which says what is wrong with its arguments
            for name in bound.arguments.keys() & set(names):
                bound.arguments[name] = guarded(name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def guarded(argument: str, callback: Any) -> Any:
    """Return ``callback``, the value of ``argument``, such that its errors become one :class:`CallbackError`."""
    if callback is None or str(getattr(callback, "__module__", "")).partition(".")[0] in _OWN_PACKAGES:
        return callback
    if not callable(callback):
        raise CallbackError(f"{argument}: {callback!r} is not a function")
    kind = callback if hasattr(callback, "__qualname__") and hasattr(callback, "__module__") else type(callback)
    name = f"{argument}={kind.__module__}.{kind.__qualname__}"

    def call(*arguments: Any, **others: Any) -> Any:
        with running_user_code(name, CallbackError, may_interrupt=True):
            found = callback(*arguments, **others)
        if argument != "stop":
            return found
        try:
            return bool(found)
        except Exception as cause:
            raise CallbackError(f"{name!r} returned {type(found).__name__}, which is neither true nor false") from cause

    return call


_OWN_PACKAGES = {"hesstore", "hesstore_cli"}


def exit_error(name: str, error: type[HesstoreError], cause: SystemExit) -> HesstoreError:
    """Return the error for code that ended the program; ``name`` is how the message names the code."""
    return error(f"{name!r} {_exit_text(cause)}")


@contextmanager
def _own_arguments(name: str) -> Iterator[None]:
    """Hide the arguments of hesstore from the user's code, which may parse ``sys.argv``."""
    before = sys.argv
    sys.argv = [name]
    try:
        yield
    finally:
        sys.argv = before


def _exit_text(cause: SystemExit, printed: str = "") -> str:
    """The end of a message: how the code ended the program, with the last line that it printed."""
    lines = printed.strip().splitlines()
    last = f" after printing {lines[-1][:200]!r}" if lines else ""
    return f"ended the program with sys.exit({'' if cause.code is None else repr(cause.code)}){last}{_place(cause)}"


def _place(cause: BaseException) -> str:
    """The file and line of the user's code in which an exception arose, as a part of a message."""
    if isinstance(cause, SyntaxError) and cause.filename:
        return f", {cause.filename} line {cause.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(cause.__traceback__)]
    own = [each for each in frames if not each[0].startswith(("<", *_NOT_THE_USERS))]
    return f", {own[-1][0]} line {own[-1][1]}" if own else ""
