import json
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
from pydantic import Field, ValidationError

from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.errors import CapabilityError, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import (
    Attack,
    Context,
    Defense,
    Estimate,
    Findings,
    library_versions,
    peak_memory_bytes,
    wrap_all,
)
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import content_hash
from dosimeter.core.result import Metric
from dosimeter.core.target import CallableTarget


class Counting(Attack):
    """Asks for the public inputs and counts how often the service says 1."""

    card: ClassVar[Card] = Card(
        slug="counting",
        kind="attack",
        title="Counting",
        purpose="How often?",
        threat_model="A client.",
        needs=Needs(modalities=("text",), returns=("label",)),
    )

    rounds: int = Field(1, ge=1)
    word: str = "a"
    rate: float = 0.5

    def attack(self, oracle, context):
        labels = oracle.labels(context.public)
        drawn = float(context.rng("draw").random())
        return Findings(
            verdict="fail",
            summary="It says 1.",
            metrics=[
                Metric(name="ones", value=float((labels == 1).mean()), n=len(labels), reason="a count"),
                Metric(name="drawn", value=drawn, reason="a draw"),
            ],
            candidate_queries=7,
            data_digests={"public": "d1"},
        )

    def estimate(self, target, context):
        return Estimate(queries=len(context.public))


class Shuffle(Defense):
    """Adds noise of its own to inputs and to answers."""

    card: ClassVar[Card] = Card(
        slug="shuffle",
        kind="defense",
        title="Shuffle",
        purpose="Does noise help?",
        threat_model="A client.",
        needs=Needs(modalities=("table",), returns=("embedding",)),
    )

    scale: float = Field(1.0, ge=0)

    def protect_inputs(self, batch, generators):
        return np.stack([row + self.scale * g.normal(size=row.shape) for row, g in zip(batch, generators())])

    def protect_answers(self, answers, batch, generators):
        assert isinstance(answers, np.ndarray)
        return np.stack(
            [row + self.scale * g.normal(size=row.shape) for row, g in zip(answers, generators())]
        )


class Fresh(Shuffle):
    """The same noise, drawn anew whenever an input is asked."""

    @property
    def draws_per_query(self):
        return True


class Nothing(Defense):
    """Changes nothing."""

    card: ClassVar[Card] = Card(
        slug="nothing",
        kind="defense",
        title="Nothing",
        purpose="Is nothing nothing?",
        threat_model="A client.",
        needs=Needs(modalities=("table", "text"), returns=("embedding", "label")),
    )


ROWS = np.random.default_rng(0).normal(size=(7, 3))


def texts(**settings):
    return CallableTarget(
        lambda batch: [len(text) for text in batch],
        **{"modality": "text", "returns": "label", "name": "svc", "fingerprint": "f", **settings},
    )


def rows(function=lambda batch: batch.tolist(), **settings):
    return CallableTarget(
        function, modality="table", returns="embedding", name="svc", fingerprint="f", **settings
    )


class TestSettings:
    def test_defaults_are_settings(self):
        assert Counting().hyperparameters() == {"rounds": 1, "word": "a", "rate": 0.5}
        json.dumps(Counting(rounds=3).hyperparameters())

    def test_they_cannot_be_changed_and_no_others_added(self):
        method = Counting(rounds=2)
        with pytest.raises(ValidationError, match="frozen"):
            method.rounds = 3
        with pytest.raises(ValidationError, match="frozen"):
            method.another = 3
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            Counting(turns=2)

    def test_equal_settings_are_equal_methods(self):
        assert Counting(rounds=2) == Counting(rounds=2) != Counting(rounds=3)
        assert eval(repr(Counting(rounds=2))) == Counting(rounds=2)

    def test_from_spec_reads_settings(self, tmp_path):
        assert Counting.from_spec({"rounds": 4, "rate": 1}, tmp_path) == Counting(rounds=4, rate=1.0)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"round": 2}, r"^counting: round: unknown key; did you mean 'rounds'\?$"),
            ({"zzz": 2}, r"^counting: zzz: unknown key; known are rate, rounds, word$"),
            ({"rounds": 0, "rate": "x", "zzz": 1}, r"^counting: rounds: .*; rate: .*; zzz: .*$"),
            ({1: 2}, r"^counting: \[1\]: "),
            (["rounds"], r"^counting: should be a valid dictionary"),
        ],
    )
    def test_from_spec_collects_every_problem(self, settings, message, tmp_path):
        with pytest.raises(InputError, match=message):
            Counting.from_spec(settings, tmp_path)


