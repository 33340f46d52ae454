"""Three real encoders: one of Fashion-MNIST trained here without labels, a public CIFAR-10 network, a public sentence encoder.

Sizes are below the published ones so that the run ends within an hour on two cores: fixed numbers of updates in place of
100 epochs. Copies are kept, so that a run that was stopped goes on from there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dosimeter.core.claim import Claim
from dosimeter.reproductions.encoder_stealing import full_cifar, full_fashion, full_text
from dosimeter.reproductions.encoder_stealing.relations import Measured


def measure(seed: int, cache: Path) -> Measured:
    """Claims, tables and figures of all three, each claim named after its encoder."""
    whole = Measured()
    for label, measured in (
        ("fashion", full_fashion.measure(seed, cache)),
        ("cifar", full_cifar.measure(seed, cache)),
        ("text", full_text.measure(seed, cache)),
    ):
        whole.claims += [_named(claim, label) for claim in measured.claims]
        whole.tables += measured.tables
        whole.figures += measured.figures
    return whole


def _named(claim: Claim, label: str) -> Claim:
    return replace(claim, name=f"{label}-{claim.name}", statement=f"{label}: {claim.statement}")
