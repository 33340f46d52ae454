"""What a service tells its operator at the start: a line for curl, and the target of an audit spec that attacks it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import yaml

from dosimeter.core.target import RecordedTarget, Target
from dosimeter.server.answers import FIELDS
from dosimeter.targets.http_payload import encode_record

VARIABLE = "DOSIMETER_KEY"
"""The variable of the environment that holds the key in what is shown."""
_SAMPLE_SIDE = 32


def curl_line(target: Target, address: str) -> str:
    """A command that asks one record, ready to run where the variable is set."""
    sample: Any = {
        "text": "a sentence",
        "table": [0.0, 1.0],
        "image": encode_record(np.full((_SAMPLE_SIDE, _SAMPLE_SIDE, 3), 127, np.uint8), "png-base64"),
    }[target.modality]
    body = json.dumps({"inputs": [sample]})
    return (
        f'curl -s {address}/embed -H "Authorization: Bearer ${VARIABLE}" '
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def target_snippet(target: Target, address: str) -> dict[str, Any]:
    """The ``target`` of an audit spec that asks the service at ``address``."""
    snippet: dict[str, Any] = {
        "kind": "http",
        "url": f"{address}/embed",
        "authorized": True,
        "headers": {"Authorization": f"Bearer ${{{VARIABLE}}}"},
        "request": {"inputs": "{{inputs}}"},
        "response": FIELDS[target.returns],
        "modality": target.modality,
        "returns": target.returns,
    }
    if isinstance(target, RecordedTarget) and np.asarray(target.answers).dtype == np.float64:
        snippet["dtype"] = "float64"
    return snippet


def target_yaml(target: Target, address: str) -> str:
    """:func:`target_snippet` as it stands in a spec."""
    return yaml.safe_dump({"target": target_snippet(target, address)}, sort_keys=False, width=200)
