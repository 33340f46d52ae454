"""Services of ours on a free loopback port, in a thread, with one key and a client that has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from torch import nn

from dosimeter.core.target import CallableTarget, Target
from dosimeter.server.run import Service
from dosimeter.server.spec import ServerSettings
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec
from dosimeter.targets.torch import TorchTarget

KEY = "SERVICE_KEY"


@dataclass(frozen=True)
class Served:
    """A running service: its address, a valid key and a client that sends it."""

    service: Service
    address: str
    key: str
    client: httpx.Client
    folder: Path

    def used(self, name: str = "alice") -> int:
        """Records counted for the keys called ``name``."""
        return sum(key.used for key in self.service.keys.list() if key.name == name)

    def log(self) -> str:
        """The audit log so far."""
        return (self.folder / "audit.jsonl").read_text()


@contextmanager
def serving(target: Target, folder: Path, *, quota: int | None = None, **settings: Any) -> Iterator[Served]:
    """Serve ``target`` inside the block; keys and log lie in ``folder``. ``quota`` is that of the key 'alice'."""
    service = Service(
        target,
        name="encoder",
        keys_file=folder / "keys.sqlite",
        audit_file=folder / "audit.jsonl",
        settings=ServerSettings(**{"port": 0, "requests_per_minute": 10**6, **settings}),
    )
    known = {key.name for key in service.keys.list() if key.revoked_at is None}
    if "alice" in known:
        service.keys.revoke("alice")
    key = service.keys.new("alice", quota=quota)
    headers = {"Authorization": f"Bearer {key}"}
    with (
        service.running() as address,
        httpx.Client(base_url=address, headers=headers, timeout=30) as client,
    ):
        yield Served(service, address, key, client, folder)


def lengths(delay_seconds: float = 0.0, batch_size: int = 4) -> CallableTarget:
    """Texts to (n, 2) float32 vectors: the length, and how many texts were in the pass."""
    import time

    def answer(texts: list[str]) -> np.ndarray:
        time.sleep(delay_seconds)
        return np.array([[len(text), len(texts)] for text in texts], dtype=np.float32)

    return CallableTarget(
        answer,
        modality="text",
        returns="embedding",
        name="lengths",
        batch_size=batch_size,
        fingerprint="lengths",
    )


def image_encoder(batch_size: int = 16) -> TorchTarget:
    """(n, 8, 8, 3) images to (n, 7) vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 7))
    return TorchTarget(module, name="images", returns="embedding", batch_size=batch_size)


def client_of(served: Served, target: Target, **settings: Any) -> HttpTarget:
    """A ``kind: http`` target that asks ``served``; the variable SERVICE_KEY must hold its key."""
    return HttpTarget(
        HttpSpec(
            url=f"{served.address}/embed",
            authorized=True,
            headers={"Authorization": f"Bearer ${{{KEY}}}"},
            request={"inputs": "{{inputs}}"},
            response="embeddings",
            modality=target.modality,
            returns=target.returns,
            **settings,
        )
    )
