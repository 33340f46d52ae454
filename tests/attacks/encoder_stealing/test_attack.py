"""The whole attack on a small service: what it finds, what it does not, what it costs, what it refuses."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.attack import EncoderStealing
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.result import Result
from dosimeter.core.target import CallableTarget
from dosimeter.data.dataset import Dataset
from dosimeter.defenses.features import FeatureNoise
from support.services import KEY, client_of, serving
from support.tiny_encoders import CharacterFeatures
from support.tiny_thefts import (
    FAST,
    RECIPE,
    WIDTH,
    attack,
    context,
    encoder,
    fast,
    few,
    pretender,
    service,
    task,
)


def at_random(batch):
    """A vector per input that has nothing to do with it, but is always the same."""
    digests = (hashlib.blake2b(record.tobytes(), digest_size=8).digest() for record in batch)
    return np.stack([np.random.default_rng(int.from_bytes(d, "big")).normal(size=WIDTH) for d in digests])


# What it finds


def test_a_service_that_can_be_stolen_fails(theft):
    _, _, result = theft
    assert result.verdict == "fail" and result.reason is None
    share = result.metric("recovered-share.digits")
    assert share.value > 0.9 and share.low > 0.8 and share.n == len(task().test)
    assert result.metric("accuracy.stolen.digits").value > 0.85
    assert result.metric("cosine").value > 0.9 and result.metric("cka").value > 0.8
    assert result.metric("control.planted").value > 0.6
    assert result.metric("control.permuted.digits").low <= 0.05
    assert result.metric("control.untrained").value < 0.4
    assert "400 calls" in result.summary and "digits" in result.summary


@pytest.mark.parametrize(
    "target", [FeatureNoise(rho=32).wrap(service()), pretender(at_random)], ids=["noise", "random"]
)
def test_a_service_that_says_nothing_has_nothing_to_steal(target):
    result = attack(recipe=RECIPE.model_copy(update={"steps": 8})).run(target, context=context())
    assert result.verdict == "undetermined"
    assert "nothing to recover" in result.reason and "defence" in result.reason
    assert result.metric("recovered-share.digits").value is None
    assert result.metric("recovered-share.digits").reason
    assert abs(result.metric("centred-cosine").value) < 0.2


def test_nothing_is_bought_from_a_service_that_says_one_thing():
    oracle = Oracle(pretender(lambda batch: np.repeat([[1.0, 2, 3]], len(batch), 0)))
    result = fast().run(oracle, context=context())
    assert result.verdict == "undetermined" and "same vector" in result.reason
    assert result.metric("probe.spread").value == 0
    assert oracle.queries == 10 + 10 + 5


def test_nothing_is_bought_from_a_service_that_answers_at_random():
    generator = np.random.default_rng(0)
    oracle = Oracle(pretender(lambda batch: generator.normal(size=(len(batch), 5))))
    result = fast().run(oracle, context=context())
    assert result.verdict == "undetermined" and "answers at random" in result.reason
    assert oracle.queries == 25


def test_a_service_that_does_not_repeat_itself_is_measured_and_said():
    target = FeatureNoise(rho=0.1, draw="per-query").wrap(service())
    result = fast().run(target, context=context())
    assert result.metric("probe.self-distance").value == pytest.approx(0.1 * np.sqrt(2), rel=0.1)
    measured = f"{result.metric('probe.self-distance').value:.2g}"
    assert any(
        f"does not repeat itself: two answers to one input are {measured} a" in limit
        for limit in result.limits
    )


def test_a_steady_service_has_no_such_limit(theft):
    _, _, result = theft
    assert result.metric("probe.self-distance").value == 0
    assert not any("repeat itself" in limit or "left out" in limit for limit in result.limits)


# What it costs


def test_the_bill_is_exact(theft):
    made, ledger, result = theft
    assert ledger.used == ledger.answered == result.cost.queries
    assert result.cost.money == pytest.approx(0.01 * ledger.used)
    thief = result.metric("queries.thief").value
    evaluation = result.metric("queries.evaluation").value
    assert thief + evaluation == ledger.used
    # 400 bought, 10 probes asked a second time, 5 dimmed; of the probes some are bought anyway.
    assert 415 <= thief <= 425
    judged = {record.tobytes() for part in (task().train, task().test) for record in part.inputs}
    assert 60 + len(judged) - 10 <= evaluation <= 60 + len(judged)
    assert ledger.used <= made.estimate(service(), context()).queries


COMBINATIONS = [
    {},
    {"queries": 20, "probes": 150},
    {"adaptive": False, "probes": 2},
    {"budgets": (10, 30), "stop_gain": 0.0, "selection": "disagreement"},
    {"budgets": (10, 30), "stop_gain": 5.0, "selection": "k-center"},
    {"baselines": ("contrastive", "prototypes", "no-augmentation", "conventional", "from-scratch"), "bought_views": 3},
    {"selection": "k-center", "baselines": ("prototypes",), "tasks": (few(), replace(few(30), name="again"))},
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "noise"),
    [
        *((settings, None) for settings in COMBINATIONS),
        *((settings, 0.6) for settings in COMBINATIONS[:4]),
        (COMBINATIONS[5], 0.05),
    ],
    ids=lambda given: ",".join(given) or "defaults" if isinstance(given, dict) else f"noise {given}",
)
def test_the_estimate_is_an_upper_bound(settings, noise):
    target = service() if noise is None else FeatureNoise(rho=noise, draw="per-query").wrap(service())
    made = fast(**settings)
    estimate = made.estimate(target, context()).queries
    ledger = Ledger(max_queries=estimate)
    result = made.run(Oracle(target, ledger=ledger), context=context())
    assert ledger.used == result.cost.queries <= estimate
    paid = result.metric("queries.thief").value + result.metric("queries.evaluation").value
    assert paid == ledger.used
    if noise == 0.6 and made.stop_gain is None:
        assert result.metric("queries.thief").value >= made.queries * (4 if made.adaptive else 1)


def test_an_estimate_asks_nothing():
    def refuse(batch):
        raise AssertionError("asked")

    assert fast().estimate(pretender(refuse), context()).queries > 0


def test_a_budget_that_is_too_small_stops_it():
    with pytest.raises(BudgetExceeded):
        fast().run(Oracle(service(), max_queries=50), context=context())


def test_a_killed_run_resumes_without_repeating_a_query(tmp_path):
    sent = []

    def answer(batch, left=[90]):  # noqa: B006 - counts down over calls
        left[0] -= len(batch)
        if left[0] < 0:
            raise RuntimeError("killed")
        sent.extend(record.tobytes() for record in batch)
        return service().answer(batch)

    def oracle(function):
        target = pretender(function, batch_size=16, fingerprint="one service")
        ledger = Ledger(tmp_path / "ledger.sqlite")
        return Oracle(target, ledger=ledger, cache=AnswerCache(tmp_path / "answers.sqlite")), ledger

    made, where = fast(budgets=(20,)), context(cache=tmp_path)
    with pytest.raises((RuntimeError, TargetError)):
        made.run(oracle(answer)[0], context=where)
    before = len(sent)
    assert 0 < before <= 90

    def healthy(batch):
        sent.extend(record.tobytes() for record in batch)
        return service().answer(batch)

    asking, ledger = oracle(healthy)
    result = made.run(asking, context=where)
    assert ledger.answered == len(sent) == result.cost.queries, "answers that were paid for were asked again"
    # Probes are asked twice on purpose, everything else once.
    counts = {}
    for record in sent:
        counts[record] = counts.get(record, 0) + 1
    assert sorted(counts.values())[-11:] == [1] + [2] * 10

    asking, ledger = oracle(answer)
    again = made.run(asking, context=where)
    assert ledger.answered == len(sent), "a finished run was paid for again"
    assert again.metrics == result.metrics and again.tables == result.tables

    undisturbed = made.run(Oracle(service()), context=context())
    assert undisturbed.metrics == result.metrics


def test_a_seed_fixes_every_figure():
    runs = [fast().run(service(), context=context(seed=seed)) for seed in (0, 0, 1)]
    assert runs[0].metrics == runs[1].metrics != runs[2].metrics


def test_in_process_and_over_http_the_same_copies_come_out(tmp_path, monkeypatch):
    made, kept = fast(surrogate="small-conv"), []
    target = service(batch_size=16)
    results = []
    with serving(target, tmp_path / "server") as served:
        monkeypatch.setenv(KEY, served.key)
        for name, asked in (("here", target), ("there", client_of(served, target))):
            results.append(made.run(asked, context=context(cache=tmp_path / name)))
            kept.append({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.safetensors")})
        assert served.used() == results[1].cost.queries
    assert len(kept[0]) >= 3 and kept[0] == kept[1], "weights differ between the two ways to ask"
    assert results[0].metrics == results[1].metrics


# Other results


def test_the_result_survives_a_file(theft):
    result = theft[2]
    assert Result.from_json(result.to_json()) == result and result.artifacts == []


def test_two_towers_are_checked_without_training_a_head():
    whole, rows = task(), np.asarray(task().train.inputs)
    centres = np.stack([encoder_vectors(rows[whole.train.labels == c]).mean(0) for c in range(10)])

    def say(texts):
        return np.stack([centres[int(text.removeprefix("the digit "))] for text in texts])

    tower = CallableTarget(say, modality="text", returns="embedding")
    made = attack(text_tower=tower, template="the digit {}", heads=FAST["heads"])
    result = made.run(service(), context=context())
    target, stolen = (result.metric(f"zero-shot.{who}.digits") for who in ("target", "stolen"))
    assert target.value > 0.8 and stolen.value > 0.8 and stolen.low < stolen.value < stolen.high
    assert "chance is 0.1" in stolen.description


def encoder_vectors(images):
    import torch

    from dosimeter.models.training import images_to_tensor

    with torch.no_grad():
        vectors = encoder()(images_to_tensor(images)).numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def words(n, seed):
    generator = np.random.default_rng(seed)
    kinds = (["sun", "rain", "wind", "snow"], ["goal", "team", "ball", "win"])
    labels = np.arange(n) % 2
    texts = [" ".join(generator.choice(kinds[label], 5)) + f" {generator.integers(10**6)}" for label in labels]  # fmt: skip
    return Dataset("topics", "text", texts, labels, ("weather", "sport"))


def test_a_text_encoder_is_attacked_too():
    made = EncoderStealing(
        **{**FAST, "tasks": (Task("topics", words(60, 1), words(60, 2)),), "baselines": ("no-augmentation", "from-scratch"), "size": 16},
    )  # fmt: skip
    target = CallableTarget(CharacterFeatures(0), modality="text", returns="embedding", batch_size=64)
    where = Context(public=words(100, 3).inputs)
    oracle = Oracle(target)
    result = made.run(oracle, context=where)
    assert oracle.queries <= made.estimate(target, where).queries
    assert result.metric("queries.thief").value >= 60 + 10
    assert "probe.dimmed" not in {metric.name for metric in result.metrics}
    with pytest.raises(InputError, match=r"data.public holds 50 "):
        made.run(target, context=Context(public=words(100, 3).inputs[:50]))
