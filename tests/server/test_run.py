"""A service from its first connection to its last, in a process of its own and in a thread."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.server.keys import KeyStore
from dosimeter.server.run import Service, require_server
from dosimeter.server.spec import ServerSettings
from support.services import lengths, serving

MODELS = """\
import time
import numpy as np
from dosimeter.core.target import CallableTarget

def slow(seconds):
    def answer(texts):
        time.sleep(seconds)
        return np.array([[len(text)] for text in texts], dtype=np.float32)
    return CallableTarget(answer, modality="text", returns="embedding", batch_size=1)
"""
SPEC = """\
name: slow
target: {kind: torch, factory: "models.py:slow", arguments: {seconds: SECONDS}, returns: embedding}
server: {port: 0, drain_seconds: 20}
"""
COMMAND = [sys.executable, "-c", "from dosimeter.cli import main; main()"]


@contextmanager
def process(folder: Path, seconds: float) -> Iterator[tuple[subprocess.Popen, str, dict[str, str]]]:
    """``dosimeter serve`` in a process: with its address, and the headers of a key."""
    (folder / "models.py").write_text(MODELS)
    (folder / "service.yaml").write_text(SPEC.replace("SECONDS", str(seconds)))
    store = KeyStore(folder / "service.keys.sqlite")
    key = store.new("alice")
    store.close()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*COMMAND, "serve", "service.yaml", "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            text = ""
            while not text.rstrip().endswith("\n}"):
                line = running.stdout.readline()
                assert line, running.stderr.read()
                text += line
            yield running, json.loads(text)["address"], {"Authorization": f"Bearer {key}"}
        finally:
            running.kill()


def ask_in_thread(address: str, headers: dict[str, str], said: list) -> threading.Thread:
    def ask() -> None:
        try:
            said.append(httpx.post(f"{address}/embed", json={"inputs": ["abc"]}, headers=headers, timeout=30))
        except httpx.TransportError as error:
            said.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_the_first_signal_lets_requests_end(tmp_path: Path):
    with process(tmp_path, 1.0) as (running, address, headers):
        said: list = []
        threads = [ask_in_thread(address, headers, said) for _ in range(2)]
        time.sleep(0.5)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")
        for thread in threads:
            thread.join()
        assert running.wait(10) == 0, running.stderr.read()
        assert [response.json()["embeddings"] for response in said] == [[[3.0]]] * 2
        assert running.stderr.read() == ""
    lines = [json.loads(line) for line in (tmp_path / "service.audit.jsonl").read_text().splitlines()]
    assert [(line["key"], line["status"], line["records"]) for line in lines] == [("alice", 200, 1)] * 2
    assert KeyStore(tmp_path / "service.keys.sqlite").list()[0].used == 2


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(tmp_path: Path, second: signal.Signals):
    with process(tmp_path, 15.0) as (running, address, headers):
        said: list = []
        thread = ask_in_thread(address, headers, said)
        time.sleep(0.5)
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert running.poll() is None
        started = time.monotonic()
        running.send_signal(second)
        assert running.wait(5) == 130
        assert time.monotonic() - started < 3
        thread.join()
        assert isinstance(said[0], httpx.TransportError) or said[0].status_code == 503
        assert "Traceback" not in running.stderr.read()
    assert KeyStore(tmp_path / "service.keys.sqlite").list()[0].used == 0


def test_what_a_killed_service_counted_stays_counted(tmp_path: Path):
    with process(tmp_path, 0.0) as (running, address, headers):
        for _ in range(3):
            httpx.post(f"{address}/embed", json={"inputs": ["a", "b"]}, headers=headers).raise_for_status()
        running.kill()
        running.wait()
    assert KeyStore(tmp_path / "service.keys.sqlite").list()[0].used == 6
    assert (tmp_path / "service.audit.jsonl").read_text().count("\n") == 3


def test_a_taken_port_is_said(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = ServerSettings(port=port)
        service = Service(lengths(), name="x", keys_file=tmp_path / "keys", settings=settings)
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}: .*port 0 takes a free one"):
            service.listen()
        service.close()


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path):
    service = Service(
        lengths(), name="x", keys_file=tmp_path / "keys", audit_file=tmp_path, settings=ServerSettings(port=0)
    )
    with (
        pytest.raises(InputError, match=r"cannot append to the audit log .*server\.audit_log"),
        service.running(),
    ):
        pass


def test_at_the_end_of_the_block_requests_are_let_end(tmp_path: Path):
    said: list = []
    with serving(lengths(0.5), tmp_path) as served:
        headers = dict(served.client.headers)
        thread = ask_in_thread(served.address, headers, said)
        time.sleep(0.2)
    thread.join()
    assert said[0].status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.address}/health")


def test_ipv6_and_names_are_addresses(tmp_path: Path):
    try:
        with serving(lengths(), tmp_path, host="::1") as served:
            assert served.address.startswith("http://[::1]:")
            assert served.client.get("/health").status_code == 200
    except InputError as error:
        if "cannot listen" not in str(error):
            raise
        pytest.skip("no IPv6 here")


def test_https_where_a_certificate_is_given(tmp_path: Path):
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl makes no certificate here")
    settings = ServerSettings(port=0, tls_certificate=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
    service = Service(lengths(), name="x", keys_file=tmp_path / "keys", settings=settings)
    import ssl

    with service.running() as address:
        assert address.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        assert httpx.get(f"{address}/health", verify=trusted).json() == {"status": "ok"}


def test_without_the_extra_the_error_says_which(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dosimeter\[server\]'"):
        require_server()