class TestAttack:
    CONTEXT = Context(seed=5, public=["a", "bb", "a", "ccc"])

    def test_the_base_class_counts_and_records(self):
        result = Counting(rounds=2).run(texts(price_per_call=0.5), context=self.CONTEXT)
        assert (result.method, result.title, result.threat_model) == ("counting", "Counting", "A client.")
        assert (result.verdict, result.metric("ones").value) == ("fail", 0.5)
        assert (result.cost.queries, result.cost.candidate_queries, result.cost.money) == (3, 7, 1.5)
        assert result.cost.seconds >= 0
        assert result.cost.peak_memory_bytes > 2**20
        given = result.provenance
        assert (given.seed, given.target, given.target_fingerprint) == (5, "svc", "f")
        assert given.hyperparameters == {"rounds": 2, "word": "a", "rate": 0.5}
        assert given.data_digests == {"public": "d1"}
        assert given.versions == library_versions()
        assert {"python", "numpy", "dosimeter"} <= set(given.versions)

    def test_an_oracle_keeps_its_bill_and_only_the_runs_own_queries_are_the_runs_cost(self):
        ledger = Ledger()
        oracle = Oracle(texts(), ledger=ledger)
        oracle(["a", "zzzz"])
        result = Counting().run(oracle, context=self.CONTEXT)
        assert (result.cost.queries, ledger.used) == (2, 4)

    def test_one_seed_one_result(self):
        def drawn(seed):
            return Counting().run(texts(), context=Context(seed=seed, public=["a"])).metric("drawn").value

        assert drawn(1) == drawn(1) != drawn(2)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (rows(pytest.fail), r"needs text inputs \(the target takes table\), and label as answers"),
            (CallableTarget(pytest.fail, modality="text", returns="embedding"), "needs label as answers"),
        ],
    )
    def test_access_is_checked_before_anything_is_asked(self, target, message):
        ledger = Ledger()
        with pytest.raises(CapabilityError, match=f"counting cannot run on target '.*': it {message}"):
            Counting().run(Oracle(target, ledger=ledger), context=self.CONTEXT)
        assert ledger.used == 0

    def test_an_author_has_to_write_the_algorithm(self):
        class Unfinished(Attack):
            card = Counting.card

        with pytest.raises(TypeError, match="abstract"):
            Unfinished()

    def test_peak_memory_is_in_bytes(self):
        assert 2**24 < peak_memory_bytes() < 2**40


