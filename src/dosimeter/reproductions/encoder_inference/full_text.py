"""Six character encoders trained on halves of AG News, and services that tell its four topics apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.beam import CharacterBeam
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.core.claim import Claim
from dosimeter.core.method import Context
from dosimeter.core.seeding import derive_seed
from dosimeter.core.target import CallableTarget, Target
from dosimeter.data import load
from dosimeter.data.dataset import Dataset
from dosimeter.models.networks import Classifier
from dosimeter.models.text import CharacterEncoder, embedding_target, encode_characters
from dosimeter.models.training import fit_classifier, fit_head
from dosimeter.reproductions.encoder_inference import relations
from dosimeter.reproductions.encoder_inference.relations import Measured, Service

KINDS = ("bag", "cnn", "gru")


def measure(seed: int, cache: Path) -> list[Claim]:
    """The text relations; 3 copies and a beam of 100 instead of the published 20 and 150."""
    context = Context(seed=seed, cache=cache)
    news = load("ag-news", split="train")
    halves = news.split([0.5, 0.5], seed=seed)
    encoders = {
        f"{kind}-{letter}": _encoder(f"{kind}-{letter}", kind, half.take(range(4000)), seed)
        for kind in KINDS
        for letter, half in zip("ab", halves)
    }
    candidates = tuple(
        Candidate(name, target, family=name.split("-")[0]) for name, target in encoders.items()
    )
    sample = news.take(range(8000))
    services = [
        Service(f"topics on {name}", _service(target, sample, seed), hidden=name)
        for name, target in encoders.items()
    ]
    attack = EncoderInference(
        candidates=candidates, objective_count=20, copies=3, synthesis=CharacterBeam(width=100)
    )
    prepared = attack.prepare(context)
    in_set = relations.attack_services(
        attack, prepared, services, context, task="text: hidden encoder among candidates"
    )
    removed = relations.attack_without_hidden(attack, services, context, task="text: hidden encoder removed")
    return [
        relations.loss_claim(
            "text-loss", "beam search: loss over that of random strings, worst candidate", prepared.sets, 0.5
        ),
        _ranked_first(in_set),
        _named(in_set),
        _misnamed(in_set),
        *(replace(claim, name=f"text-{claim.name}") for claim in relations.out_of_set_claims(removed)),
    ]


def _encoder(name: str, kind: str, half: Dataset, seed: int) -> CallableTarget:
    encoder = CharacterEncoder(kind, seed=derive_seed(seed, "text-encoder", name))  # type: ignore[arg-type]
    model = Classifier(encoder, encoder.embedding_dim, 4, seed=seed)
    texts = encode_characters([str(text) for text in half.inputs])
    fit_classifier(
        model, texts, torch.from_numpy(np.asarray(half.labels)), epochs=4, seed=seed, task=f"training {name}"
    )
    return embedding_target(encoder, name)


def _service(encoder: Target, sample: Dataset, seed: int) -> CallableTarget:
    parts = [answers for _, answers in encoder.stream(sample.inputs, before_send=lambda _: None)]
    features = torch.from_numpy(np.concatenate(parts).astype(np.float32))
    centre, scale = features.mean(0), features.std(0) + 1e-6
    labels = torch.from_numpy(np.asarray(sample.labels))
    head = fit_head(
        (features - centre) / scale, labels, classes=4, steps=800, seed=derive_seed(seed, "text-head")
    )

    def classify(texts: list[str]) -> np.ndarray:
        found = [answers for _, answers in encoder.stream(texts, before_send=lambda _: None)]
        with torch.inference_mode():
            embeddings = torch.from_numpy(np.concatenate(found).astype(np.float32))
            return head((embeddings - centre) / scale).argmax(1).numpy()

    return CallableTarget(classify, modality="text", returns="label", name="topics service", batch_size=256)


def _ranked_first(measured: list[Measured]) -> Claim:
    first = sum(
        m.found.prepared.candidates[int(np.argmax(m.found.decision.scores))].name == m.service.hidden
        for m in measured
    )
    return Claim(
        "text-ranked-first",
        f"text services whose hidden encoder has the highest score, of {len(measured)}",
        first,
        ">=",
        # By chance one in six is first; four or more of six happen in 0.9 % of cases (binomial).
        4,
    )


def _named(measured: list[Measured]) -> Claim:
    n = len(measured)
    right = sum(m.by_z.named == m.service.hidden for m in measured)
    return Claim(
        "text-named-z",
        f"text services whose hidden encoder is named with z > {relations.PAPER_TAU}, of {n}",
        right,
        ">=",
        # The share that the image relation asks for, 10 of 12.
        int(np.ceil(n * 10 / 12)),
        open=(
            "Four topics leave base rates near one third, and the small character encoders of one kind share much of "
            "what they know; the right one scores highest, but not always by 1.7 standard deviations."
        ),
    )


def _misnamed(measured: list[Measured]) -> Claim:
    n = len(measured)
    wrong = sum(
        m.by_grubbs.named not in (None, m.service.hidden, m.service.hidden.split("-")[0]) for m in measured
    )
    return Claim(
        "text-misnamed", f"text services named wrongly at family-wise error 5 %, of {n}", wrong, "<=", 0
    )
