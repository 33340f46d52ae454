"""Makes ``support`` importable and waiting short."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dosimeter.targets.http_client.FIRST_BACKOFF_SECONDS", 0.01)
