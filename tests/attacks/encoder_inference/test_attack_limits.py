"""What the attack asks for, that it does the same again, and what it refuses in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.inference import NOISE_PROBES
from dosimeter.attacks.encoder_inference.objectives import image_objectives
from dosimeter.attacks.encoder_inference.synthesis import Gradient
from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, CapabilityError, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.loopback import LoopbackService
from support.tiny_attacks import (
    BEAM,
    CANDIDATES,
    CONTEXT,
    JUDGE,
    TEXT_CANDIDATES,
    attack,
    outcome,
    painter,
    text_attack,
)
from support.tiny_encoders import (
    SIZE,
    CharacterFeatures,
    image_candidate,
    image_encoder,
    image_service,
    text_service,
)

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


def test_a_service_that_cannot_be_asked_is_noticed_before_samples_are_made(monkeypatch):
    monkeypatch.setattr(EncoderInference, "prepare", lambda *_: pytest.fail("samples were made first"))
    silent = CallableTarget(lambda images: [], modality="image", returns="label")
    with pytest.raises(TargetError, match="for 8 inputs"):
        attack().investigate(Oracle(silent), CONTEXT)


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
        ({"objective_count": 1}, "objective_count: should be greater than or equal to 2"),
        ({"alpha": 0}, "alpha"),
        ({"looks": 21}, "looks"),
        ({"copy": 3}, "copy: unknown key; did you mean 'copies'?"),
        ({"synthesis": {"kind": "gradient", "steps": -1}}, "steps: should be greater"),
        ({"synthesis": "pool"}, "should be auto, gradient, zeroth-order or beam, but is 'pool'"),
        ({"judge": "clip"}, "judge: should be the keys of a target"),
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
