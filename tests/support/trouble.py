"""An attack that goes wrong on demand; tests install it as a plug-in."""

from __future__ import annotations

import os
import signal
import time
from typing import ClassVar, Literal

from dosimeter import Attack, Card, Context, Findings, Metric, Needs, Oracle, Target, TargetError
from dosimeter.core.method import Estimate
from dosimeter.core.progress import track
from dosimeter.core.result import Verdict


class Trouble(Attack):
    """Ends in ``verdict`` with the metrics ``value`` and ``threads``, unless ``mode`` is something worse."""

    card: ClassVar[Card] = Card(
        slug="trouble",
        kind="attack",
        title="Trouble",
        purpose="What if?",
        threat_model="None.",
        needs=Needs(modalities=("text",), returns=("label",)),
    )

    mode: Literal["", "bug", "target", "greedy", "exit", "killed", "interrupt-once", "slow", "busy"] = ""
    verdict: Verdict = "pass"

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        if self.mode == "bug":
            raise ValueError("boom\nand more")
        if self.mode == "target":
            raise TargetError("the service is gone.")
        if self.mode == "exit":
            os._exit(7)
        if self.mode == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "greedy":
            oracle(list(context.public))
        if self.mode == "slow":
            with track("sleeping", 1000) as bar:
                for _ in range(1000):
                    time.sleep(0.01)
                    bar.advance()
        if self.mode == "busy":
            work_busily()
        oracle(list(context.public)[:2])
        if (
            self.mode == "interrupt-once"
            and context.cache is not None
            and not (context.cache / "interrupted").exists()
        ):
            context.cache.mkdir(parents=True, exist_ok=True)
            (context.cache / "interrupted").touch()
            raise KeyboardInterrupt
        metrics = [
            Metric(name="value", value=context.seed),
            Metric(name="threads", value=int(os.environ["OMP_NUM_THREADS"])),
            Metric(name="process", value=os.getpid()),
        ]
        return Findings(
            verdict=self.verdict,
            summary="Nothing happened.",
            reason=None if self.verdict in ("pass", "fail") else "for a reason",
            metrics=metrics,
        )

    def estimate(self, target: Target, context: Context) -> Estimate:
        if self.mode == "busy":
            work_busily()
        return Estimate(queries=2, seconds=0.1)


def work_busily() -> None:
    """Fifty tasks of a hundred steps each, reported one by one."""
    for number in range(50):
        with track(f"task {number}", 100) as bar:
            for _ in range(100):
                bar.advance()
