"""The FastAPI application: endpoints that turn requests into pages of the desk, and whatever goes wrong into refusals."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from dosimeter.core.errors import WriteError
from dosimeter.server.body import Hangup
from dosimeter.server.desk import Desk, Page, Visit
from dosimeter.server.refusals import Refusal, broken, unavailable
from dosimeter.server.schema import openapi

logger = logging.getLogger(__name__)

Endpoint = Callable[[Visit, Any], Awaitable[Page]]


async def visited(
    desk: Desk, path: str, endpoint: Endpoint, request: Any
) -> tuple[Page | Refusal, dict[str, str]]:
    """What ``endpoint`` says to a request, counted and written down, with the headers to send.

    Raises:
        Hangup: the client is gone.
    """
    visit = Visit(path, time.perf_counter())
    desk.metrics.begun()
    said: Page | Refusal
    try:
        said = await endpoint(visit, request)
    except Refusal as refusal:
        said = refusal
    except Hangup:
        said = Refusal(499, "the client went away.", code="hung_up")
        desk.concluded(visit, said)
        raise
    except asyncio.CancelledError:  # the time to drain is over, or there is to be none
        said = unavailable("the service was stopped before it could answer.", code="stopped")
    except WriteError:
        logger.exception("the key file cannot be written")
        said = unavailable("the service cannot count requests at the moment.", retry_after_seconds=30)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s at %s:%s", type(error).__name__, frame.filename, frame.lineno)
        said = broken("something broke in the service; tell its operator.", code="internal_error")
    try:
        desk.concluded(visit, said)
    except OSError as error:
        logger.error("the audit log cannot be written: %s", error)
        said = unavailable("the service cannot keep its audit log at the moment.", retry_after_seconds=30)
    headers = dict(visit.headers)
    if isinstance(said, Refusal):
        headers.update(said.headers)
    return said, headers


class Asgi:
    """One endpoint as an ASGI application: Starlette's wrapping of functions costs as much as all checks together."""

    def __init__(self, desk: Desk, path: str, endpoint: Endpoint) -> None:
        self._desk, self._path, self._endpoint = desk, path, endpoint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["receive"] = receive
        try:
            said, headers = await visited(self._desk, self._path, self._endpoint, scope)
        except Hangup:
            return
        raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        raw += [
            (b"content-type", (said.content_type if isinstance(said, Page) else "application/json").encode()),
            (b"content-length", b"%d" % len(said.body)),
        ]
        await send({"type": "http.response.start", "status": said.status, "headers": raw})
        await send({"type": "http.response.body", "body": said.body})


def create_app(desk: Desk) -> Any:
    """The FastAPI application on ``desk``."""
    from fastapi import FastAPI
    from fastapi.responses import Response
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    app = FastAPI(
        title=desk.name,
        docs_url="/docs" if desk.settings.docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if desk.settings.docs else None,
    )
    app.openapi = lambda: openapi(desk.name, desk.target)  # type: ignore[method-assign]

    def serve(method: str, path: str, endpoint: Endpoint) -> None:
        app.add_route(path, Asgi(desk, path, endpoint), methods=[method])  # type: ignore[arg-type]

    serve("POST", "/embed", desk.embed)
    serve("POST", "/v1/embeddings", desk.openai_embeddings)
    serve("GET", "/v1/models", desk.models)
    serve("GET", "/health", desk.health)
    serve("GET", "/metrics", desk.show_metrics)

    async def elsewhere(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = "there is nothing here." if status == 404 else "this method is not allowed here."

        async def refuse(*_: Any) -> Page:
            raise Refusal(status, message, code="not_found" if status == 404 else "method_not_allowed")

        said, headers = await visited(desk, "elsewhere", refuse, request.scope)
        return Response(said.body, said.status, headers, "application/json")

    app.add_exception_handler(HTTPException, elsewhere)
    return app
