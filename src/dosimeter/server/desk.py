"""What happens to a request: what is checked before the model is asked, and what is counted and written down after.

In order: key, pace, body, JSON, records, retry or new question, room in the queue, quota, answer, audit log, response.
What is cheap and protects most comes first; nothing is read from a client without a key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dosimeter.core.target import Target
from dosimeter.server.answers import openai, plain
from dosimeter.server.audit_log import AuditLog
from dosimeter.server.batcher import Batcher
from dosimeter.server.body import read_body
from dosimeter.server.inputs import InputReader, read_object
from dosimeter.server.keys import Key, KeyStore, Role
from dosimeter.server.limits import RateLimiter
from dosimeter.server.metrics import Metrics
from dosimeter.server.refusals import Refusal, invalid
from dosimeter.server.retries import Question, Retries
from dosimeter.server.spec import ServerSettings

# Beyond these sizes the work on a body or a response would hold up every other request.
_LARGE_BODY_BYTES = 48 * 1024
_MANY_NUMBERS = 100_000
_JSON = "application/json"
_MODEL_SECONDS = 30.0


@dataclass
class Visit:
    """What is known of one request so far."""

    endpoint: str
    started: float
    key: Key | None = None
    records: int = 0
    bytes_in: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A response: body, content type, status."""

    body: bytes
    content_type: str = _JSON
    status: int = 200


