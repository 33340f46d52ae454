"""Requests per second of ``HttpTarget`` against the ideal, on a loopback service with a fixed latency.

The ideal is concurrency / latency. Also measured, on the same service in the same run and in alternating order: bare
httpx with as many requests in flight, and one httpx request after the other. The service runs in another process.

Bare httpx gets a tenth of the requests and the sequential loop 40, because they take that much longer.

    python benchmarks/http_throughput.py [--repeats 5] [--requests 6400] [--latency 0.05] [--concurrency 64]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import httpx

from dosimeter.core.oracle import Oracle
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec

_SEQUENTIAL_REQUESTS = 40


class EchoLength(asyncio.Protocol):
    """Answers every POST, ``latency`` seconds later, with the lengths of the texts it was sent."""

    latency = 0.05

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(rest) >= length:
            self.received = rest[length:]
            asyncio.get_running_loop().call_later(self.latency, self.reply, rest[:length])

    def reply(self, body: bytes) -> None:
        answers = json.dumps({"outputs": [len(text) for text in json.loads(body)["inputs"]]}).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(answers), answers)
        )


def serve(latency: float, port: multiprocessing.Queue[int]) -> None:
    async def run() -> None:
        EchoLength.latency = latency
        server = await asyncio.get_running_loop().create_server(EchoLength, "127.0.0.1", 0, backlog=1024)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def ask_stream(target: HttpTarget, texts: list[str]) -> list[int]:
    answers = [0] * len(texts)
    for indices, part in target.stream(texts, before_send=lambda n: None):
        for index, answer in zip(indices, part):
            answers[index] = int(answer)
    return answers


def ask_oracle(target: HttpTarget, texts: list[str]) -> list[int]:
    return [int(answer) for answer in Oracle(target)(texts)]


def ask_gather(url: str, concurrency: int, texts: list[str]) -> list[int]:
    async def run() -> list[int]:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        slots = asyncio.Semaphore(concurrency)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def one(text: str) -> int:
                async with slots:
                    response = await client.post(url, json={"inputs": [text]})
                return int(response.json()["outputs"][0])

            return await asyncio.gather(*(one(text) for text in texts))

    return asyncio.run(run())


def ask_sequential(url: str, texts: list[str]) -> list[int]:
    with httpx.Client(timeout=60) as client:
        return [int(client.post(url, json={"inputs": [text]}).json()["outputs"][0]) for text in texts]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--requests", type=int, default=6400)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = context.Queue()
    service = context.Process(target=serve, args=(options.latency, port), daemon=True)
    service.start()
    url = f"http://127.0.0.1:{port.get(timeout=30)}/lengths"
    target = HttpTarget(
        HttpSpec(
            url=url,
            authorized=True,
            request={"inputs": "{{inputs}}"},
            response="outputs",
            modality="text",
            returns="label",
            batch_size=1,
            concurrency=options.concurrency,
        )
    )
    texts = [f"{number:06d}" + "x" * (number % 7) for number in range(options.requests)]
    contestants: dict[str, Callable[[], list[int]]] = {
        "HttpTarget.stream": lambda: ask_stream(target, texts),
        "Oracle(HttpTarget), cache and ledger included": lambda: ask_oracle(target, texts),
        "bare httpx + asyncio.gather": lambda: ask_gather(
            url, options.concurrency, texts[: len(texts) // 10]
        ),
        "sequential httpx": lambda: ask_sequential(url, texts[:_SEQUENTIAL_REQUESTS]),
    }
    expected = [len(text) for text in texts]
    for name, ask in contestants.items():
        got = ask()
        if got != expected[: len(got)]:
            print(f"{name} got other answers than the rest", file=sys.stderr)
            return 1
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(options.repeats):
        order = list(contestants) if repeat % 2 == 0 else list(reversed(contestants))
        for name in order:
            started = time.perf_counter()
            answered = len(contestants[name]())
            rates[name].append(answered / (time.perf_counter() - started))
    target.close()
    service.terminate()

    ideal = options.concurrency / options.latency
    print(
        f"{options.requests} requests, {options.latency * 1000:g} ms latency, {options.concurrency} in flight: "
        f"ideal {ideal:.0f} requests/s"
    )
    for name, measured in rates.items():
        median = statistics.median(measured)
        print(
            f"  {name:<46} {median:7.0f} requests/s  (spread {min(measured):.0f}..{max(measured):.0f}, "
            f"n={len(measured)})  {median / ideal:6.1%} of the ideal"
        )
    versions = ", ".join(f"{name} {version(name)}" for name in ("dosimeter", "httpx", "numpy"))
    print(
        f"python {platform.python_version()}, {versions}; {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
