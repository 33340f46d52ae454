"""Questions are known by both keys and their body, and forgotten in time."""

from __future__ import annotations

import pytest

from dosimeter.server.refusals import Refusal
from dosimeter.server.retries import Retries


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_question_is_one_key_one_path_one_body():
    retries = Retries()
    first = retries.question("k", "/embed", "i", b"body")
    assert retries.question("k", "/embed", "i", b"body") is first
    for other in (
        ("l", "/embed", "i"),
        ("k", "/v1/embeddings", "i"),
        ("k", "/embed", "j"),
        ("k", "/embed", None),
    ):
        assert retries.question(*other, b"body") is not first
    assert retries.question("k", "/embed", None, b"body") is not retries.question(
        "k", "/embed", None, b"body"
    )
    with pytest.raises(Refusal, match="came with another body before") as caught:
        retries.question("k", "/embed", "i", b"bodY")
    assert caught.value.status == 422


def test_questions_are_forgotten_after_a_while_or_when_there_are_too_many(monkeypatch):
    clock = Clock()
    retries = Retries(clock)
    first = retries.question("k", "/", "i", b"")
    clock.now = 599
    assert retries.question("k", "/", "i", b"") is first
    clock.now = 601
    assert retries.question("k", "/", "i", b"") is not first
    monkeypatch.setattr("dosimeter.server.retries._MOST_QUESTIONS", 3)
    questions = [retries.question("k", "/", f"{number}", b"") for number in range(5)]
    assert retries.question("k", "/", "4", b"") is questions[4]
    assert retries.question("k", "/", "0", b"") is not questions[0]


def test_nothing_that_was_asked_is_kept():
    retries = Retries()
    retries.question("k", "/", "my idea", b"my content")
    assert "my idea" not in repr(vars(retries)) and "my content" not in repr(vars(retries))
