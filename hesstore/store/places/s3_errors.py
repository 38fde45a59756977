"""Errors of an S3 server or of the network, as one line that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, TypeVar

from obstore import exceptions

from hesstore.errors import StoreError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from obstore.store import S3Store

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Environment variables that name the server; the first one that is set counts."""

PATIENCE_SECONDS = 60.0
"""Time for which a request is repeated, in seconds."""

T = TypeVar("T")

_EXPECTED = (exceptions.AlreadyExistsError, exceptions.PreconditionError, exceptions.NotSupportedError)
"""Answers to conditional requests; the caller handles them."""


def endpoint() -> str | None:
    """The server that the environment names; None stands for AWS itself."""
    return next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)


@contextlib.contextmanager
def translating_errors(url: str) -> Iterator[None]:
    """Raise errors about the store at ``url`` as :class:`StoreError`.

    Errors about a missing object (:class:`FileNotFoundError`) or an unmet condition pass through unchanged.
    """
    try:
        yield
    except _EXPECTED:
        raise
    except FileNotFoundError as error:
        if "<Code>NoSuchBucket</Code>" not in str(error):
            raise
        raise _store_error(url, error) from error
    except exceptions.BaseError as error:
        raise _store_error(url, error) from error


def repeat(request: Callable[[], T], url: str) -> T:
    """Make an idempotent request, again and again for :data:`PATIENCE_SECONDS` while the server fails or is silent.

    Raises
    ------
    StoreUnreachableError
        If it still fails then.
    """
    pauses = _pauses()
    while True:
        try:
            with translating_errors(url):
                return request()
        except StoreUnreachableError:
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)


async def repeat_async(request: Callable[[], Awaitable[T]], url: str) -> T:
    """Make an asynchronous request as :func:`repeat` does."""
    pauses = _pauses()
    while True:
        try:
            with translating_errors(url):
                return await request()
        except StoreUnreachableError:
            if (pause := next(pauses, None)) is None:
                raise
            await asyncio.sleep(pause)


def _pauses() -> Iterator[float]:
    """The pauses between attempts, until the patience is over."""
    end, pause = time.monotonic() + PATIENCE_SECONDS, 0.1
    while time.monotonic() + pause < end:
        yield pause
        pause = min(2 * pause, 5.0)


def url_of(objects: S3Store) -> str:
    """The ``s3://`` URL of the store whose objects these are."""
    return f"s3://{objects.config['bucket']}/{objects.prefix}"


def _store_error(url: str, error: Exception) -> StoreError:
    server, bucket = endpoint() or "AWS", url.removeprefix("s3://").partition("/")[0]
    message = str(error).partition("\n\nDebug source")[0]
    found = re.search(r"<Code>(\w+)</Code>", message)
    answer = re.search(r"status code: (\d+ [A-Za-z ]+)", message)
    code = found[1] if found else answer[1].strip() if answer else ""
    if code == "NoSuchBucket":
        return StoreError(f"{url}: bucket {bucket} does not exist at {server}: create it first, or give another")
    if "169.254.169.254" in message or "MissingSecretAccessKey" in str(error):
        return StoreError(
            f"{url}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (files in ~/.aws are not read), "
            "or AWS_SKIP_SIGNATURE=true for a public bucket"
        )
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)) or (
        answer and answer[1].startswith(("401", "403"))
    ):
        return StoreError(
            f"{url}: {server} denies access ({code}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and their "
            f"permissions in bucket {bucket}"
        )
    if "PermanentRedirect" in message or "AuthorizationHeaderMalformed" in message or "without LOCATION" in message:
        return StoreError(f"{url}: bucket {bucket} is in another region: set AWS_REGION to that region")
    if answer is None:
        return StoreUnreachableError(
            f"{url}: can't reach {server} ({_cause(str(error))}): check AWS_ENDPOINT_URL and the network, then run the "
            "same command again"
        )
    if answer[1].startswith(("408", "429", "5")):
        return StoreUnreachableError(f"{url}: {server} fails ({code}): run the same command again later")
    return StoreError(f"{url}: {server} refuses a request ({code}): check the address and the version of the server")


def _cause(text: str) -> str:
    """The innermost reason why the server did not answer, as far as the library's message names one."""
    for reason in ("Connection refused", "Name or service not known", "Connection reset", "Network is unreachable"):
        if reason in text:
            return reason.lower()
    if "TimedOut" in text or "timed out" in text:
        return "no answer in time"
    message = text.partition("\n\nDebug source")[0]
    return message.rsplit(" - ", 1)[-1]
