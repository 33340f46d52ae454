"""One model in this process and behind HTTP: the same bits, the same bill."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dosimeter.core.cache import AnswerCache
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec
from dosimeter.targets.torch import TorchTarget
from support.loopback import LoopbackService, rate_limited

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
ROWS = RNG.normal(size=(60, 9))


def target(modality: str, returns: str) -> TorchTarget:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Conv2d(3, 8, 3) if modality == "image" else nn.Linear(9, 16)
        module = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.LazyLinear(7))
        module(torch.zeros((1, 3, 8, 8) if modality == "image" else (1, 9)))
    return TorchTarget(module, name="local", modality=modality, returns=returns, batch_size=16)


def decoded(record):
    if not isinstance(record, str):
        return record
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(record.rpartition(",")[2]))))


def served(model: TorchTarget):
    dtype = np.uint8 if model.modality == "image" else np.float64
    return lambda document: {
        "outputs": model.answer(np.array([decoded(record) for record in document["x"]], dtype=dtype)).tolist()
    }


def remote(service: LoopbackService, model: TorchTarget, **settings) -> HttpTarget:
    return HttpTarget(
        HttpSpec(
            url=service.url,
            authorized=True,
            request={"x": "{{inputs}}"},
            response="outputs",
            modality=model.modality,
            returns=model.returns,
            max_retries=9,
            **settings,
        )
    )


@pytest.mark.parametrize("returns", ["embedding", "scores", "label"])
@pytest.mark.parametrize(
    ("modality", "settings"),
    [
        ("image", {"batch_size": 1, "concurrency": 8}),
        ("image", {"batch_size": 7, "concurrency": 3, "encoding": "data-url"}),
        ("image", {"batch_size": 64, "concurrency": 1, "encoding": "nested-list"}),
        ("table", {"batch_size": 5, "concurrency": 4}),
    ],
)
def test_answers_and_counts_agree(modality, returns, settings):
    model = target(modality, returns)
    inputs = IMAGES if modality == "image" else ROWS
    here, there = Ledger(), Ledger()
    local = Oracle(model, ledger=here)
    trouble = lambda number, body: rate_limited() if number % 5 == 1 else None  # noqa: E731
    with LoopbackService(served(model), misbehave=trouble) as service:
        target_there = remote(service, model, **settings)
        distant = Oracle(target_there, ledger=there)
        for asked in (inputs[:20], inputs[10:], inputs[[5, 5, 59]], inputs[::-1]):
            expected, got = local(asked), distant(asked)
            assert expected.dtype == got.dtype
            np.testing.assert_array_equal(got, expected)
            assert (here.used, here.answered) == (there.used, there.answered)
        target_there.close()
    assert local.queries == distant.queries == there.used == 60


def test_a_second_run_on_the_same_cache_sends_nothing(tmp_path: Path):
    model = target("image", "scores")
    with LoopbackService(served(model)) as service:
        for run in range(2):
            cache, ledger = AnswerCache(tmp_path / "answers.sqlite"), Ledger()
            target_there = remote(service, model, batch_size=8)
            answers = Oracle(target_there, ledger=ledger, cache=cache)(IMAGES)
            np.testing.assert_array_equal(answers, model.answer(IMAGES))
            target_there.close()
            assert ledger.used == (60 if run == 0 else 0)
        assert service.requests == 8
