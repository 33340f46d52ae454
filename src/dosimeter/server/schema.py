"""What the endpoints take and give, as OpenAPI, for FastAPI's page."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from dosimeter.core.target import Target
from dosimeter.server.answers import FIELDS

_RECORDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "table": {"type": "array", "items": {"type": "number"}},
    "image": {
        "description": "a base64 PNG, JPEG or WebP file, a data URL, or nested lists (height, width, 3) of 0..255",
        "oneOf": [{"type": "string"}, {"type": "array", "items": {}}],
    },
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "embedding": {"type": "array", "items": {"type": "number"}},
    "scores": {"type": "array", "items": {"type": "number"}},
    "label": {"type": "integer"},
    "text": {"type": "string"},
}
_REFUSALS = {
    "401": "no valid key",
    "403": "a key that may not do this",
    "413": "too large, or too many records",
    "422": "records that cannot be used",
    "429": "too fast, or no quota left",
    "503": "busy",
}


def openapi(name: str, target: Target) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the service ``name``."""
    record = _RECORDS[target.modality]
    plain = _post(
        "Answers to a batch",
        {"inputs": {"type": "array", "items": record}},
        {
            "model": {"type": "string"},
            FIELDS[target.returns]: {"type": "array", "items": _ANSWERS[target.returns]},
            "dtype": {"type": "string"},
        },
    )
    paths: dict[str, Any] = {"/embed": {"post": plain}}
    if target.returns == "embedding":
        paths["/v1/embeddings"] = {
            "post": _post(
                "Embeddings as OpenAI gives them",
                {
                    "input": {"oneOf": [record, {"type": "array", "items": record}]},
                    "model": {"type": "string", "const": name},
                    "encoding_format": {"type": "string", "enum": ["float", "base64"]},
                },
                {
                    "object": {"type": "string"},
                    "data": {"type": "array", "items": {"type": "object"}},
                    "model": {"type": "string"},
                    "usage": {"type": "object"},
                },
            )
        }
    for path, summary in (
        ("/v1/models", "The one model there is"),
        ("/health", "Whether the service is up; needs no key"),
        ("/metrics", "Metrics for Prometheus; needs a key for metrics"),
    ):
        paths[path] = {"get": {"summary": summary, "responses": {"200": {"description": "OK"}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version("dosimeter")},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _post(summary: str, takes: dict[str, Any], gives: dict[str, Any]) -> dict[str, Any]:
    def content(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"application/json": {"schema": {"type": "object", "properties": properties, **more}}}

    refusals = {status: {"description": meaning} for status, meaning in _REFUSALS.items()}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content(takes, required=[next(iter(takes))])},
        "responses": {"200": {"description": "OK", "content": content(gives)}, **refusals},
    }
