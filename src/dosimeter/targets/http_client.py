"""One request to a service, tried until it is answered or given up.

Owns: secrets from the environment, retries with back-off, pauses the service asks for, limits on time and size, and
errors that name the service but never a secret. Does not own: what is asked, what an answer means, the bill.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.seeding import derive_seed
from dosimeter.targets.http_connection import DirectTransport
from dosimeter.targets.http_limit import AdaptiveLimit, Stopped, sleep_until_stopped
from dosimeter.targets.spec import HttpSpec

MOST_RESPONSE_BYTES = 64 * 2**20
MOST_WAIT_SECONDS = 120.0
FIRST_BACKOFF_SECONDS = 0.5
_LONG_WAIT_SECONDS = 2.0
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_EXCERPT_CHARACTERS = 80
_STANDARD_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "dosimeter",
}


logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Secrets:
    """URL and headers with the environment filled in. Never shown; :meth:`hide` takes them out of a text."""

    url: httpx.URL
    headers: httpx.Headers
    variables: dict[str, str]

    def hide(self, text: str) -> str:
        """``text`` with every value that came from the environment replaced by its name."""
        for name, value in self.variables.items():
            if value:
                text = text.replace(value, f"${{{name}}}")
        return text


def read_secrets(spec: HttpSpec) -> Secrets:
    """Fill ``${NAME}`` in the URL and headers of ``spec`` from the environment, now.

    Raises:
        InputError: a variable is not set, or cannot stand in a header.
    """
    used: dict[str, str] = {}

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        value = os.environ.get(name)
        if value is None:
            raise InputError(
                f"target '{spec.name or spec.shown_url}' needs the environment variable {name}, which is not set. "
                f"Run: export {name}=..."
            )
        if not value.isascii() or not value.isprintable():
            raise InputError(
                f"environment variable {name} holds characters that cannot be sent in a header or URL. "
                "Set it again without line breaks."
            )
        used[name] = value
        return value

    headers = httpx.Headers(_STANDARD_HEADERS)
    headers.update({name: _VARIABLE.sub(value_of, value) for name, value in spec.headers.items()})
    try:
        url = httpx.URL(_VARIABLE.sub(value_of, spec.url))
    except httpx.InvalidURL:
        raise InputError(
            f"'{spec.shown_url}' is not a URL that can be asked. Correct 'url' in the spec."
        ) from None
    return Secrets(url=url, headers=headers, variables=used)


@dataclass(frozen=True)
class Reply:
    """What a service sent back."""

    body: bytes
    content_type: str

    def excerpt(self, secrets: Secrets) -> str:
        """Content type and the first characters of the body, on one line, without secrets."""
        text = " ".join(secrets.hide(self.body[:4096].decode("utf-8", "replace")).split())
        shown = text[:_EXCERPT_CHARACTERS] + ("..." if len(text) > _EXCERPT_CHARACTERS else "")
        return f"{self.content_type[:60]}, {repr(shown) if shown else 'empty body'}"


class ServiceClient:
    """Connections to one service. Made and used on one event loop."""

    def __init__(self, spec: HttpSpec) -> None:
        self.spec = spec
        self.limit = AdaptiveLimit(spec.concurrency)
        self._transport = _transport(spec.url)
        self._said_to_wait_until = 0.0

    async def aclose(self) -> None:
        """Close the connections, on the loop that they were made on."""
        await self._transport.aclose()

    async def send(
        self,
        body: bytes,
        key: str,
        secrets: Secrets,
        *,
        permit: Callable[[], Awaitable[bool]],
        stop: asyncio.Event,
    ) -> Reply:
        """The 2xx reply to ``body``.

        Args:
            body: JSON request.
            key: sent as ``Idempotency-Key`` with every attempt.
            secrets: URL and headers.
            permit: awaited once, in a slot, right before the first attempt; false means not to send.
            stop: once set, nothing more is sent.

        Raises:
            Stopped: ``stop`` or ``permit`` kept the first attempt from being sent.
            TargetError: the service refused, or did not answer in ``max_retries`` further attempts.
        """
        request = httpx.Request(
            self.spec.method,
            secrets.url,
            content=body,
            headers=[*secrets.headers.raw, (b"Idempotency-Key", key.encode())],
        )
        attempts = 0
        failure: _Failure | None = None
        while True:
            try:
                async with self.limit.slot(stop) as entered_at:
                    if attempts == 0 and not await permit():
                        raise Stopped
                    outcome = await self._attempt(request, secrets)
                    attempts += 1
                    if isinstance(outcome, Reply):
                        self.limit.succeeded()
                        return outcome
                    failure = outcome
                    too_long = failure.wait_seconds > MOST_WAIT_SECONDS
                    if failure.overload:
                        self.limit.overloaded(
                            entered_at, pause_seconds=0 if too_long else failure.wait_seconds
                        )
            except Stopped:
                if failure is None:
                    raise
                raise self._given_up(failure, attempts) from None
            if not failure.transient or too_long or attempts > self.spec.max_retries:
                raise self._given_up(failure, attempts)
            self._say_wait(failure.wait_seconds)
            jitter = 0.5 + derive_seed(attempts, key) / 2**64
            backoff = FIRST_BACKOFF_SECONDS * 2 ** (attempts - 1) * jitter
            await sleep_until_stopped(min(MOST_WAIT_SECONDS, max(failure.wait_seconds, backoff)), stop)

    async def _attempt(self, request: httpx.Request, secrets: Secrets) -> Reply | _Failure:
        try:
            async with asyncio.timeout(self.spec.timeout_seconds):
                response = await self._transport.handle_async_request(request)
                try:
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > MOST_RESPONSE_BYTES:
                            return _Failure(
                                f"answered with more than {MOST_RESPONSE_BYTES // 2**20} MiB",
                                "Lower batch_size, or ask the service for less.",
                            )
                finally:
                    await response.aclose()
        except TimeoutError:
            return _Failure(
                f"did not answer within {self.spec.timeout_seconds:g} s",
                "Raise timeout_seconds, or lower concurrency or batch_size.",
                transient=True,
                overload=True,
            )
        except httpx.TransportError as error:
            reason = secrets.hide(str(error)) or type(error).__name__
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                return _Failure(
                    f"has a certificate that cannot be verified ({reason[-_EXCERPT_CHARACTERS:]})",
                    "If an authority of your own signed it, name its file: export SSL_CERT_FILE=...",
                )
            return _Failure(
                f"cannot be reached ({reason[:_EXCERPT_CHARACTERS]})",
                "Check that the service runs and that the URL is right.",
                transient=True,
            )
        except httpx.DecodingError:
            return _Failure("answered with a body that cannot be decompressed", "Check the service.")
        reply = Reply(bytes(body), response.headers.get("Content-Type", "no content type"))
        return reply if response.is_success else _failure_of(response, reply, secrets)

    def _say_wait(self, seconds: float) -> None:
        """Say why nothing happens, once for all requests that wait."""
        now = time.monotonic()
        if seconds >= _LONG_WAIT_SECONDS and now >= self._said_to_wait_until:
            self._said_to_wait_until = now + seconds
            logger.warning("service %s asks to wait %.0f s; waiting", self.spec.shown_url, seconds)

    def _given_up(self, failure: _Failure, attempts: int) -> TargetError:
        tries = "" if attempts == 1 else f" in {attempts} attempts"
        return TargetError(f"service {self.spec.shown_url} {failure.what}{tries}. {failure.next_step}")


def _transport(url: str) -> httpx.AsyncBaseTransport:
    """Direct connections, or through the proxy that the environment names for ``url``."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return DirectTransport()
    return httpx.AsyncHTTPTransport(proxy=proxy)


