"""What a service says no with: a status, one sentence, and a code for programs, in the shape that OpenAI uses."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import to_json


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: one sentence for people; never holds content of the request beyond its shape.
        code: for programs, such as ``invalid_api_key``.
        kind: OpenAI's ``type`` of error.
        headers: sent with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.kind = status, message, code, kind
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """``{"error": {"message", "type", "param", "code"}}`` as JSON."""
        return to_json(
            {"error": {"message": self.message, "type": self.kind, "param": None, "code": self.code}}
        )


def invalid(message: str, *, status: int = 422, code: str = "invalid_input") -> Refusal:
    """The client's mistake in what it sent."""
    return Refusal(status, message, code=code)


def unavailable(message: str, *, retry_after_seconds: int = 1, code: str = "overloaded") -> Refusal:
    """Not now, but soon."""
    return Refusal(
        503, message, code=code, kind="server_error", headers={"Retry-After": str(retry_after_seconds)}
    )


def broken(message: str, *, status: int = 500, code: str = "model_failed") -> Refusal:
    """The service's mistake."""
    return Refusal(status, message, code=code, kind="server_error")
