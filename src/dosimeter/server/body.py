"""The body of a request, measured while it arrives."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from dosimeter.loading.sources import size_text
from dosimeter.server.refusals import Refusal

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 * 2**20
_CLOSE = {"Connection": "close"}

Receive = Any


class Hangup(Exception):
    """The client went away before its request was complete."""


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, *, most_bytes: int, seconds: float
) -> bytes:
    """The whole body.

    Args:
        headers: of the request, names in lower case.
        receive: the ASGI callable.

    Raises:
        Refusal: 413 beyond ``most_bytes``, by its announced length or by what came; 408 after ``seconds``; 415 for
            compressed bodies.
        Hangup: the client went away.
    """
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(
            415, "compressed requests are not accepted; send the JSON as it is.", code="unsupported_encoding"
        )
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > most_bytes:
        if b"expect" not in headers:
            await _linger(receive)
        raise _too_large(most_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Hangup
                part = message.get("body", b"")
                size += len(part)
                if size > most_bytes:
                    break
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise Refusal(
            408,
            f"the request did not arrive within {seconds:g} s; send less at once, or faster.",
            code="request_timeout",
            headers=_CLOSE,
        ) from None
    parts.clear()
    await _linger(receive)
    raise _too_large(most_bytes)


async def _linger(receive: Receive) -> None:
    """Throw away what still arrives, for a moment: a client that is still sending would not see the refusal."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while size < _LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(
        413,
        f"the request is larger than the {size_text(most_bytes)} accepted; send fewer or smaller records at once.",
        code="request_too_large",
        headers=_CLOSE,
    )
