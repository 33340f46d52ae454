"""The query phase: what is paid, what is kept, and services that are not worth a call."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.purchase import Purchase, buy, probe, unit_rows
from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from support.tiny_thefts import pretender

TABLE = np.random.default_rng(5).normal(size=(8 * 8 * 3, 6))


def linear(batch):
    return batch.reshape(len(batch), -1) / 255 @ TABLE


def changed(change):
    """A service whose n-th answer, counted from 0 over all calls, is changed by ``change(n, vector)``."""
    asked = [0]

    def answer(batch):
        vectors = []
        for vector in linear(batch):
            vectors.append(change(asked[0], vector))
            asked[0] += 1
        return np.stack(vectors)

    return answer


def noisy(batch, generator=np.random.default_rng(0)):  # noqa: B008 - one stream for all calls
    return linear(batch) + generator.normal(size=(len(batch), 6))


# Buying


def test_what_was_sent_and_said_is_kept(images):
    bought = buy(Oracle(pretender(linear)), images)
    np.testing.assert_array_equal(bought.inputs, images)
    np.testing.assert_allclose(bought.vectors, linear(images), rtol=1e-6)
    assert len(bought) == 40 and bought.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(bought.unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose((bought.unit * bought.vectors).sum(1), np.linalg.norm(bought.vectors, axis=1), rtol=1e-5)  # fmt: skip


def test_each_input_costs_one_query_and_a_copy_nothing(images):
    ledger = Ledger(max_queries=40)
    oracle = Oracle(pretender(linear), ledger=ledger)
    buy(oracle, images)
    assert (ledger.used, ledger.answered, oracle.queries) == (40, 40, 40)
    again = buy(oracle, np.concatenate([images[:7], images[:7]]))
    assert ledger.used == 40 and len(again) == 14
    np.testing.assert_array_equal(again.vectors[:7], again.vectors[7:])


def test_copies_within_one_purchase_cost_one_query(images):
    ledger = Ledger()
    buy(Oracle(pretender(linear), ledger=ledger), images[[0, 1, 0, 0, 2, 1]])
    assert ledger.used == 3


def test_nothing_is_sent_where_the_budget_does_not_suffice(images):
    ledger = Ledger(max_queries=39)
    with pytest.raises(BudgetExceeded):
        buy(Oracle(pretender(linear), ledger=ledger), images)
    assert ledger.used == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, v: v * (n not in (13, 30)), r"vector of zeros for 2 of 40 inputs, first for input 13 \(counted from 0\)"),
        (lambda n, v: np.where(n == 9, np.nan, v), "'pretender'.*(NaN|finite)"),
        (lambda n, v: np.where(n == 9, np.inf, v), "'pretender'.*(NaN|infinit|finite)"),
        (lambda n, v: v if n < 35 else v[:4], "'pretender'"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_learned_are_refused(images, change, message):
    with pytest.raises(TargetError, match=message):
        buy(Oracle(pretender(changed(change), batch_size=5)), images)


def test_a_length_that_changes_from_call_to_call_is_refused(images):
    oracle = Oracle(pretender(changed(lambda n, v: v if n < 20 else v[:4]), batch_size=20))
    buy(oracle, images[:20])
    with pytest.raises(TargetError, match=r"'pretender'.*(4|6)"):
        buy(oracle, images[20:])


def test_a_purchase_that_failed_is_not_paid_twice(images, tmp_path):
    ledger, cache = Ledger(), AnswerCache(tmp_path / "answers.sqlite")
    target = pretender(changed(lambda n, v: np.where(n == 22, np.nan, v)), batch_size=5, fingerprint="x")
    with pytest.raises(TargetError):
        buy(Oracle(target, ledger=ledger, cache=cache), images)
    paid = ledger.answered
    assert paid == 20
    buy(Oracle(pretender(linear, fingerprint="x"), ledger=ledger, cache=cache), images)
    assert ledger.answered == 40


@pytest.mark.parametrize("nothing", [np.empty((0, 8, 8, 3), np.uint8), []])
def test_no_inputs_are_refused(nothing):
    with pytest.raises(InputError, match=r"needs surrogate inputs, but got none.*data.public"):
        buy(Oracle(pretender(linear)), nothing)


# What was bought


def test_take_join_permute_constant(images):
    bought = buy(Oracle(pretender(linear)), images)
    part = bought.take(np.array([5, 2]))
    np.testing.assert_array_equal(part.inputs, images[[5, 2]])
    np.testing.assert_array_equal(part.vectors, bought.vectors[[5, 2]])
    both = part.joined(bought.take(np.array([7])))
    np.testing.assert_array_equal(both.inputs, images[[5, 2, 7]])
    np.testing.assert_array_equal(both.vectors, bought.vectors[[5, 2, 7]])
    mixed = bought.permuted(np.random.default_rng(0))
    np.testing.assert_array_equal(mixed.inputs, images)
    assert (mixed.vectors == bought.vectors).all(1).mean() < 0.2
    np.testing.assert_array_equal(np.sort(mixed.vectors, 0), np.sort(bought.vectors, 0))
    drawn = bought.random(np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.inputs, images)
    np.testing.assert_allclose(np.linalg.norm(drawn.vectors, axis=1), 1, rtol=1e-6)
    assert abs((drawn.vectors * bought.unit).sum(1).mean()) < 0.3
    assert drawn.digest == bought.random(np.random.default_rng(0)).digest
    constant = bought.constant()
    np.testing.assert_allclose(constant.vectors, np.tile(bought.vectors.mean(0), (40, 1)), rtol=1e-5)
    digests = [p.digest for p in (bought, part, mixed, constant, buy(Oracle(pretender(linear)), images))]
    assert len(set(digests)) == 4 and digests[0] == digests[-1]


def test_texts_are_bought_too():
    target = pretender(lambda texts: np.array([[len(text), 1.0] for text in texts]), modality="text")
    bought = buy(Oracle(target), ["a", "bcd"])
    assert bought.take(np.array([1])).inputs == ["bcd"] and bought.joined(bought).inputs == ["a", "bcd"] * 2


def test_unit_rows_leave_zeros_alone():
    rows = unit_rows(np.array([[3, 4], [0, 0], [1e-20, 0], [1e15, 0]]))
    np.testing.assert_allclose(rows[[0, 1, 3]], [[0.6, 0.8], [0, 0], [1, 0]])
    assert rows.dtype == np.float32 and np.isfinite(rows).all()


# Probing


def test_a_deterministic_service_gives_no_doubt(images):
    ledger = Ledger()
    seen = probe(Oracle(pretender(linear), ledger=ledger), images[:12])
    assert seen.doubt is None and seen.self_distance == 0 and seen.asked_twice == 12
    assert ledger.used == 2 * 12 + 5
    unit = linear(images[:12])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = [np.linalg.norm(unit[i] - unit[j]) for i in range(12) for j in range(i)]
    assert seen.spread == pytest.approx(np.mean(pairs), rel=1e-5)


def test_half_the_brightness_is_recognised(images):
    def without_bias(batch):  # only the direction of pixels counts
        return batch.reshape(len(batch), -1).astype(float)

    def with_bias(batch):
        return np.concatenate([batch.reshape(len(batch), -1) / 255.0, np.full((len(batch), 1), 10.0)], 1)

    def blind(batch):
        return linear((batch > 127).astype(float) * 255)

    even = images // 2 * 2
    assert probe(Oracle(pretender(without_bias)), even).dimmed == pytest.approx(0, abs=1e-6)
    moved = probe(Oracle(pretender(with_bias)), even).dimmed
    half = with_bias(even[:5] // 2)
    whole = with_bias(even[:5])
    expected = np.linalg.norm(unit_rows(half) - unit_rows(whole), axis=1).mean()
    assert moved == pytest.approx(expected, rel=1e-5) and moved > 0.1
    assert probe(Oracle(pretender(lambda b: blind(b) + 1)), images).dimmed > 0.1


def test_texts_have_no_brightness():
    target = pretender(lambda texts: np.array([[len(text), 1.0] for text in texts]), modality="text")
    ledger = Ledger()
    seen = probe(Oracle(target, ledger=ledger), ["a", "bcd", "ef"])
    assert seen.dimmed is None and ledger.used == 6


@pytest.mark.parametrize("seed", range(20))
def test_one_vector_for_all_is_doubted_whatever_its_rounding(images, seed):
    vector = np.random.default_rng(seed).normal(size=(1, 70))
    seen = probe(Oracle(pretender(lambda batch: np.repeat(vector, len(batch), 0))), images[:5])
    assert seen.spread == 0 and "5 different inputs the same vector" in seen.doubt
    assert "size and range" in seen.doubt


def test_answers_at_random_are_doubted(images):
    generator = np.random.default_rng(0)
    seen = probe(Oracle(pretender(lambda batch: generator.normal(size=(len(batch), 6)))), images)
    assert seen.self_distance > 1 and "answers at random" in seen.doubt


def test_noise_that_leaves_inputs_apart_is_measured_without_doubt(images):
    seen = probe(Oracle(pretender(lambda batch: 20 * linear(batch) + noisy(batch))), images)
    assert seen.doubt is None and 0 < seen.self_distance < seen.spread


def test_one_input_cannot_probe(images):
    with pytest.raises(InputError, match=r"at least 2 inputs, but got 1"):
        probe(Oracle(pretender(linear)), images[:1])


def test_a_purchase_is_what_it_says_without_a_service(images):
    bought = Purchase(images, linear(images).astype(np.float32))
    assert len(bought) == 40 and bought.unit.shape == (40, 6)
