"""The whole attack on tiny encoders: what it names, what it does not, what it asks for and what it refuses."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.beam import CharacterBeam
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.inference import NOISE_PROBES
from dosimeter.attacks.encoder_inference.objectives import image_objectives
from dosimeter.attacks.encoder_inference.synthesis import Gradient, ZerothOrder
from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, CapabilityError, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget, RecordedTarget
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.loopback import LoopbackService
from support.tiny_encoders import (
    PREPROCESSING,
    SIZE,
    CharacterFeatures,
    image_candidate,
    image_candidates,
    image_encoder,
    image_service,
    text_candidate,
    text_service,
)

CANDIDATES = image_candidates(6)
CONTEXT = Context(seed=0)
HIDDEN, ABSENT = (0, 3, 5), (50, 52)
BEAM = CharacterBeam(length=12, width=8, extensions=8)
TEXT_CANDIDATES = tuple(text_candidate(i) for i in range(6))


def attack(candidates=CANDIDATES, **settings):
    given = {"objective_count": 8, "copies": 3, "synthesis": Gradient(canvas=SIZE, steps=60)}
    return EncoderInference(candidates=candidates, **{**given, **settings})


def text_attack(candidates=TEXT_CANDIDATES, **settings):
    return attack(candidates, **{"synthesis": BEAM, **settings})


@pytest.fixture(scope="module")
def prepared():
    return attack().prepare(CONTEXT)


@pytest.fixture(scope="module")
def prepared_texts():
    return text_attack().prepare(CONTEXT)


def outcome(target, prepared, making=attack, **settings):
    return making(**settings).investigate(Oracle(target), CONTEXT, prepared)


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


def painter(seed):
    """A text-to-image service conditioned on text encoder ``seed``, with noise of its own in every picture."""
    embed, generator = CharacterFeatures(seed), np.random.default_rng(1)

    def paint(texts):
        flat = np.tile(embed(texts) * 40 + 128, (1, 4)) + generator.normal(scale=4, size=(len(texts), 48))
        return np.clip(flat, 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3)

    return CallableTarget(paint, modality="text", returns="image", batch_size=1000)


JUDGE = CallableTarget(
    lambda images: images.reshape(len(images), -1) - 128.0,
    modality="image",
    returns="embedding",
    name="judge",
)


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


# What it costs


class Counting:
    """A candidate behind an API that counts the records it embeds."""

    def __init__(self, seed):
        self.embed, self.asked = CharacterFeatures(seed), 0

    def __call__(self, texts):
        self.asked += len(texts)
        return self.embed(texts)


def counted_candidates():
    counters = [Counting(seed) for seed in range(6)]
    targets = [CallableTarget(c, modality="text", returns="embedding", batch_size=4096) for c in counters]
    return counters, tuple(Candidate(f"text-{i}", target) for i, target in enumerate(targets))


def test_the_estimate_bounds_what_is_asked_of_everybody():
    counters, candidates = counted_candidates()
    making = text_attack(candidates, objective_count=4, copies=2)
    estimate = making.estimate(text_service(0), CONTEXT)
    assert [counter.asked for counter in counters] == [0] * 6
    oracle = Oracle(text_service(0))
    result = making.run(oracle, context=CONTEXT)
    assert result.cost.queries == oracle.queries <= estimate.queries
    assert result.cost.candidate_queries == sum(c.asked for c in counters) <= estimate.candidate_queries
    assert estimate.queries == 4 * 6 * 2 + NOISE_PROBES + 2 * 4


def test_a_budget_that_is_too_small_is_noticed_before_anything_is_made():
    counters, candidates = counted_candidates()
    making = text_attack(candidates)
    needed = making.estimate(text_service(0), CONTEXT).queries
    for oracle in (
        Oracle(text_service(0), max_queries=needed - 1),
        Oracle(text_service(0), ledger=Ledger(max_queries=needed - 1)),
    ):
        with pytest.raises(
            BudgetExceeded, match=f"budget of {needed - 1} queries reached: 0 used, {needed} more wanted"
        ):
            making.run(oracle, context=CONTEXT)
        assert oracle.queries == 0
    assert [counter.asked for counter in counters] == [0] * 6


def test_the_estimate_as_a_budget_suffices(prepared):
    needed = attack().estimate(image_service(3), CONTEXT).queries
    oracle = Oracle(image_service(3), max_queries=needed, ledger=Ledger(max_queries=needed))
    assert attack().investigate(oracle, CONTEXT, prepared).decision.named == "encoder-3"


def test_a_run_that_starts_again_finds_its_answers_although_the_budget_is_spent(tmp_path, prepared):
    def oracle():
        ledger = Ledger(tmp_path / "ledger.sqlite", max_queries=needed)
        return Oracle(image_service(3), ledger=ledger, cache=AnswerCache(tmp_path / "answers.sqlite"))

    needed = attack().estimate(image_service(3), CONTEXT).queries
    first = attack().investigate(oracle(), CONTEXT, prepared)
    again = oracle()
    assert again.remaining < needed
    second = attack().investigate(again, CONTEXT, prepared)
    np.testing.assert_array_equal(first.inference.per_objective, second.inference.per_objective)
    assert Ledger(tmp_path / "ledger.sqlite").used <= needed


# The same again


def without_time(result):
    return result.model_copy(
        update={"cost": result.cost.model_copy(update={"seconds": 0, "peak_memory_bytes": 0})}
    )


def test_the_same_seed_gives_the_same_result_with_or_without_a_cache(tmp_path):
    small = attack(synthesis=Gradient(canvas=SIZE, steps=5), objective_count=3, copies=1)
    first = small.run(image_service(3), context=CONTEXT)
    for context in (Context(cache=tmp_path), Context(cache=tmp_path)):
        assert without_time(small.run(image_service(3), context=context)) == without_time(first)
    other = small.run(image_service(3), context=Context(seed=1))
    assert without_time(other) != without_time(first)


def test_behind_http_the_answers_and_counts_are_the_same(prepared):
    service = image_service(3)

    def serve(request):
        return {"labels": service.answer(np.array(request["inputs"], dtype=np.uint8)).tolist()}

    with LoopbackService(serve) as loopback:
        spec = HttpSpec(
            url=loopback.url,
            authorized=True,
            request={"inputs": "{{inputs}}"},
            response="labels",
            encoding="nested-list",
            modality="image",
            returns="label",
        )
        with_http, in_process = Oracle(HttpTarget(spec)), Oracle(service)
        a, b = (attack(looks=3).investigate(oracle, CONTEXT, prepared) for oracle in (with_http, in_process))
    np.testing.assert_array_equal(a.inference.per_objective, b.inference.per_objective)
    assert a.decision.reason == b.decision.reason
    assert with_http.queries == in_process.queries


def test_settings_are_recorded_with_the_identity_of_the_candidates():
    recorded = attack(judge=JUDGE).hyperparameters()
    assert recorded["candidates"][2] == CANDIDATES[2].describe()
    assert recorded["synthesis"] == {"kind": "gradient", "canvas": SIZE, "steps": 60, "learning_rate": 0.05}
    assert recorded["judge"] == JUDGE.fingerprint


def test_five_lines_of_python():
    from dosimeter import CallableTarget, Candidate, EncoderInference

    service = CallableTarget(text_service(3).answer, modality="text", returns="label")
    encoders = [CallableTarget(CharacterFeatures(i), modality="text", returns="embedding") for i in range(6)]
    candidates = [Candidate(f"encoder {i}", target) for i, target in enumerate(encoders)]
    attack = EncoderInference(
        candidates=candidates, synthesis={"kind": "beam", "length": 12, "width": 8, "extensions": 8}, copies=2
    )
    result = attack.run(service)

    assert "An outsider can tell that this service runs on 'encoder 3'" in str(result)
    assert "<table>" in result._repr_html_()


# What it refuses, in one line


def one_line(error, *parts):
    said = str(error.value)
    assert "\n" not in said
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (CANDIDATES[:4], "given 4 candidates and needs at least 5"),
        ((*CANDIDATES[:5], Candidate("encoder-0", image_candidate(8).target)), "names must differ"),
        ((*CANDIDATES[:5], Candidate("copy", CANDIDATES[0].target)), "are the same encoder"),
        ((*CANDIDATES[:5], Candidate("head", image_service(8))), "'head' returns label"),
        (
            (
                *CANDIDATES[:5],
                Candidate(
                    "large",
                    TorchTarget(
                        image_encoder(8), name="l", returns="embedding", preprocessing=Preprocessing(size=32)
                    ),
                ),
            ),
            "unequal pre-processing (16 pixels, bilinear: encoder-0, encoder-1, encoder-2, encoder-3, encoder-4; "
            "32 pixels, bilinear: large)",
        ),
    ],
)
def test_wrong_candidates(candidates, message):
    for start in (attack(candidates).estimate, attack(candidates).run):
        with pytest.raises(InputError) as error:
            start(image_service(0), context=CONTEXT)
        one_line(error, message)


@pytest.mark.parametrize(
    ("making", "service", "message"),
    [
        (text_attack(), image_service(0), "takes image, but the candidates embed text"),
        (attack(), text_service(0), "takes text, but the candidates embed image"),
        (attack(synthesis=BEAM), image_service(0), "'beam' makes text samples"),
        (text_attack(synthesis="gradient"), text_service(0), "'gradient' makes image samples"),
        (attack(overlap=True), image_service(0), "score overlap needs scores"),
        (
            attack(rule="z", tau=2.1),
            image_service(0),
            "no score among 6 candidates can lie 2.1 standard deviations",
        ),
        (
            text_attack(judge=TEXT_CANDIDATES[2].target),
            text_service(0),
            "is one of the candidates; it would favour itself",
        ),
        (text_attack(), painter(0), "give an image encoder that is not a candidate as judge"),
        (text_attack(objective_count=21), text_service(0), "1 to 20 built-in text objectives, but 21"),
    ],
)
def test_what_does_not_go_together_is_found_before_any_work(making, service, message):
    for start in (making.estimate, making.run):
        with pytest.raises(InputError) as error:
            start(service, context=CONTEXT)
        one_line(error, message)


@pytest.mark.parametrize(
    ("public", "message"),
    [
        (np.full((8, SIZE, SIZE, 3), np.nan), "data.public to be finite"),
        (np.full((8, SIZE, SIZE, 3), 200.0), "Divide by 255"),
        (
            np.zeros((8, SIZE, SIZE, 3), dtype=np.uint8)[:5],
            "needs 8 objective inputs, but data.public holds 5",
        ),
        (["a photograph"] * 8, "expected data.public to be images"),
    ],
)
def test_wrong_objectives(public, message):
    for start in (attack().estimate, attack().run):
        with pytest.raises(InputError) as error:
            start(image_service(0), context=Context(public=public))
        one_line(error, message)


@pytest.mark.parametrize("returns", ["embedding", "mask"])
def test_a_service_that_returns_something_else(returns):
    with pytest.raises(
        CapabilityError, match=f"needs label, scores, text or image as answers .*returns {returns}"
    ):
        attack().run(CallableTarget(len, modality="image", returns=returns), context=CONTEXT)


def test_all_of_public_are_objectives_unless_a_count_is_given():
    public = image_objectives(5, SIZE, 1)
    everything = attack(objective_count=None).estimate(image_service(0), Context(public=public))
    assert everything.queries == 5 * 6 * 3 + NOISE_PROBES + 2 * 5
    some = attack(objective_count=2).estimate(image_service(0), Context(public=public))
    assert some.queries == 2 * 6 * 3 + NOISE_PROBES + 2 * 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: np.full(len(images), np.nan), "one whole-number label per input"),
        (lambda images: np.zeros((len(images), 2)), "one whole-number label per input"),
        (lambda images: np.zeros(len(images) + 1, dtype=int), "for"),
        (lambda images: ["<html>"] * len(images), "should return label"),
    ],
)
def test_a_service_that_lies(answer, message, prepared):
    with pytest.raises(TargetError, match=message) as error:
        outcome(CallableTarget(answer, modality="image", returns="label"), prepared)
    one_line(error)


def test_a_service_with_one_answer_is_undecidable_and_not_asked_further(prepared):
    oracle = Oracle(
        CallableTarget(lambda images: np.ones(len(images), dtype=int), modality="image", returns="label")
    )
    found = attack().investigate(oracle, CONTEXT, prepared)
    assert found.decision.kind == "undecidable"
    assert "gives all objectives the same answer" in found.decision.reason
    assert oracle.queries == 2 * 8 + NOISE_PROBES


def test_replies_that_nobody_can_read_are_undecidable(prepared_texts):
    mumble = CallableTarget(lambda texts: ["hm"] * len(texts), modality="text", returns="text")
    found = outcome(mumble, prepared_texts, text_attack, classes=("a", "b"))
    assert found.decision.reason == "fewer than 2 objectives got readable answers for every candidate"


def test_an_error_too_small_for_the_reference_is_undecidable(prepared):
    decision = outcome(image_service(3), prepared, alpha=0.001).decision
    assert decision.kind == "undecidable"
    assert "reference services cannot show an error as small as 0.001" in decision.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective_count": 1}, "objective_count: Input should be greater than or equal to 2"),
        ({"alpha": 0}, "alpha"),
        ({"looks": 21}, "looks"),
        ({"copy": 3}, "copy: there is no such setting"),
        ({"synthesis": {"kind": "gradient", "steps": -1}}, "steps: Input should be greater"),
        ({"synthesis": "pool"}, "should be auto, gradient, zeroth-order or beam, but is 'pool'"),
        ({"judge": "clip"}, "judge: Input should be an instance of Target"),
    ],
)
def test_wrong_settings_in_a_spec(settings, message, tmp_path):
    np.savez(
        tmp_path / "pool.npz",
        images=np.zeros((2, 4, 4, 3), np.uint8) + np.arange(2, dtype=np.uint8)[:, None, None, None],
    )
    np.save(tmp_path / "answers.npy", np.eye(2))
    item = {
        "name": "a",
        "kind": "recorded",
        "modality": "image",
        "inputs": "pool.npz",
        "answers": "answers.npy",
    }
    with pytest.raises(InputError) as error:
        EncoderInference.from_spec({"candidates": [item], **settings}, tmp_path)
    one_line(error, "encoder-inference: ", message)


def test_candidates_that_are_no_candidates():
    with pytest.raises(ValidationError, match="candidates"):
        EncoderInference(candidates=["resnet"])


def test_importing_the_attack_imports_no_framework():
    code = "import dosimeter.attacks.encoder_inference.attack, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "False"
