"""Requests per second of ``dosimeter serve`` against a bare FastAPI handler of the same model, loaded with wrk.

Both run in processes of their own, under uvicorn with one thread for the model, and take one 32 x 32 PNG per request. Ours
checks a key, a rate, a quota and every limit, counts in SQLite, writes its audit log and its metrics. The bare handler decodes,
computes and answers: as ``def`` (FastAPI's thread pool; what its documentation advises for work that blocks) and as
``async def`` (inline: a little faster, but every other request, health checks included, waits for the model). It computes
exactly the records of each request. Ours pads every pass to the ``batch_size`` of the target, so that company changes no bit, and
joins requests that wait; it runs with passes of one record and of ``--batch-size``.

The answers are checked to agree first. Then, at each number of connections, wrk loads one after the other, in alternating
order. Thresholds: with one connection, ours with passes of one reaches 0.8 of the ``def`` handler; with several, ours with the
larger passes beats both handlers.

    python benchmarks/service_throughput.py [--repeats 5] [--seconds 4] [--connections 1 16] [--batch-size 8]

Exit code 1 if a threshold is missed or answers differ, 2 if wrk is not installed.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

SIDE = 32
ALONE, BARE, INLINE = "dosimeter serve, passes of 1", "bare FastAPI, def", "bare FastAPI, async def"
NEEDED_ALONE, NEEDED_TOGETHER = 0.8, 1.0


def encoder() -> Any:
    """(n, 3, 32, 32) -> (n, 128): four convolutions, with fixed weights."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[Any] = []
    for width_in, width_out in ((3, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(width_in, width_out, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def serve_ours(port: int, folder: str, batch_size: int) -> None:
    """Ours, until killed."""
    import torch

    from dosimeter.server.run import Service
    from dosimeter.server.spec import ServerSettings
    from dosimeter.targets.torch import TorchTarget

    torch.set_num_threads(1)
    target = TorchTarget(encoder(), name="encoder", returns="embedding", batch_size=batch_size)
    settings = ServerSettings(port=port, requests_per_minute=10**7, quota=10**9)
    files = {"keys_file": Path(folder) / "keys.sqlite", "audit_file": Path(folder) / "audit.jsonl"}
    Service(target, name="encoder", settings=settings, **files).run()


def serve_bare(port: int, inline: bool) -> None:
    """A FastAPI handler as one writes it, until killed."""
    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    torch.set_num_threads(1)
    module, app = encoder(), FastAPI()

    class Question(BaseModel):
        inputs: list[str]

    def answer(question: Question) -> dict[str, Any]:
        images = [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in question.inputs]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        with torch.no_grad():
            return {"embeddings": module(pixels.permute(0, 3, 1, 2).float() / 255).tolist()}

    async def answer_inline(question: Question) -> dict[str, Any]:
        return answer(question)

    # Annotations of functions in a function are not found by name.
    for handler in (answer, answer_inline):
        handler.__annotations__["question"] = Question
    app.post("/embed")(answer_inline if inline else answer)
    uvicorn.run(app, port=port, access_log=False, log_level="warning", http="h11", loop="asyncio")


@dataclass(frozen=True)
class Load:
    """What wrk measured: requests per second, and latency in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def load(url: str, script: Path, connections: int, seconds: float) -> Load:
    """Load ``url`` with wrk."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"wrk saw failures at {url}:\n{said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    return Load(float(rate[1]), _milliseconds(said, 50), _milliseconds(said, 99))


def _milliseconds(said: str, percentile: int) -> float:
    found = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", said)
    assert found is not None, said
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print(
            "this benchmark loads services with wrk, which is not installed. Run: apt-get install wrk",
            file=sys.stderr,
        )
        return 2

    from dosimeter.server.keys import KeyStore

    with tempfile.TemporaryDirectory() as folder:
        keys = KeyStore(Path(folder) / "keys.sqlite")
        key = keys.new("load")
        keys.close()
        joined = f"dosimeter serve, passes of {options.batch_size}"
        context = multiprocessing.get_context("spawn")
        ports = [free_port() for _ in range(4)]
        makers: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [
            (ALONE, serve_ours, (ports[0], folder, 1)),
            (joined, serve_ours, (ports[1], folder, options.batch_size)),
            (BARE, serve_bare, (ports[2], False)),
            (INLINE, serve_bare, (ports[3], True)),
        ]
        urls = {name: f"http://127.0.0.1:{port}/embed" for (name, _, _), port in zip(makers, ports)}
        processes = [context.Process(target=make, args=given, daemon=True) for _, make, given in makers]
        for process in processes:
            process.start()
        try:
            return compare(urls, key, Path(folder), options)
        finally:
            for process in processes:
                process.terminate()
                process.join(10)


def compare(urls: dict[str, str], key: str, folder: Path, options: argparse.Namespace) -> int:
    """Check that the services agree, load them, and print what came out."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    body = json.dumps({"inputs": [base64.b64encode(buffer.getvalue()).decode()]})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    script = folder / "load.lua"
    lines = ['wrk.method = "POST"', f"wrk.body = [[{body}]]"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script.write_text("\n".join(lines) + "\n")

    answers = {name: ask(url, body, headers) for name, url in urls.items()}
    first = next(iter(answers.values()))
    for name, answer in answers.items():
        if not np.allclose(answer, first, rtol=1e-5, atol=1e-6):
            print(f"{name} gave another answer than the rest", file=sys.stderr)
            return 1
    missed = False
    for connections in options.connections:
        for url in urls.values():
            load(url, script, connections, 1)
        runs: dict[str, list[Load]] = {name: [] for name in urls}
        for repeat in range(options.repeats):
            for name in list(urls) if repeat % 2 == 0 else reversed(urls):
                runs[name].append(load(urls[name], script, connections, options.seconds))
        missed |= report(connections, runs)
    print(
        f"python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("dosimeter", "fastapi", "uvicorn", "h11", "torch"))
        + f"; wrk; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    return int(missed)


def report(connections: int, runs: dict[str, list[Load]]) -> bool:
    """Print one line per service; whether ours missed its threshold."""
    print(f"{connections} connection{'s' * (connections > 1)}, one image per request")
    rates = {name: [run.rate for run in measured] for name, measured in runs.items()}
    for name, measured in runs.items():
        print(
            f"  {name:<28} {statistics.median(rates[name]):7.0f} requests/s "
            f"(spread {min(rates[name]):.0f}..{max(rates[name]):.0f}, n={len(measured)})  "
            f"p50 {statistics.median(run.p50_ms for run in measured):6.2f} ms  "
            f"p99 {statistics.median(run.p99_ms for run in measured):6.2f} ms"
        )
    joined = next(name for name in runs if name not in (ALONE, BARE, INLINE))
    ours, needed = (ALONE, NEEDED_ALONE) if connections == 1 else (joined, NEEDED_TOGETHER)
    missed = False
    for bare in (BARE, INLINE):
        ratios = [one / other for one, other in zip(rates[ours], rates[bare])]
        ratio = statistics.median(ratios)
        verdict = ""
        if connections > 1 or bare == BARE:
            missed |= ratio < needed
            verdict = f"; at least {needed:.2f} {'holds' if ratio >= needed else 'is missed'}"
        spread = f"spread {min(ratios):.2f}..{max(ratios):.2f}"
        print(f"  ratio of '{ours}' to '{bare}': {ratio:.2f} ({spread}){verdict}")
    return missed


def ask(url: str, body: str, headers: dict[str, str]) -> np.ndarray:
    """The embeddings that ``url`` answers with, once it is there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            response = httpx.post(url, content=body, headers=headers, timeout=60)
            return np.array(response.raise_for_status().json()["embeddings"], dtype=np.float32)
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main())
