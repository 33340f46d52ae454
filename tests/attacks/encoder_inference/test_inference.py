"""What the service is asked, in which order, and what its answers are worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dosimeter.attacks.encoder_inference.inference import (
    NOISE_PROBES,
    Inference,
    ask,
    check_service,
    compares_labels,
    looks_schedule,
)
from dosimeter.attacks.encoder_inference.similarity import (
    ImageJudge,
    LabelEquality,
    ScoreOverlap,
    SelfScore,
    TextMatch,
)
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget

OBJECTIVES = ["a0", "b0", "c0", "a1", "b1"]
NOISE = [f"n{i}" for i in range(NOISE_PROBES)]
LETTERS = {"a": 0, "b": 1, "c": 2, "n": 3}


class Service:
    """Answers with the label of a text's first letter; counts what it is asked."""

    def __init__(self, answer=None, returns="label", modality="text"):
        self.asked = []
        self._answer = answer or (lambda text: LETTERS[text[0]])
        self.oracle = Oracle(CallableTarget(self, modality=modality, returns=returns, batch_size=1000))

    def __call__(self, texts):
        self.asked.append(list(texts))
        return [self._answer(text) for text in texts]


def checks(service=None, similarity=None, objectives=OBJECTIVES, noise=NOISE):
    return check_service((service or Service()).oracle, similarity or LabelEquality(), objectives, noise)


@given(objectives=st.integers(2, 60), looks=st.integers(1, 20))
def test_looks_come_in_even_steps_from_the_second_objective_to_the_last(objectives, looks):
    schedule = looks_schedule(objectives, looks)
    assert schedule[-1] == objectives
    assert schedule[0] >= 2
    assert schedule == sorted(set(schedule))
    assert len(schedule) <= looks
    assert np.diff([0, *schedule]).max() <= max(2, objectives / looks + 1)


def test_one_look_sees_everything():
    assert looks_schedule(10, 1) == [10]
    assert looks_schedule(10, 5) == [2, 4, 6, 8, 10]
    assert looks_schedule(3, 20) == [2, 3]


def test_which_similarities_are_about_labels():
    judge = CallableTarget(len, modality="text", returns="embedding")
    pictures = CallableTarget(len, modality="image", returns="embedding")
    assert compares_labels(LabelEquality())
    assert compares_labels(TextMatch(classes=("a", "b")))
    for other in (
        TextMatch(judge=judge),
        TextMatch(scorer=len),
        ScoreOverlap(),
        SelfScore(),
        ImageJudge(judge=pictures),
    ):
        assert not compares_labels(other)


def test_a_sound_service_is_asked_the_objectives_twice_and_the_noise_once():
    service = Service()
    found = checks(service)
    assert found.problem is None
    assert found.kept.all()
    np.testing.assert_array_equal(found.base_rate, np.zeros(5))
    assert (found.determinism.n, found.determinism.disagreeing) == (5, 0)
    assert service.oracle.queries == sum(map(len, service.asked)) == 2 * 5 + NOISE_PROBES


def test_objectives_that_noise_is_taken_for_are_left_out():
    half = [f"{'a' if i < 10 else 'b' if i < 18 else 'n'}{i}" for i in range(20)]
    found = checks(noise=half)
    np.testing.assert_allclose(found.base_rate, [0.5, 0.4, 0, 0.5, 0.4])
    assert found.kept.tolist() == [False, True, True, False, True]
    assert found.problem is None


def test_noise_that_gets_almost_every_answer_is_a_problem():
    found = checks(objectives=["a0", "a1", "b0"], noise=["a"] * 20)
    assert found.problem == "noise gets the answer of 2 of 3 objectives; choose others with data.public"


@pytest.mark.parametrize("similarity", [LabelEquality(), TextMatch(classes=("yes", "no"))])
def test_one_answer_for_everything_is_a_problem(similarity):
    returns = "label" if isinstance(similarity, LabelEquality) else "text"
    found = checks(Service(lambda text: 4 if returns == "label" else "yes", returns), similarity)
    assert "gives all objectives the same answer" in found.problem


