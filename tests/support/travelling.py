"""An attack that leaves traces of where it ran; tests install it as a plug-in."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from dosimeter import Attack, Card, Context, Findings, Metric, Needs, Oracle, Target
from dosimeter.core.files import write_text
from dosimeter.core.method import Estimate
from dosimeter.core.progress import track
from dosimeter.core.records import content_hash
from dosimeter.core.result import Artifact


class Travelling(Attack):
    """Asks for all public words, half of them shared by all seeds; leaves two files, of which one says where it was."""

    card: ClassVar[Card] = Card(
        slug="travelling",
        kind="attack",
        title="Travelling",
        purpose="Where am I?",
        threat_model="None.",
        needs=Needs(modalities=("text",), returns=("scores",)),
    )

    mode: Literal["", "killed", "slow"] = ""
    trace: str = ""

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        if self.trace:
            (Path(self.trace) / str(os.getpid())).touch()
        if self.mode == "killed" and context.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        words = [str(word) for word in context.public]
        half = len(words) // 2
        with track("travelling", 2) as bar:
            scores = np.asarray(oracle(words[:half]))
            bar.advance()
            mine = np.asarray(oracle([f"{word} {context.seed}" for word in words[half:]]))
            bar.advance()
        if self.mode == "slow":
            with track("sleeping", 1000) as bar:
                for _ in range(1000):
                    time.sleep(0.01)
                    bar.advance()
        both = np.concatenate([scores, mine])
        logging.getLogger("dosimeter.travelling").warning("seed %d was here", context.seed)
        artifacts = []
        if context.artifacts is not None:
            text = "\n".join(repr(row) for row in both.tolist()) * 40_000
            path = write_text(context.artifacts / "scores.txt", text)
            inside = "/".join(path.parts[-3:])
            artifacts = [Artifact(name="scores", path=inside, digest=content_hash(text), bytes=len(text))]
            place = {
                "process": os.getpid(),
                "folder": str(Path.cwd()),
                "cache": str(context.cache),
                "token": os.environ.get("TRAVELLING_TOKEN"),
            }
            write_text(context.artifacts / "deep" / "place.json", json.dumps(place))
        metrics = [
            Metric(name="sum", value=float(both.sum())),
            Metric(name="product", value=float((both @ both.T).mean())),
            Metric(name="threads", value=int(os.environ["OMP_NUM_THREADS"])),
        ]
        return Findings(verdict="pass", summary="Been there.", metrics=metrics, artifacts=artifacts)

    def estimate(self, target: Target, context: Context) -> Estimate:
        return Estimate(queries=len(context.public), seconds=0.1)
