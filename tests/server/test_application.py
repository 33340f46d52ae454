"""Every endpoint and every limit over real loopback sockets."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dosimeter.core.method import wrap_all
from dosimeter.core.registry import load
from dosimeter.core.target import CallableTarget
from dosimeter.targets.http_payload import encode_record
from support.services import Served, image_encoder, lengths, serving

IMAGES = np.random.default_rng(3).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def error(response: httpx.Response) -> dict:
    """The error of a response, which has OpenAI's shape and one sentence or two."""
    document = response.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert document["error"]["message"].endswith(".")
    return document["error"]


def raw(served: Served, data: bytes, *, end: bool = False, wait_seconds: float = 5.0) -> bytes:
    """What comes back for ``data`` until the service hangs up."""
    host, _, port = served.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=wait_seconds) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
        return received


def head(served: Served, path: str = "/embed", **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {served.key}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def test_the_plain_endpoint_takes_every_encoding(tmp_path: Path):
    target = image_encoder()
    expected = target.answer(IMAGES)
    with serving(target, tmp_path) as served:
        for encoding in ("png-base64", "data-url", "nested-list"):
            body = {"inputs": [encode_record(image, encoding) for image in IMAGES]}
            response = served.client.post("/embed", json=body)
            document = response.json()
            assert response.status_code == 200 and document["model"] == "encoder"
            got = np.array(document["embeddings"], dtype=document["dtype"])
            np.testing.assert_array_equal(got.view("u4"), expected.view("u4"))
        assert served.used() == 3 * len(IMAGES)


def test_openai_embeddings_of_texts(tmp_path: Path):
    with serving(lengths(), tmp_path) as served:
        ask = lambda **body: served.client.post("/v1/embeddings", json={"model": "encoder", **body})  # noqa: E731
        one, many = ask(input="abc").json(), ask(input=["a", "bb"], user="u", encoding_format="float").json()
        assert one["object"] == "list" and one["model"] == "encoder"
        assert one["data"] == [{"object": "embedding", "index": 0, "embedding": [3.0, 1.0]}]
        assert [item["embedding"][0] for item in many["data"]] == [1.0, 2.0]
        assert many["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
        [item] = ask(input="abcd", encoding_format="base64").json()["data"]
        assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4")[0] == 4
        models = served.client.get("/v1/models").json()
        assert [model["id"] for model in models["data"]] == ["encoder"] and models["object"] == "list"
        assert error(ask(input="a", model="gpt"))["code"] == "model_not_found"
        for body, status in (({"input": "a", "dimensions": 2}, 422), ({"input": [1, 2]}, 422), ({}, 422)):
            assert ask(**body).status_code == status
        assert ask(input="a", encoding_format="hex").status_code == 422
        assert served.used() == 4


def test_openai_embeddings_of_images(tmp_path: Path):
    target = image_encoder()
    with serving(target, tmp_path) as served:
        url = encode_record(IMAGES[0], "data-url")
        document = served.client.post("/v1/embeddings", json={"input": url, "model": "encoder"}).json()
        got = np.array(document["data"][0]["embedding"], dtype=np.float32)
        np.testing.assert_array_equal(got, target.answer(IMAGES[:1])[0])


@pytest.mark.parametrize(
    ("returns", "field", "answers"),
    [("label", "labels", [1, 2]), ("scores", "scores", [[0.25, 0.75]] * 2), ("text", "texts", ["A", "B"])],
)
def test_other_answers_are_served_too(tmp_path: Path, returns, field, answers):
    target = CallableTarget(
        lambda texts: answers if returns == "text" else np.array(answers), modality="text", returns=returns
    )
    with serving(target, tmp_path) as served:
        assert served.client.post("/embed", json={"inputs": ["a", "b"]}).json()[field] == answers
        refused = served.client.post("/v1/embeddings", json={"input": "a"})
        assert refused.status_code == 404 and error(refused)["code"] == "no_embeddings"


def test_who_may_do_what(tmp_path: Path):
    with serving(lengths(), tmp_path) as served:
        reader = served.service.keys.new("prometheus", role="metrics")
        gone = served.service.keys.new("gone")
        served.service.keys.revoke("gone")
        ask = lambda **headers: httpx.post(f"{served.address}/embed", json={"inputs": ["a"]}, headers=headers)  # noqa: E731
        for headers in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": served.key},
            {"Authorization": "Basic x"},
            {"Authorization": f"Bearer {served.key}x"},
        ):
            refused = ask(**headers)
            assert refused.status_code == 401 and error(refused)["code"] == "invalid_api_key"
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert ask(Authorization=f"bearer  {served.key}").status_code == 200
        for key, code in ((gone, "key_revoked"), (reader, "wrong_role")):
            refused = ask(Authorization=f"Bearer {key}")
            assert refused.status_code == 403 and error(refused)["code"] == code
        assert served.client.get("/metrics").status_code == 403
        assert httpx.get(f"{served.address}/metrics").status_code == 401
        assert httpx.get(f"{served.address}/health").json() == {"status": "ok"}
        assert httpx.get(f"{served.address}/v1/models").status_code == 401
        for path in ("/docs", "/openapi.json", "/redoc", "/nothing"):
            refused = served.client.get(path)
            assert refused.status_code == 404 and error(refused)["code"] == "not_found"
        assert error(served.client.get("/embed"))["code"] == "method_not_allowed"
        assert served.used() == 1
        served.service.keys.revoke("alice")
        assert served.client.post("/embed", json={"inputs": ["a"]}).status_code == 403


def test_docs_and_open_metrics_where_they_are_wanted(tmp_path: Path):
    with serving(lengths(), tmp_path, docs=True, open_metrics=True) as served:
        schema = httpx.get(f"{served.address}/openapi.json").json()
        assert {"/embed", "/v1/embeddings", "/v1/models", "/health", "/metrics"} <= set(schema["paths"])
        assert httpx.get(f"{served.address}/docs").status_code == 200
        assert httpx.get(f"{served.address}/metrics").status_code == 200


def test_a_key_that_asks_too_fast_is_told_when_to_come_back(tmp_path: Path):
    with serving(lengths(), tmp_path, requests_per_minute=60, burst=2) as served:
        responses = [served.client.post("/embed", json={"inputs": ["a"]}) for _ in range(4)]
        assert [response.status_code for response in responses] == [200, 200, 429, 429]
        assert responses[0].headers["RateLimit-Limit"] == "60"
        assert [response.headers["RateLimit-Remaining"] for response in responses] == ["1", "0", "0", "0"]
        assert (
            responses[2].headers["Retry-After"] == "1" and int(responses[2].headers["RateLimit-Reset"]) >= 1
        )
        assert error(responses[2])["code"] == "rate_limit_exceeded"
        assert served.used() == 2
        time.sleep(1.05)
        assert served.client.post("/embed", json={"inputs": ["a"]}).status_code == 200


def test_a_quota_is_hard_also_under_concurrency(tmp_path: Path):
    with serving(lengths(0.002), tmp_path, quota=100) as served:

        def ask(number: int) -> int:
            body = {"inputs": ["x"] * (1 + number % 3)}
            status = served.client.post("/embed", json=body).status_code
            return len(body["inputs"]) if status == 200 else -status

        with ThreadPoolExecutor(12) as pool:
            said = list(pool.map(ask, range(90)))
        assert sum(n for n in said if n > 0) == served.used() <= 100
        assert served.used() >= 98 and {n for n in said if n < 0} == {-429}
        refused = served.client.post("/embed", json={"inputs": ["x"] * 5})
        assert error(refused)["code"] == "insufficient_quota" and "Retry-After" not in refused.headers
        assert re.search(
            r"'alice' has \d of 100 records left, and this request asks 5", error(refused)["message"]
        )


def test_a_quota_survives_restarts(tmp_path: Path):
    with serving(lengths(), tmp_path, quota=None, max_batch=10) as served:
        served.client.post("/embed", json={"inputs": ["a"] * 7}).raise_for_status()
        key = served.key
    from dosimeter.server.run import Service
    from dosimeter.server.spec import ServerSettings

    settings = ServerSettings(port=0, quota=10)
    again = Service(lengths(), name="encoder", keys_file=tmp_path / "keys.sqlite", settings=settings)
    with again.running() as address:
        ask = lambda n: httpx.post(  # noqa: E731
            f"{address}/embed", json={"inputs": ["a"] * n}, headers={"Authorization": f"Bearer {key}"}
        )
        assert [ask(4).status_code, ask(3).status_code, ask(1).status_code] == [429, 200, 429]


def test_what_failed_is_not_counted(tmp_path: Path):
    def fail(texts):
        raise RuntimeError("secret content")

    with serving(CallableTarget(fail, modality="text", returns="embedding"), tmp_path) as served:
        refused = served.client.post("/embed", json={"inputs": ["secret content"]})
        assert refused.status_code == 500 and "secret" not in refused.text
        assert served.used() == 0
        for body in (b"{", b'{"inputs": []}', b'{"inputs": ["a"], "x": 1}', b'{"inputs": [NaN]}', b"[]"):
            assert served.client.post("/embed", content=body).status_code in (400, 422)
        assert served.used() == 0


def test_hostile_bodies_are_refused_in_one_sentence(tmp_path: Path):
    with serving(image_encoder(), tmp_path, max_image_side=64) as served:
        bodies = [
            b"\xff" * 50,
            b"[" * 200_000,
            json.dumps({"inputs": ["A" * 100_000]}).encode(),
            json.dumps({"inputs": [[[[]]]]}).encode(),
            json.dumps({"inputs": [np.zeros((7, 8, 3)).tolist()]}).encode(),
            b'{"inputs": [[[[1e999, 0, 0]]]]}',
            b'{"inputs": [[[["a", "b", "c"]]]]}',
        ]
        for body in bodies:
            refused = served.client.post("/embed", content=body)
            assert refused.status_code in (400, 422), body[:40]
            assert len(error(refused)["message"]) < 250 and "0x" not in refused.text
        assert served.client.post("/embed", json={"inputs": IMAGES[:1].tolist()}).status_code == 200
        assert served.used() == 1


def test_bodies_are_measured_by_what_they_say_and_by_what_they_send(tmp_path: Path):
    with serving(lengths(), tmp_path, max_body_bytes=2000) as served:
        said = served.client.post("/embed", content=b"x" * 2001)
        assert said.status_code == 413 and error(said)["code"] == "request_too_large"
        assert said.headers["Connection"] == "close"
        streamed = served.client.post("/embed", content=(b"y" * 500 for _ in range(5)))
        assert streamed.status_code == 413
        # Announced and never sent: refused without waiting for it.
        assert b" 413 " in raw(served, head(served, Content_Length="99999999999", Expect="100-continue"))
        # An endless stream is cut off.
        chunk = b"ff\r\n" + b"z" * 255 + b"\r\n"
        assert b" 413 " in raw(served, head(served, Transfer_Encoding="chunked") + chunk * 20)
        assert (
            served.client.post("/embed", content=b"x", headers={"Content-Encoding": "gzip"}).status_code
            == 415
        )
        fits = {"inputs": ["a" * 1900]}
        assert served.client.post("/embed", json=fits).status_code == 200
        many = served.client.post("/embed", json={"inputs": ["a"] * 300})
        assert many.status_code == 413 and error(many)["code"] == "batch_too_large"


def test_nothing_is_read_from_a_client_without_a_key(tmp_path: Path):
    with serving(lengths(), tmp_path) as served:
        request = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"
        assert b" 401 " in raw(served, request)


def test_slow_clients_are_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dosimeter.server.run._HEAD_SECONDS", 0.2)
    with serving(lengths(), tmp_path, body_seconds=0.3) as served:
        started = time.monotonic()
        assert raw(served, b"") == b""
        assert raw(served, b"POST /embed HTT") == b""
        assert b" 408 " in raw(served, head(served, Content_Length="10") + b"{")
        assert time.monotonic() - started < 4
        # One that hangs up half way is written down and harms nobody.
        raw(served, head(served, Content_Length="10") + b"{", end=True)
        assert served.client.post("/embed", json={"inputs": ["a"]}).status_code == 200


def test_connections_beyond_the_limit_get_a_503(tmp_path: Path):
    with serving(lengths(), tmp_path, max_connections=3) as served:
        host, _, port = served.address.removeprefix("http://").partition(":")
        held = [socket.create_connection((host, int(port))) for _ in range(3)]
        time.sleep(0.1)
        try:
            received = raw(served, b"")
        finally:
            for connection in held:
                connection.close()
        assert b" 503 " in received and b"Retry-After: 1" in received
        time.sleep(0.1)
        assert served.client.post("/embed", json={"inputs": ["a"]}).status_code == 200


def test_a_full_queue_is_a_503_and_costs_nothing(tmp_path: Path):
    with serving(lengths(0.3, batch_size=1), tmp_path, max_waiting=2) as served:
        with ThreadPoolExecutor(6) as pool:
            ask = lambda _: httpx.post(  # noqa: E731
                f"{served.address}/embed", json={"inputs": ["a"]}, headers=served.client.headers
            )
            responses = list(pool.map(ask, range(6)))
        statuses = sorted(response.status_code for response in responses)
        assert statuses.count(200) >= 2 and statuses[-1] == 503
        assert served.used() == statuses.count(200)


def test_retries_of_one_question_are_charged_once(tmp_path: Path):
    with serving(lengths(0.1), tmp_path) as served:
        ask = lambda text, key: httpx.post(  # noqa: E731
            f"{served.address}/embed",
            json={"inputs": [text]},
            headers={**served.client.headers, "Idempotency-Key": key},
        )
        with ThreadPoolExecutor(3) as pool:
            responses = list(pool.map(lambda _: ask("aa", "one"), range(3)))
        responses.append(ask("aa", "one"))
        assert {response.text for response in responses} == {responses[0].text}
        assert served.used() == 1
        assert ask("aa", "two").status_code == 200 and served.used() == 2
        other = ask("bb", "one")
        assert other.status_code == 422 and error(other)["code"] == "idempotency_key_reused"
        assert served.used() == 2


def test_a_defence_that_draws_per_query_gives_no_draw_for_free(tmp_path: Path):
    noise = load("feature-noise")(draw="per-query")
    with serving(wrap_all(image_encoder(), [noise]), tmp_path) as served:
        body = {"inputs": IMAGES[:1].tolist()}
        said = [
            served.client.post("/embed", json=body, headers={"Idempotency-Key": "one"}).text for _ in range(3)
        ]
        assert len(set(said)) == served.used() == 3


def test_metrics_say_what_happened(tmp_path: Path):
    with serving(lengths(), tmp_path, open_metrics=True, quota=50) as served:
        served.client.post("/embed", json={"inputs": ["a", "b"]})
        served.client.post("/v1/embeddings", json={"input": "a"})
        served.client.post("/embed", json={"inputs": []})
        served.client.get("/wp-admin.php")
        text = httpx.get(f"{served.address}/metrics").text
        samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["dosimeter_requests_total", "/embed", "200"] == 1
        assert samples["dosimeter_requests_total", "/embed", "422"] == 1
        assert samples["dosimeter_requests_total", "404", "elsewhere"] == 1
        assert samples["dosimeter_records_total", "/embed"] == 2
        assert samples["dosimeter_records_total", "/v1/embeddings"] == 1
        assert samples["dosimeter_key_records", "alice"] == 3
        assert samples["dosimeter_key_quota", "alice"] == 50
        assert samples["dosimeter_requests_in_flight",] == 1
        assert samples["dosimeter_request_seconds_count", "/embed"] == 2
        assert samples["dosimeter_pass_records_sum",] == 3
        assert served.key not in text and "wp-admin" not in text


def test_the_log_says_who_and_how_much_but_not_what(tmp_path: Path):
    with serving(lengths(), tmp_path) as served:
        served.client.post("/embed", json={"inputs": ["my secret", "more"]})
        served.client.post("/embed", json={"inputs": "my secret"}, headers={"Idempotency-Key": "my secret"})
        httpx.post(f"{served.address}/embed?my=secret", headers={"Authorization": "Bearer my secret"})
        served.client.get("/my/secret")
        served.client.get("/health")
        lines = [json.loads(line) for line in served.log().splitlines()]
    said = [(line["key"], line["endpoint"], line["status"], line["records"]) for line in lines]
    assert said == [
        ("alice", "/embed", 200, 2),
        ("alice", "/embed", 422, 0),
        (None, "/embed", 401, 0),
        (None, "elsewhere", 404, 0),
    ]
    assert lines[0]["bytes_in"] == len(json.dumps({"inputs": ["my secret", "more"]}, separators=(",", ":")))
    assert set(lines[0]) == {
        "time",
        "key",
        "endpoint",
        "status",
        "records",
        "bytes_in",
        "bytes_out",
        "seconds",
    }
    for file in tmp_path.iterdir():
        assert b"secret" not in file.read_bytes(), file.name
        assert served.key.encode() not in file.read_bytes(), file.name


def test_without_a_log_nothing_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(lengths(), tmp_path) as served:
        assert served.client.post("/embed", json={"inputs": ["a"]}).status_code == 200

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("dosimeter.server.audit_log.os.write", full)
        refused = served.client.post("/embed", json={"inputs": ["a"]})
        assert refused.status_code == 503 and "audit log" in error(refused)["message"]


def test_health_answers_while_the_model_works(tmp_path: Path):
    with serving(lengths(0.8), tmp_path) as served:
        thread = threading.Thread(target=lambda: served.client.post("/embed", json={"inputs": ["a"]}))
        thread.start()
        time.sleep(0.1)
        started = time.monotonic()
        assert httpx.get(f"{served.address}/health").status_code == 200
        assert time.monotonic() - started < 0.5
        thread.join()