@dataclass(frozen=True)
class _Failure:
    """An attempt that brought no answer: ``what`` happened, as the end of a sentence, and the ``next_step``."""

    what: str
    next_step: str
    transient: bool = False
    overload: bool = False
    wait_seconds: float = 0.0


def _failure_of(response: httpx.Response, reply: Reply, secrets: Secrets) -> _Failure:
    status, came_back = response.status_code, reply.excerpt(secrets)
    what = f"answered {status} ({came_back})"
    # OpenAI's word for a 429 that no waiting helps against.
    if status == 429 and b'"insufficient_quota"' in reply.body:
        return _Failure(
            f"has no quota left for this key ({came_back})",
            "Ask its operator for more, or use another key, then run again: answers so far are kept.",
        )
    if status == 429 or status == 503:
        wait = retry_after_seconds(response.headers.get("Retry-After"), time.time())
        asked = f" and asks to wait {wait:.0f} s" if wait else ""
        return _Failure(
            f"answered {status}{asked} ({came_back})",
            "Run again later: answers so far are kept. Lower concurrency to meet its limits.",
            transient=True,
            overload=True,
            wait_seconds=wait,
        )
    if status >= 500 or status == 408:
        return _Failure(what, "Check the service, then run again: answers so far are kept.", transient=True)
    if 300 <= status < 400:
        return _Failure(what, "Redirects are not followed: write the final URL into the spec.")
    if status in (401, 403):
        return _Failure(
            what, "Check the access: 'headers' in the spec and the environment variables they name."
        )
    if status in (404, 405):
        return _Failure(what, "Check 'url' and 'method' in the spec.")
    if status == 413:
        return _Failure(what, "Lower batch_size.")
    return _Failure(what, "Check the 'request' template in the spec against what the service takes.")


def retry_after_seconds(value: str | None, now: float) -> float:
    """Seconds to wait by a ``Retry-After`` header (RFC 9110, 10.2.3): a number or a date; 0 if absent or unreadable."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value)) if value.strip().isdigit() else max(0.0, _date_seconds(value) - now)
    except (ValueError, TypeError):
        return 0.0


def _date_seconds(value: str) -> float:
    return parsedate_to_datetime(value).timestamp()
