"""The whole attack on tiny encoders: what it names and what it does not."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.objectives import image_objectives
from dosimeter.attacks.encoder_inference.synthesis import Gradient, ZerothOrder
from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget, RecordedTarget
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.tiny_attacks import (
    CANDIDATES,
    CONTEXT,
    JUDGE,
    attack,
    outcome,
    painter,
    text_attack,
)
from support.tiny_encoders import (
    PREPROCESSING,
    SIZE,
    image_candidate,
    image_encoder,
    image_service,
    text_service,
)

HIDDEN, ABSENT = (0, 3, 5), (50, 52)


# What it names


@pytest.mark.parametrize("returns", ["label", "scores"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_hidden_encoder_is_named(hidden, returns, prepared):
    decision = outcome(image_service(hidden, returns=returns), prepared).decision
    assert (decision.kind, decision.named) == ("identified", f"encoder-{hidden}")
    assert decision.scores[hidden] > 0.9


@pytest.mark.parametrize("settings", [{}, {"overlap": True}, {"looks": 4}])
@pytest.mark.parametrize("absent", ABSENT)
def test_an_encoder_outside_the_list_is_not_confused_with_one_inside(absent, settings, prepared):
    decision = outcome(image_service(absent, returns="scores"), prepared, **settings).decision
    assert (decision.kind, decision.named) == ("none", None)


def test_a_candidate_is_not_accused_when_the_hidden_one_is_taken_out():
    without = tuple(candidate for candidate in CANDIDATES if candidate.name != "encoder-3")
    found = attack(without).investigate(Oracle(image_service(3)), CONTEXT)
    assert found.decision.kind == "none"
    assert found.prepared.controls.ok


@pytest.mark.parametrize("hidden", HIDDEN)
def test_overlap_of_scores_names_it_too(hidden, prepared):
    decision = outcome(image_service(hidden, returns="scores"), prepared, overlap=True).decision
    assert decision.named == f"encoder-{hidden}"
    assert decision.reference_p is None


def test_the_paper_s_rule_names_it_too(prepared):
    decision = outcome(image_service(3), prepared, rule="z").decision
    assert (decision.named, decision.threshold) == ("encoder-3", 1.7)


@pytest.mark.parametrize(("hidden", "named"), [(0, "text-0"), (3, "text-3"), (50, None)])
def test_text_encoders(hidden, named, prepared_texts):
    assert outcome(text_service(hidden), prepared_texts, text_attack).decision.named == named


def test_early_stopping_names_the_same_encoder_for_fewer_queries(prepared):
    order = np.argsort(-prepared.controls.discrimination, kind="stable")
    spent = []
    for hidden in HIDDEN:
        whole, oracle = Oracle(image_service(hidden)), Oracle(image_service(hidden))
        attack().investigate(whole, CONTEXT, prepared)
        stopped = attack(looks=4).investigate(oracle, CONTEXT, prepared)
        assert stopped.decision.named == f"encoder-{hidden}"
        assert len(stopped.inference.rows) < stopped.inference.checks.kept.sum()
        spent.append((oracle.queries, whole.queries))
        first = [j for j in order if stopped.inference.checks.kept[j]]
        assert stopped.inference.asked == first[: len(stopped.inference.asked)]
    stopped_queries, whole_queries = np.sum(spent, axis=0)
    assert stopped_queries < 0.75 * whole_queries


def test_a_candidate_that_is_only_queried_is_found_by_zeroth_order(tmp_path):
    def behind_an_api(seed):
        target = image_candidate(seed).target
        return Candidate(
            f"api-{seed}",
            CallableTarget(target.answer, modality="image", returns="embedding", fingerprint=f"api {seed}"),
        )

    apis = tuple(behind_an_api(seed) for seed in range(6))
    zeroth = attack(
        apis, synthesis=ZerothOrder(canvas=8, steps=25, directions=12), objective_count=6, copies=2
    )
    found = zeroth.investigate(Oracle(image_service(3)), CONTEXT)
    assert found.decision.named == "api-3"
    assert {s.origin for s in found.prepared.sets} == {"zeroth-order"}


def test_each_candidate_is_searched_as_its_access_allows():
    public = image_objectives(2, SIZE, seed=3)
    query = TorchTarget(
        image_encoder(0),
        name="q",
        returns="embedding",
        preprocessing=Preprocessing(size=8),
        grants="query",
        batch_size=256,
    )
    generator = np.random.default_rng(0)
    images = np.concatenate([public, generator.integers(256, size=(10, SIZE, SIZE, 3), dtype=np.uint8)])
    pool = RecordedTarget(images, generator.normal(size=(12, 4)), modality="image", returns="embedding")
    mixed = (Candidate("query", query), Candidate("pool", pool), *CANDIDATES[:3])
    found = EncoderInference(candidates=mixed, copies=1, allow_unequal_preprocessing=True).investigate(
        Oracle(image_service(1)), replace(CONTEXT, public=public)
    )
    assert [s.origin for s in found.prepared.sets] == [
        "zeroth-order",
        "pool",
        "gradient",
        "gradient",
        "gradient",
    ]
    assert [s.samples.shape for s in found.prepared.sets] == [
        (2, 8, 8, 3), (2, SIZE, SIZE, 3), *[(2, SIZE, SIZE, 3)] * 3
    ]  # fmt: skip
    assert found.prepared.controls.skipped == ("pool",)
    assert found.inference.per_objective.shape[1] == 5


def test_decoys_fill_up_a_short_list_and_are_not_named():
    few = attack(CANDIDATES[:2], decoys=4)
    prepared = few.prepare(CONTEXT)
    assert [c.decoy for c in prepared.candidates] == [False] * 2 + [True] * 4
    for hidden, named in ((1, "encoder-1"), (50, None)):
        assert few.investigate(Oracle(image_service(hidden)), CONTEXT, prepared).decision.named == named


def test_relatives_are_named_as_a_family_where_they_cannot_be_told_apart():
    twin = TorchTarget(
        image_encoder(3), name="twin", returns="embedding", preprocessing=PREPROCESSING, fingerprint="twin"
    )
    related = [
        Candidate(c.name, c.target, family="three" if c.name == "encoder-3" else "") for c in CANDIDATES
    ]
    found = attack((*related, Candidate("twin", twin, family="three"))).investigate(
        Oracle(image_service(3)), CONTEXT
    )
    assert (found.decision.kind, found.decision.named) == ("family", "three")


def test_upscaled_samples_and_noise_are_what_the_service_and_the_controls_get():
    sizes = set()

    def answer(images):
        sizes.update({images.shape[1:3]})
        return service.answer(images)

    service = image_service(3)
    target = CallableTarget(answer, modality="image", returns="label")
    small = attack(upscale=2, synthesis=Gradient(canvas=SIZE, steps=20), objective_count=4, copies=1)
    found = small.investigate(Oracle(target), CONTEXT)
    assert sizes == {(SIZE, SIZE), (2 * SIZE, 2 * SIZE)}
    assert found.prepared.sets[0].samples.shape[1:] == (SIZE, SIZE, 3)
    # The service shrinks the enlarged images again, which blurs what the attack lives on; the controls notice.
    assert not found.prepared.controls.ok


# Services that return texts or images


def test_a_service_that_answers_in_words(prepared_texts):
    names = ["sport", "world", "science", "business", "weather", "art"]
    labels = text_service(3)
    target = CallableTarget(
        lambda texts: [f"I would file this under {names[label].upper()}." for label in labels.answer(texts)],
        modality="text",
        returns="text",
    )
    assert outcome(target, prepared_texts, text_attack, classes=names).decision.named == "text-3"
    with pytest.raises(InputError, match="returns text: give the classes it names"):
        text_attack().estimate(target, CONTEXT)


@pytest.mark.parametrize(("hidden", "named"), [(3, "text-3"), (50, None)])
def test_a_text_to_image_service(hidden, named, prepared_texts):
    oracle = Oracle(painter(hidden))
    found = text_attack(judge=JUDGE).investigate(oracle, CONTEXT, prepared_texts)
    assert found.decision.named == named
    assert found.inference.checks.determinism is None
    assert oracle.queries <= text_attack(judge=JUDGE).estimate(painter(hidden), CONTEXT).queries


@pytest.mark.parametrize(("hidden", "named"), [(3, "encoder-3"), (50, None)])
def test_a_vision_language_service(hidden, named, prepared):
    embed = image_candidate(hidden).target
    centre = embed.answer(image_objectives(20, SIZE, 7)).mean(axis=0)

    def reply(prompts):
        said = []
        for prompt in prompts:
            a, b = (embed.answer(image[None])[0] - centre for image in prompt.images)
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            said.append(f"I would say {max(0, cosine):.2f}.")
        return said

    oracle = Oracle(CallableTarget(reply, modality="prompt", returns="text", batch_size=64))
    found = attack().investigate(oracle, CONTEXT, prepared)
    assert found.decision.named == named
    assert (
        oracle.queries
        <= attack().estimate(CallableTarget(reply, modality="prompt", returns="text"), CONTEXT).queries
    )


# Pools of known embeddings

POOLS = """
import sys
import numpy as np
from dosimeter import Candidate, Context, EncoderInference, Oracle, RecordedTarget
from dosimeter.attacks.encoder_inference.inference import NOISE_PROBES
from dosimeter.attacks.encoder_inference.objectives import random_starts

generator = np.random.default_rng(0)
texts = [f"text {i}" for i in range(400)]
embeddings = generator.normal(size=(6, 400, 3))
candidates = tuple(
    Candidate(f"pool-{i}", RecordedTarget(texts, e, modality="text", returns="embedding"))
    for i, e in enumerate(embeddings)
)
noise = random_starts("text", NOISE_PROBES, seed=0)
for hidden in (embeddings[2], generator.normal(size=(400, 3))):
    labels = (hidden @ np.random.default_rng(9).normal(size=(3, 4))).argmax(axis=1)
    answers = np.concatenate([labels, generator.integers(4, size=NOISE_PROBES)])
    service = RecordedTarget([*texts, *noise], answers, modality="text", returns="label")
    result = EncoderInference(candidates=candidates, copies=4).run(service, context=Context(public=texts[:20]))
    print(result.verdict, result.metric("identified").value, result.metric("control.planted-named").n)
print("torch" in sys.modules)
"""


def test_precomputed_pools_and_recorded_answers_need_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", POOLS], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["fail 1.0 60", "pass 0.0 60", "False"]