def test_one_answer_for_everything_that_can_be_read_is_a_problem():
    service = Service(lambda text: "what?" if text == "a0" else "yes", "text")
    assert "gives all objectives the same answer" in checks(service, TextMatch(classes=("yes", "no"))).problem


class Unsteady:
    """Changes its mind about the first ``n`` texts when asked again."""

    def __init__(self, n, answer):
        self.n, self.answer, self.seen = n, answer, set()

    def __call__(self, text):
        again = text in self.seen
        self.seen.add(text)
        return self.answer(text, again and text in OBJECTIVES[: self.n])


@pytest.mark.parametrize(("n", "allowed"), [(1, True), (2, False)])
def test_a_service_that_disagrees_with_itself_is_not_trusted(n, allowed):
    service = Service(Unsteady(n, lambda text, changed: 7 if changed else LETTERS[text[0]]))
    found = checks(service)
    assert found.determinism.rate == n / 5
    assert (found.problem is None) is allowed
    if not allowed:
        assert found.problem == (
            "the service disagreed with itself on 2 of 5 objectives asked twice (at most 20% allowed); "
            "switch off what makes its answers vary"
        )


def scores(text, changed):
    values = np.full(5, 0.1)
    values[LETTERS[text[0]]] = 0.6
    return values + (np.array([0.02, -0.02, 0, 0, 0]) if changed else 0)


def test_scores_may_shake_where_only_labels_are_compared():
    shaking = Service(Unsteady(5, scores), returns="scores")
    assert checks(shaking).problem is None
    assert (
        "disagreed with itself on 5 of 5"
        in checks(Service(Unsteady(5, scores), returns="scores"), ScoreOverlap()).problem
    )


def test_services_that_sample_by_design_are_not_asked_twice():
    asked = []

    def paint(texts):
        asked.extend(texts)
        return np.random.default_rng(len(asked)).integers(256, size=(len(texts), 4, 4, 3), dtype=np.uint8)

    judge = CallableTarget(
        lambda images: images.reshape(len(images), -1)[:, :9].astype(float),
        modality="image",
        returns="embedding",
    )
    oracle = Oracle(CallableTarget(paint, modality="text", returns="image", batch_size=100))
    found = check_service(oracle, ImageJudge(judge=judge, images_per_prompt=2), OBJECTIVES, NOISE)
    assert found.determinism is None
    assert found.kept.all()
    assert oracle.queries == (5 + NOISE_PROBES) * 2


def test_a_service_that_compares_itself_gets_one_noise_input_per_objective():
    images = np.random.default_rng(0).integers(256, size=(5, 4, 4, 3), dtype=np.uint8)
    noise = np.random.default_rng(1).integers(256, size=(20, 4, 4, 3), dtype=np.uint8)
    service = Service(lambda prompt: "0.25", "text", "prompt")
    found = check_service(service.oracle, SelfScore(), images, noise)
    assert service.oracle.queries == 5 * 2
    np.testing.assert_array_equal(found.base_rate, np.full(5, 0.25))
    assert found.determinism is None


def test_noise_that_gets_no_readable_reply_counts_as_zero():
    service = Service(lambda text: "what?" if text[0] == "n" else f"class {text[0]}", "text")
    found = checks(service, TextMatch(classes=("a", "b", "c")))
    np.testing.assert_array_equal(found.base_rate, np.zeros(5))
    assert found.problem is None


def samples_for(pattern):
    """Attack texts, two copies per objective: ``pattern[j]`` are the first letters of the copies for objective j."""
    return [
        f"{letter}-{j}{k}-{pattern}" for j, letters in enumerate(pattern) for k, letter in enumerate(letters)
    ]


PATTERNS = (("aa", "bb", "cc", "aa", "bb"), ("an", "nn", "nc", "nn", "nb"), ("nn",) * 5)


