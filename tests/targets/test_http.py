"""HTTP targets against a loopback service that behaves well, badly and worse."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter

import numpy as np
import pytest

from dosimeter.core.errors import BudgetExceeded, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.limits import time_limit
from dosimeter.core.oracle import Oracle
from dosimeter.targets import http_client
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.http_client import retry_after_seconds
from dosimeter.targets.spec import HttpSpec
from support.loopback import LoopbackService, Reply, html, rate_limited, redirect

TEXTS = [f"text {number}" for number in range(40)]


def lengths(document):
    return {"outputs": [[len(text), hash(text) % 7] for text in document["inputs"]]}


EXPECTED = np.array(lengths({"inputs": TEXTS})["outputs"], dtype=np.float32)


def make(service: LoopbackService, **settings) -> HttpTarget:
    spec = {
        "url": service.url,
        "authorized": True,
        "request": {"inputs": "{{inputs}}"},
        "response": "outputs",
        "modality": "text",
        "returns": "embedding",
        "batch_size": 4,
        "concurrency": 4,
        "timeout_seconds": 5,
        "max_retries": 3,
    }
    return HttpTarget(HttpSpec(**(spec | settings)))


def ask(target: HttpTarget, texts=TEXTS) -> np.ndarray:
    try:
        return np.asarray(target.answer(texts))
    finally:
        target.close()


def first(n: int, reply: Reply):
    return lambda number, body: reply if number < n else None


def always(reply: Reply):
    return lambda number, body: reply


def test_answers_arrive_in_order_and_in_parallel():
    with LoopbackService(lengths, delay_seconds=0.02) as service:
        np.testing.assert_array_equal(ask(make(service)), EXPECTED)
        assert service.requests == 10
        assert service.most_in_flight == 4
        assert sum(len(body["inputs"]) for body in service.bodies) == 40


def test_every_request_is_paid_for_before_it_leaves_in_the_consuming_thread():
    with LoopbackService(lengths) as service:
        target, paid, threads = make(service), [], set()

        def pay(n: int) -> None:
            paid.append(n)
            threads.add(threading.get_ident())

        got: list[int] = []
        for indices, answers in target.stream(TEXTS, before_send=pay):
            assert sum(paid) >= sum(len(body["inputs"]) for body in service.bodies)
            np.testing.assert_array_equal(answers, EXPECTED[indices])
            got += indices.tolist()
        target.close()
        assert sorted(got) == list(range(40)) and sum(paid) == 40
        assert threads == {threading.get_ident()}


def test_an_empty_batch_sends_nothing():
    with LoopbackService(lengths) as service:
        assert list(make(service).stream([], before_send=lambda n: None)) == []
        assert service.requests == 0


def test_when_money_runs_out_what_was_paid_still_arrives():
    with LoopbackService(lengths, delay_seconds=0.02) as service:
        target, ledger, got = make(service), Ledger(max_queries=18), 0
        with pytest.raises(BudgetExceeded):
            for indices, _ in target.stream(TEXTS, before_send=lambda n: ledger.reserve(n, target="t")):
                got += len(indices)
        target.close()
        assert got == ledger.used == 16
        assert sum(len(body["inputs"]) for body in service.bodies) == 16


@pytest.mark.parametrize(
    "trouble",
    [
        rate_limited("0"),
        rate_limited(),
        html(503),
        Reply(500, b"{}"),
        Reply(hang_up=True),
        Reply(raw=b"not http at all\r\n\r\n"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    ],
    ids=["429 at once", "429", "503", "500", "hangs up", "garbage", "cut off"],
)
def test_passing_trouble_is_retried_and_costs_nothing(trouble):
    with LoopbackService(lengths, misbehave=first(3, trouble)) as service:
        target, ledger = make(service), Ledger()
        np.testing.assert_array_equal(Oracle(target, ledger=ledger)(TEXTS), EXPECTED)
        target.close()
        assert ledger.used == ledger.answered == 40
        assert service.requests == 13
        assert len(set(service.keys)) == 10


def test_a_slow_answer_is_asked_again_under_the_same_key():
    with LoopbackService(lengths, misbehave=first(1, Reply(delay_seconds=30))) as service:
        np.testing.assert_array_equal(ask(make(service, timeout_seconds=0.3)), EXPECTED)
        assert max(Counter(service.keys).values()) == 2


def test_a_long_wait_is_explained_once(monkeypatch, caplog):
    monkeypatch.setattr("dosimeter.targets.http_client._LONG_WAIT_SECONDS", 1.0)
    with LoopbackService(lengths, misbehave=first(4, rate_limited("1"))) as service:
        target = make(service, concurrency=4)
        np.testing.assert_array_equal(ask(target), EXPECTED)
        assert caplog.messages == [f"service {service.url} asks to wait 1 s; waiting"]


def test_retry_after_is_honoured_by_all_requests():
    with LoopbackService(lengths, misbehave=first(1, rate_limited("1"))) as service:
        target = make(service, concurrency=1)
        started = time.monotonic()
        np.testing.assert_array_equal(ask(target), EXPECTED)
        assert time.monotonic() - started >= 1
        assert service.most_in_flight == 1


def test_overload_lowers_the_number_in_flight():
    def busy(number, body):
        return rate_limited() if service.in_flight > 2 else None

    with LoopbackService(lengths, misbehave=busy, delay_seconds=0.01) as service:
        texts = [f"{number}" for number in range(300)]
        target = make(service, batch_size=1, concurrency=16, max_retries=20)
        answers = target.answer(texts)
        target.close()
        assert len(answers) == 300
        assert service.requests - service.answered < 150


@pytest.mark.parametrize(
    ("misbehave", "settings", "match"),
    [
        (always(html()), {}, r"not JSON \(text/html; charset=utf-8, '<!doctype html><title>Please log in"),
        (always(html(404)), {}, r"answered 404 \(text/html.*Check 'url'"),
        (always(Reply(401, b'{"error": "no"}')), {}, "answered 401 .*environment variables"),
        (always(Reply(400, b"bad")), {}, "answered 400 .*Check the 'request' template"),
        (always(Reply(413)), {}, r"answered 413 \(application/json, empty body\). Lower batch_size"),
        (always(redirect("http://elsewhere.example/")), {}, "answered 307 .*Redirects are not followed"),
        (always(Reply(500, b"x" * 500)), {}, "answered 500 .*x{80}\\.\\.\\.'.*in 4 attempts"),
        (always(rate_limited("9999")), {}, r"answered 429 and asks to wait 9999 s \(application/json"),
        (
            always(Reply(hang_up=True)),
            {"max_retries": 1},
            "closed the connection without answering.* in 2 attempts",
        ),
        (
            always(Reply(delay_seconds=30)),
            {"timeout_seconds": 0.1, "max_retries": 1},
            "within 0.1 s in 2 att",
        ),
        (
            always(Reply(body=b'{"predictions": []}')),
            {},
            "with 'outputs' at .* but got an object with 'predictions'",
        ),
        (always(Reply(body=b'{"outputs": [[1, 2]]}')), {}, "expected 4 answers, one per record, but got 1"),
        (always(Reply(body=b'{"outputs": 7}')), {}, "but got one value"),
        (always(Reply(body=b'{"outputs": [[NaN],[1],[1],[1]]}')), {}, "1 of 4 are NaN"),
        (always(Reply(body=b"[" * 100_000)), {}, "not JSON"),
        (
            always(Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"})),
            {},
            "cannot be decompressed",
        ),
    ],
)
def test_a_service_that_cannot_be_used_is_explained(misbehave, settings, match):
    with LoopbackService(lengths, misbehave=misbehave) as service:
        with pytest.raises(TargetError, match=match) as raised:
            ask(make(service, **settings))
        assert service.url in str(raised.value)


def test_another_dimension_than_before_is_an_error_and_the_rest_is_kept():
    def shorter(number, body):
        return Reply(body=b'{"outputs": [[1], [1], [1], [1]]}') if number == 5 else None

    with LoopbackService(lengths, misbehave=shorter) as service:
        target, ledger = make(service, concurrency=1), Ledger()
        oracle = Oracle(target, ledger=ledger)
        with pytest.raises(TargetError, match=r"shape \(2,\) as before, but got \(1,\)"):
            oracle(TEXTS)
        assert (ledger.used, ledger.answered, ledger.lost) == (24, 20, 4)
        np.testing.assert_array_equal(oracle(TEXTS), EXPECTED)
        assert (ledger.used, ledger.answered) == (44, 40)
        target.close()


def test_a_failure_stops_the_sending_and_keeps_what_was_answered():
    def broken(number, body):
        return Reply(400) if "text 12" in json.loads(body)["inputs"] else None

    with LoopbackService(lengths, misbehave=broken, delay_seconds=0.02) as service:
        target, got = make(service, concurrency=2), []
        with pytest.raises(TargetError, match="answered 400"):
            for indices, _ in target.stream(TEXTS, before_send=lambda n: None):
                got += indices.tolist()
        target.close()
        assert len(got) == 4 * service.answered
        assert service.requests <= 6


def test_no_service_is_explained():
    with LoopbackService(lengths) as service:
        url = service.url
    with pytest.raises(
        TargetError, match=r"cannot be reached .*Connect call failed.*Check that the service runs"
    ):
        ask(make(service, url=url, max_retries=0))


def test_a_large_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(http_client, "MOST_RESPONSE_BYTES", 2**20)
    bomb = Reply(body=gzip.compress(b" " * 2**24), headers={"Content-Encoding": "gzip"})
    service = LoopbackService(lengths, misbehave=always(bomb))
    with service, pytest.raises(TargetError, match="more than 1 MiB"):
        ask(make(service))


def test_chunked_compressed_and_closing_answers_are_read():
    packed = gzip.compress(json.dumps(lengths({"inputs": TEXTS[:4]})).encode())
    half = len(packed) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (packed[:half], packed[half:]))
    head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
    raw = Reply(raw=head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    with LoopbackService(lengths, misbehave=always(raw)) as service:
        np.testing.assert_array_equal(ask(make(service), TEXTS[:4]), EXPECTED[:4])


def test_connections_are_reused_and_stale_ones_replaced():
    with LoopbackService(lengths) as service:
        target = make(service, concurrency=1)
        target.answer(TEXTS)
        target.close()
        np.testing.assert_array_equal(ask(target), EXPECTED)
        assert service.connections == 2


def test_closing_the_iterator_cancels_what_is_in_flight():
    before = threading.active_count()  # other tests of the same process may have left some
    with LoopbackService(lengths, misbehave=lambda n, b: Reply(delay_seconds=60) if n else None) as service:
        target = make(service)
        stream = target.stream(TEXTS, before_send=lambda n: None)
        next(stream)
        stream.close()
        target.close()
        assert threading.active_count() <= before + 2
        time.sleep(0.3)  # for what was on the wire
        sent = service.requests
        time.sleep(0.05)
        assert service.requests == sent <= 5


def test_closing_the_target_meanwhile_ends_the_stream():
    with LoopbackService(lengths, misbehave=lambda n, b: Reply(delay_seconds=60) if n else None) as service:
        target = make(service)
        stream = target.stream(TEXTS, before_send=lambda n: None)
        next(stream)
        target.close()
        with pytest.raises(TargetError, match="was closed while 36 answers were outstanding"):
            list(stream)


def test_the_time_limit_ends_a_hanging_service(monkeypatch):
    monkeypatch.setattr("dosimeter.targets.http._TIME_CHECK_SECONDS", 0.02)
    service = LoopbackService(lengths, misbehave=always(Reply(delay_seconds=60)))
    with service, pytest.raises(BudgetExceeded, match="seconds reached"), time_limit(0.1):
        ask(make(service))


def test_secrets_are_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "hunter2-secret")
    monkeypatch.setenv("SERVICE_TOKEN", "tok-123")

    def leak(number, body):
        if number == 0:
            return None
        return Reply(403, f"bad key {service.headers[-1]['authorization']} tok-123".encode())

    with LoopbackService(lengths, misbehave=leak) as service:
        target = make(
            service,
            url=service.url + "?token=${SERVICE_TOKEN}",
            headers={"Authorization": "Bearer ${SERVICE_KEY}", "X-Team": "red"},
        )
        target.answer(TEXTS[:4])
        assert service.headers[0]["authorization"] == "Bearer hunter2-secret"
        assert service.headers[0]["x-team"] == "red"
        assert service.paths[0] == "/predict?token=tok-123"
        with pytest.raises(TargetError) as raised:
            target.answer(TEXTS[4:])
        target.close()
        for text in (str(raised.value), repr(target), repr(target.spec), str(target.__dict__)):
            assert "hunter2" not in text and "tok-123" not in text
        assert "bad key Bearer ${SERVICE_KEY} ${SERVICE_TOKEN}" in str(raised.value)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, "needs the environment variable SERVICE_KEY, which is not set"),
        ("a\nb", "cannot be sent in a header"),
    ],
)
def test_a_missing_or_impossible_secret_is_found_before_anything_is_sent(monkeypatch, value, match):
    monkeypatch.delenv("SERVICE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SERVICE_KEY", value)
    with LoopbackService(lengths) as service:
        ledger = Ledger()
        with pytest.raises(InputError, match=match):
            Oracle(make(service, headers={"X-Api-Key": "${SERVICE_KEY}"}), ledger=ledger)(TEXTS)
        assert service.requests == 0 and ledger.used == 0


def test_identity_is_what_is_asked_not_how():
    with LoopbackService(lengths) as service:
        base = make(service).fingerprint
        for same in ({"headers": {"X-Team": "red"}}, {"batch_size": 9, "concurrency": 2}, {"name": "n"}):
            assert make(service, **same).fingerprint == base
        for other in (
            {"version": "2"},
            {"response": "[0]"},
            {"returns": "scores"},
            {"url": service.url + "2"},
        ):
            assert make(service, **other).fingerprint != base


def test_asking_once_more_is_a_new_question():
    with LoopbackService(lengths) as service:
        target = make(service)
        oracle = Oracle(target)
        assert oracle.determinism(TEXTS[:4]).disagreeing == 0
        target.close()
        assert len(service.keys) == len(set(service.keys)) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 0), ("", 0), ("7", 7), ("soon", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40), ("-3", 0)],
)
def test_retry_after_is_read(value, seconds):
    assert retry_after_seconds(value, now=60.0) == seconds
