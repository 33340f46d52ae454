"""Makes ``support`` importable and waiting short."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dosimeter.targets.http_client.FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr("dosimeter.server.body._LINGER_SECONDS", 0.2)