class TestDefense:
    def test_without_effect_the_target_answers_as_before_under_another_identity(self):
        target = rows()
        defended = Nothing().wrap(target)
        assert np.array_equal(Oracle(defended)(ROWS), Oracle(target)(ROWS))
        assert (defended.name, defended.modality, defended.returns) == ("svc + nothing", "table", "embedding")
        assert defended.fingerprint != target.fingerprint
        assert np.array_equal(Oracle(Shuffle(scale=0).wrap(target))(ROWS), Oracle(target)(ROWS))

    def test_identity_depends_on_target_settings_and_seed(self):
        defended = [
            Shuffle(scale=1).wrap(rows()),
            Shuffle(scale=2).wrap(rows()),
            Shuffle(scale=1).wrap(rows(), seed=1),
            Shuffle(scale=1).wrap(Shuffle(scale=1).wrap(rows())),
        ]
        assert len({target.fingerprint for target in defended}) == 4
        assert Shuffle(scale=1).wrap(rows()).fingerprint == defended[0].fingerprint

    def test_randomness_is_drawn_once_per_input_whatever_the_company(self):
        whole = Oracle(Shuffle().wrap(rows(batch_size=7)))(ROWS)
        alone = np.concatenate([Oracle(Shuffle().wrap(rows()))(ROWS[i : i + 1]) for i in range(len(ROWS))])
        split = Oracle(Shuffle().wrap(rows(batch_size=2)))(ROWS[::-1])[::-1]
        assert np.array_equal(whole, alone)
        assert np.array_equal(whole, split)
        assert np.array_equal(whole, np.asarray(Shuffle().wrap(rows()).answer(ROWS)))

    def test_asking_again_does_not_average_it_away(self):
        oracle = Oracle(Shuffle().wrap(rows()))
        assert np.array_equal(oracle(ROWS), oracle(ROWS, repeat=1))
        assert not np.allclose(oracle(ROWS), ROWS)

    def test_every_input_and_every_seed_draws_anew(self):
        noise = Oracle(Shuffle().wrap(rows()))(ROWS) - ROWS
        assert len(np.unique(noise.round(9))) == noise.size
        one, other = (Oracle(Shuffle().wrap(rows(), seed=seed))(ROWS) for seed in (0, 1))
        assert not np.isclose(one, other).any()

    def test_inputs_and_answers_get_noise_of_their_own(self):
        noise = Oracle(Shuffle().wrap(rows()))(ROWS) - ROWS
        inputs = Oracle(Shuffle().wrap(rows(lambda batch: 1000 * batch)))(ROWS) / 1000 - ROWS
        assert not np.isclose(noise, 2 * inputs, rtol=0.05).any()

    def test_two_defences_work_from_the_outside_in(self):
        seen = []
        target = rows(lambda batch: seen.append(batch.copy()) or batch)
        Oracle(Nothing().wrap(Shuffle().wrap(target)))(ROWS)
        one_defence = seen.pop()
        Oracle(Shuffle().wrap(target))(ROWS)
        assert np.array_equal(one_defence, seen.pop())

    def test_the_caller_pays_what_the_target_costs(self):
        defended = Nothing().wrap(rows(price_per_call=0.5, batch_size=3))
        ledger = Ledger()
        Oracle(defended, ledger=ledger)(ROWS)
        assert (defended.batch_size, ledger.used, ledger.money) == (3, 7, 3.5)

    def test_a_defended_target_grants_queries_only(self):
        target = rows()
        target.grants = "weights"
        assert Nothing().wrap(target).grants == "query"

    def test_a_defence_that_does_not_fit_is_refused(self):
        with pytest.raises(
            CapabilityError, match="shuffle cannot run on target 'svc': it needs table inputs"
        ):
            Shuffle().wrap(texts())

    def test_nonsense_from_the_target_is_refused_before_a_defence_works_on_it(self):
        defended = Shuffle().wrap(rows(lambda batch: [[1.0, np.nan]] * len(batch)))
        with pytest.raises(TargetError, match="target 'svc' returned 7 values that are NaN"):
            Oracle(defended)(ROWS)

    def test_an_error_ends_the_targets_stream(self):
        ended = []

        class Sending(CallableTarget):
            def stream(self, batch, *, before_send):
                try:
                    yield from super().stream(batch, before_send=before_send)
                finally:
                    ended.append(True)

        class Broken(Nothing):
            def protect_answers(self, answers, batch, generators):
                raise ZeroDivisionError

        target = Sending(lambda batch: batch, modality="table", returns="embedding", batch_size=2)
        with pytest.raises(ZeroDivisionError) as caught:
            Oracle(Broken().wrap(target))(ROWS)
        assert ended == [True]
        assert caught.value.__traceback__ is not None

    def test_closing_closes_the_target(self):
        closed = []
        target = texts()
        target.close = lambda: closed.append(True)
        Nothing().wrap(target).close()
        assert closed == [True]

    def test_a_defence_sees_what_the_caller_sent(self):
        seen = []

        class Watching(Nothing):
            def protect_inputs(self, batch, generators):
                return batch + 1

            def protect_answers(self, answers, batch, generators):
                seen.append((batch.copy(), answers.copy()))
                return answers

        defended = Watching().wrap(rows(batch_size=3))
        Oracle(defended)(ROWS)
        defended.answer(ROWS[:2])
        for sent, answers in seen:
            assert np.array_equal(answers, sent + 1)
        assert [len(sent) for sent, _ in seen] == [3, 3, 1, 2]