def asked_all(which=(0, 1, 2, 3, 4), service=None, similarity=None, patterns=PATTERNS):
    service = service or Service()
    inference = Inference(checks(service, similarity))
    ask(
        inference,
        service.oracle,
        similarity or LabelEquality(),
        OBJECTIVES,
        [samples_for(p) for p in patterns],
        which,
    )
    return inference, service


def test_similarities_are_means_over_copies_objective_by_objective():
    inference, service = asked_all()
    expected = np.array([[1, 0.5, 0], [1, 0, 0], [1, 0.5, 0], [1, 0, 0], [1, 0.5, 0]])
    np.testing.assert_array_equal(inference.per_objective, expected)
    assert inference.asked == [0, 1, 2, 3, 4]
    assert (inference.dropped, inference.compared) == (0, 30)
    assert (
        service.oracle.queries == 2 * 5 + NOISE_PROBES + 5 * 3 * 2
    )  # the paper's M1 (1 + N M2), and the checks


def test_only_the_chosen_objectives_are_sent_in_their_order():
    service = Service()
    inference = Inference(checks(service))
    before = service.oracle.queries
    for which in ([3, 1], [0]):
        ask(inference, service.oracle, LabelEquality(), OBJECTIVES, [samples_for(p) for p in PATTERNS], which)
    assert inference.asked == [3, 1, 0]
    np.testing.assert_array_equal(inference.per_objective, [[1, 0, 0], [1, 0, 0], [1, 0.5, 0]])
    assert service.oracle.queries - before == 3 * 3 * 2


def test_the_candidates_go_out_in_one_call():
    service = Service()
    inference = Inference(checks(service))
    service.asked.clear()
    ask(inference, service.oracle, LabelEquality(), OBJECTIVES, [samples_for(p) for p in PATTERNS], [0, 1, 2])
    assert list(map(len, service.asked)) == [3 * 3 * 2]


def test_images_of_different_sizes_are_kept_apart_and_put_back():
    objectives = np.stack([np.full((4, 4, 3), 60 * j, dtype=np.uint8) for j in range(3)])

    def sized(size, values):
        return np.stack([np.full((size, size, 3), value, dtype=np.uint8) for value in values])

    samples = [
        sized(4, [0, 60, 120]),
        sized(8, [0, 0, 0]),
        sized(4, [200, 60, 200]),
        sized(8, [200, 200, 120]),
    ]
    service = CallableTarget(
        lambda images: images[:, 0, 0, 0].astype(int) // 60, modality="image", returns="label"
    )
    oracle = Oracle(service)
    inference = Inference(check_service(oracle, LabelEquality(), objectives, sized(4, range(201, 221))))
    ask(inference, oracle, LabelEquality(), objectives, samples, [2, 0, 1])
    np.testing.assert_array_equal(inference.per_objective, [[1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]])


def test_dropped_replies_leave_means_and_an_objective_without_any_is_left_out():
    def reply(text):
        silent = text in OBJECTIVES[2:3] or text[:4] == "a-00"
        return "hm" if silent else {"a": "red", "b": "blue", "c": "green", "n": "grey"}[text[0]]

    patterns = (("ab", "bb", "cc", "aa", "bb"), ("an", "bn", "nc", "nn", "nb"))
    inference, _ = asked_all(
        service=Service(reply, "text"),
        similarity=TextMatch(classes=("red", "blue", "green", "grey")),
        patterns=patterns,
    )
    assert inference.asked == [0, 1, 3, 4]
    # Of the first objective's copies only the second could be read.
    np.testing.assert_array_equal(inference.per_objective[0], [0, 0])
    assert inference.dropped == 2 + 4
    assert inference.compared == 20


def test_the_base_rate_is_that_of_the_objectives_asked():
    noise = [f"{'a' if i < 8 else 'n'}{i}" for i in range(20)]
    service = Service()
    inference = Inference(checks(service, noise=noise))
    assert inference.base_rate == pytest.approx(0.16)
    ask(inference, service.oracle, LabelEquality(), OBJECTIVES, [samples_for(p) for p in PATTERNS], [0, 1])
    assert inference.base_rate == pytest.approx(0.2)