class Desk:
    """Everything that the endpoints share. Lives on one event loop.

    Args:
        name: what the service and its model are called.
        audit_log: ``None`` writes none.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        settings: ServerSettings,
        keys: KeyStore,
        audit_log: AuditLog | None,
    ) -> None:
        self.name, self.target, self.settings, self.keys, self.audit_log = (
            name,
            target,
            settings,
            keys,
            audit_log,
        )
        self.metrics = Metrics(keys, settings.quota)
        self._made_at = int(time.time())
        self._pace = RateLimiter()
        self._retries = Retries()
        self._draws_anew = bool(getattr(target, "draws_per_query", False))
        self._reader = InputReader(target.modality, settings)
        self._batcher = Batcher(
            target,
            most_waiting=settings.max_waiting,
            wait_seconds=settings.batch_wait_ms / 1000,
            observe=self.metrics.passed,
        )
        self._aside = ThreadPoolExecutor(2, thread_name_prefix="dosimeter json")

    def close(self, *, at_once: bool = False) -> None:
        """Answer what waits for the model, unless it is to be ``at_once``, and bring the audit log to the disk."""
        self._batcher.close(timeout_seconds=0.0 if at_once else _MODEL_SECONDS)
        self._aside.shutdown(wait=False, cancel_futures=True)
        if self.audit_log is not None:
            self.audit_log.close()

    async def embed(self, visit: Visit, request: Any) -> Page:
        """``POST /embed``: ``{"inputs": [...]}``."""
        _, answers = await self._answers(visit, request, "inputs", ("inputs",), one=False)
        return Page(await self._made(answers, plain, self.name, self.target.returns, answers))

    async def openai_embeddings(self, visit: Visit, request: Any) -> Page:
        """``POST /v1/embeddings`` as OpenAI defines it."""
        known = ("input", "model", "encoding_format", "dimensions", "user")
        document, answers = await self._answers(visit, request, "input", known, one=True)
        encoding = document.get("encoding_format") or "float"
        return Page(await self._made(answers, openai, self.name, answers, encoding))

    async def models(self, visit: Visit, request: Any) -> Page:
        """``GET /v1/models``: the one model there is."""
        from pydantic_core import to_json

        self._admit(visit, request, "ask")
        model = {"id": self.name, "object": "model", "created": self._made_at, "owned_by": "dosimeter"}
        return Page(to_json({"object": "list", "data": [model]}))

    async def health(self, visit: Visit, request: Any) -> Page:
        """``GET /health``, without a key: that requests are taken."""
        return Page(b'{"status":"ok"}')

    async def show_metrics(self, visit: Visit, request: Any) -> Page:
        """``GET /metrics``, for keys of the role ``metrics``."""
        if not self.settings.open_metrics:
            self._admit(visit, request, "metrics")
        return Page(*self.metrics.text())

    def _admit(self, visit: Visit, request: Any, role: Role) -> Key:
        """The key of a request that may go on.

        Raises:
            Refusal: 401 without a key, 403 for one that may not do this, 429 for one that asks too fast.
        """
        scheme, _, given = header(request, b"authorization").decode("latin-1").partition(" ")
        key = self.keys.find(given.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise Refusal(
                401,
                "this needs a valid API key, sent as 'Authorization: Bearer <key>'.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        visit.key = key
        if key.revoked_at is not None:
            raise Refusal(403, f"the key '{key.name}' was revoked; ask for a new one.", code="key_revoked")
        if key.role != role:
            what = "ask the model" if role == "ask" else "read the metrics"
            raise Refusal(403, f"the key '{key.name}' may not {what}.", code="wrong_role")
        per_minute = key.requests_per_minute or self.settings.requests_per_minute
        burst = max(1, per_minute // 6) if key.requests_per_minute else self.settings.most_at_once
        pace = self._pace.take(key.id, requests_per_minute=per_minute, burst=burst)
        visit.headers.update(pace.headers)
        if not pace.allowed:
            raise Refusal(
                429,
                f"the key '{key.name}' may send {per_minute} requests a minute; wait {pace.wait_seconds} s.",
                code="rate_limit_exceeded",
                kind="requests",
            )
        return key

    async def _answers(
        self, visit: Visit, request: Any, field: str, known: tuple[str, ...], *, one: bool
    ) -> tuple[dict[str, Any], Any]:
        """The document of a request and the answers to the records in its ``field``."""
        key = self._admit(visit, request, "ask")
        if visit.endpoint == "/v1/embeddings" and self.target.returns != "embedding":
            raise invalid(
                f"this service gives {self.target.returns}, no embeddings; ask it at /embed.",
                status=404,
                code="no_embeddings",
            )
        settings = self.settings
        body = await read_body(
            dict(request["headers"]),
            request["receive"],
            most_bytes=settings.max_body_bytes,
            seconds=settings.body_seconds,
        )
        visit.bytes_in = len(body)
        work = (self._read, body, field, known, one)
        if len(body) > _LARGE_BODY_BYTES:
            document, records = await asyncio.get_running_loop().run_in_executor(self._aside, *work)
        else:
            document, records = self._read(body, field, known, one)
        idempotency_key = header(request, b"idempotency-key").decode("latin-1") or None
        question = self._retries.question(key.id, visit.endpoint, idempotency_key, body)
        answers = await self._answered(key, question, records)
        visit.records = len(records)
        return document, answers

    def _read(
        self, body: bytes, field: str, known: tuple[str, ...], one: bool
    ) -> tuple[dict[str, Any], list[Any]]:
        document = read_object(body)
        unknown = next((name for name in document if name not in known), None)
        if unknown is not None:
            raise invalid(
                f"unknown key '{unknown[:60]}'; known are {', '.join(known)}.", code="invalid_request"
            )
        if field not in document:
            raise invalid(f"'{field}' is missing.", code="invalid_request")
        model = document.get("model")
        if model is not None and model != self.name:
            raise invalid(
                f"there is no such model here; the only one is '{self.name}'.",
                status=404,
                code="model_not_found",
            )
        encoding = document.get("encoding_format")
        if encoding not in (None, "float", "base64"):
            raise invalid("'encoding_format' must be float or base64.", code="invalid_request")
        if document.get("dimensions") is not None:
            raise invalid("'dimensions' cannot be chosen here; leave it out.", code="invalid_request")
        return document, self._reader.records(document[field], key=field, one=one)

    async def _answered(self, key: Key, question: Question, records: list[Any]) -> Any:
        """Answers that were counted exactly once, however often the question is repeated meanwhile."""
        if question.running is not None:
            return await asyncio.shield(question.running)
        self._batcher.require_room(len(records))
        paid = 0
        if not question.charged:
            self._charge(key, len(records))
            question.charged, paid = True, len(records)
        question.running = self._batcher.ask(records)
        try:
            return await question.running
        except (Refusal, asyncio.CancelledError):
            if paid:
                question.charged = False
                self.keys.give_back(key, paid)
            raise
        finally:
            question.running = None
            if self._draws_anew:
                question.charged = False

    def _charge(self, key: Key, records: int) -> None:
        if self.keys.reserve(key, records, self.settings.quota) is not None:
            return
        quota = key.quota if key.quota is not None else self.settings.quota
        left = max(0, (quota or 0) - self.keys.used(key))
        raise Refusal(
            429,
            f"the key '{key.name}' has {left} of {quota} records left, and this request asks {records}; "
            f"{'send fewer, or ' if left else ''}ask the operator for more.",
            code="insufficient_quota",
            kind="insufficient_quota",
            headers={"X-Should-Retry": "false"},
        )

    async def _made(self, answers: Any, make: Callable[..., bytes], *arguments: Any) -> bytes:
        if getattr(answers, "size", 0) > _MANY_NUMBERS:
            return await asyncio.get_running_loop().run_in_executor(self._aside, make, *arguments)
        return make(*arguments)

    def concluded(self, visit: Visit, page: Page | Refusal) -> None:
        """Count the request and write it down.

        Raises:
            OSError: the audit log cannot be written.
        """
        seconds = time.perf_counter() - visit.started
        self.metrics.ended(visit.endpoint, page.status, visit.records, seconds)
        if self.audit_log is not None and visit.endpoint != "/health":
            self.audit_log.append(
                key=visit.key.name if visit.key else None,
                endpoint=visit.endpoint,
                status=page.status,
                records=visit.records,
                bytes_in=visit.bytes_in,
                bytes_out=len(page.body),
                seconds=seconds,
            )


def header(request: Any, name: bytes) -> bytes:
    """The first header of an ASGI request that is called ``name``, in lower case; empty without one."""
    return next((value for key, value in request["headers"] if key == name), b"")