class TestDrawsPerQuery:
    def test_every_answer_to_one_input_is_drawn_anew(self):
        defended = Fresh().wrap(rows())
        first, second = defended.answer(ROWS), defended.answer(ROWS)
        assert not np.isclose(first, second).any()
        twice = Fresh().wrap(rows()).answer(np.concatenate([ROWS[:1], ROWS[:1]]))
        assert np.array_equal(twice, [first[0], second[0]])

    def test_the_draw_depends_on_how_often_this_input_was_asked_and_on_nothing_else(self):
        defended, other = Fresh().wrap(rows()), Fresh().wrap(rows(batch_size=2))
        first, second = defended.answer(ROWS), defended.answer(ROWS)
        answers = {
            number: [row for _, part in other.stream(ROWS[::-1], before_send=lambda n: None) for row in part]
            for number in range(2)
        }
        assert np.array_equal(answers[0][::-1], first)
        assert np.array_equal(answers[1][::-1], second)

    def test_an_oracle_says_which_answer_it_wants_so_that_a_resumed_run_goes_on(self):
        oracle = Oracle(Fresh().wrap(rows()))
        first, second = oracle(ROWS), oracle(ROWS, repeat=1)
        assert not np.isclose(first, second).any()
        assert oracle.determinism(ROWS).rate == 1
        assert np.array_equal(Oracle(Fresh().wrap(rows()))(ROWS, repeat=1), second)
        counting = Fresh().wrap(rows())
        assert np.array_equal([counting.answer(ROWS), counting.answer(ROWS)], [first, second])

    def test_threads_never_share_a_draw(self):
        defended = Fresh().wrap(rows())
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: defended.answer(ROWS[:1]).tobytes(), range(40)))
        assert len(set(answers)) == 40


class TestWrapAll:
    def test_defences_change_answers_in_their_order(self):
        class Times(Nothing):
            factor: float

            def protect_answers(self, answers, batch, generators):
                return np.round(answers * self.factor)

        chained = wrap_all(rows(price_per_call=2.0, batch_size=3), [Times(factor=0.5), Times(factor=10)])
        assert np.array_equal(chained.answer(ROWS), 10 * np.round(ROWS / 2))
        assert (chained.batch_size, chained.price_per_call, chained.name) == (
            3,
            2.0,
            "svc + nothing + nothing",
        )

    def test_none_and_one_are_what_they_are_alone(self):
        target = rows()
        assert wrap_all(target, []) is target
        one = wrap_all(target, [Shuffle()], seed=4)
        assert one.fingerprint == Shuffle().wrap(target, seed=4).fingerprint

    def test_each_draws_its_own_noise(self):
        class Output(Nothing):
            def protect_answers(self, answers, batch, generators):
                return answers + np.stack([g.normal(size=answers.shape[1]) for g in generators()])

        once, twice = (wrap_all(rows(), [Output()] * n).answer(ROWS) for n in (1, 2))
        assert not np.isclose(twice - once, once - ROWS, rtol=0.05).any()

    def test_the_identity_depends_on_the_order(self):
        defenses = [Shuffle(), Nothing()]
        assert (
            wrap_all(rows(), defenses).fingerprint
            == wrap_all(rows(), defenses).fingerprint
            != wrap_all(rows(), defenses[::-1]).fingerprint
        )

    def test_fresh_draws_stay_fresh_behind_another_defence(self):
        chained = wrap_all(rows(), [Fresh(), Nothing()])
        assert not np.isclose(chained.answer(ROWS), chained.answer(ROWS)).any()


def test_a_context_has_a_stream_for_every_place():
    context = Context(seed=3)
    assert context.rng("a", 1).random() == Context(seed=3).rng("a", 1).random()
    assert context.rng("a", 1).random() != context.rng("a", 2).random()
    assert content_hash(context.rng("a").bytes(8)) != content_hash(Context(seed=4).rng("a").bytes(8))
