import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, CapabilityError, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.limits import time_limit
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import listening
from dosimeter.core.target import CallableTarget, Target

WORKER = Path(__file__).parents[1] / "support" / "oracle_worker.py"


class Service:
    """Texts in, their length out; remembers what it was sent."""

    def __init__(
        self, answer=lambda batch: np.array([len(text) for text in batch]), returns="label", **settings
    ):
        self.sent = []
        self._answer = answer
        self.target = CallableTarget(self._reply, modality="text", returns=returns, name="svc", **settings)

    def _reply(self, batch):
        self.sent.extend(batch)
        return self._answer(batch)


def embed(batch):
    return np.array([[len(text), ord(text[0])] for text in batch], dtype=np.float32)


class TestAsking:
    def test_repeated_records_cost_one_query_within_a_call_and_over_calls(self):
        service = Service()
        ledger = Ledger()
        oracle = Oracle(service.target, ledger=ledger)
        assert oracle(["bb", "a", "bb", "ccc", "a"]).tolist() == [2, 1, 2, 3, 1]
        assert oracle(["a", "dddd", "bb"]).tolist() == [1, 4, 2]
        assert service.sent == ["bb", "a", "ccc", "dddd"]
        assert (ledger.used, ledger.answered, oracle.queries) == (4, 4, 4)

    @given(
        st.lists(
            st.lists(st.sampled_from("abcdefgh").map(lambda c: c * (ord(c) - 95)), max_size=12), max_size=5
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_order_is_kept_and_nothing_asked_twice_whatever_is_asked(self, batches):
        service = Service(batch_size=3)
        ledger = Ledger()
        oracle = Oracle(service.target, ledger=ledger)
        for batch in batches:
            assert oracle(batch).tolist() == [len(text) for text in batch]
        distinct = {text for batch in batches for text in batch}
        assert Counter(service.sent) == Counter(distinct)
        assert oracle.queries == ledger.used == ledger.answered == len(distinct)

    def test_a_target_may_answer_out_of_order(self):
        class Backwards(Target):
            def answer(self, batch):
                raise NotImplementedError

            def stream(self, batch, *, before_send):
                before_send(len(batch))
                for index in reversed(range(len(batch))):
                    yield np.array([index]), [batch[index].upper()]

        oracle = Oracle(Backwards(name="b", modality="text", returns="text", fingerprint="b"))
        assert oracle(["a", "b", "a", "c"]) == ["A", "B", "A", "C"]

    def test_repeat_asks_for_an_independent_answer(self):
        calls = iter(range(100))
        service = Service(lambda batch: [f"{text}{next(calls)}" for text in batch], returns="text")
        oracle = Oracle(service.target)
        assert oracle(["a", "b"]) == ["a0", "b1"]
        assert oracle(["a", "b"], repeat=1) == ["a2", "b3"]
        assert oracle(["b"], repeat=1) == ["b3"]
        assert oracle(["a"]) == ["a0"]
        assert (oracle.queries, len(service.sent)) == (4, 4)

    def test_targets_with_different_identities_do_not_share_answers(self):
        cache = AnswerCache()
        one, other = Service(), Service(lambda batch: np.zeros(len(batch)))
        assert Oracle(one.target, cache=cache)(["aa"]).tolist() == [2]
        assert Oracle(other.target, cache=cache)(["aa"]).tolist() == [0]

    def test_equal_images_cost_one_query_however_they_are_given(self):
        sent = []

        def mean(batch):
            sent.append(batch)
            return batch.mean(axis=(1, 2, 3))[:, None]

        oracle = Oracle(CallableTarget(mean, modality="image", returns="embedding"))
        images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
        first = oracle(images)
        assert np.array_equal(oracle(images / 255), first)
        assert np.array_equal(oracle(np.moveaxis(images, -1, 1)), first)
        assert [(batch.dtype, batch.shape) for batch in sent] == [(np.uint8, (4, 6, 5, 3))]

    @pytest.mark.parametrize(
        ("modality", "batch", "message"),
        [
            ("image", np.full((1, 4, 4, 3), 200.0), r"input of target 'svc' in 0\.\.1, .* Divide by 255"),
            ("image", np.full((1, 4, 4, 3), np.nan), "contain NaN or infinity"),
            ("table", [[np.nan]], "1 values are NaN or infinite"),
            ("text", "one text", "expected input of target 'svc' to be a list of str"),
        ],
    )
    def test_inputs_are_refused_before_anything_is_sent(self, modality, batch, message):
        ledger = Ledger()
        target = CallableTarget(pytest.fail, modality=modality, returns="label", name="svc")
        with pytest.raises(InputError, match=message):
            Oracle(target, ledger=ledger)(batch)
        assert ledger.used == 0

    @pytest.mark.parametrize(
        ("returns", "shape", "dtype"),
        [
            ("label", (0,), np.int64),
            ("scores", (0, 0), np.float64),
            ("embedding", (0, 0), np.float64),
            ("image", (0, 0, 0, 3), np.uint8),
        ],
    )
    def test_an_empty_batch_has_no_answers_of_the_right_kind(self, returns, shape, dtype):
        oracle = Oracle(CallableTarget(pytest.fail, modality="text", returns=returns))
        assert (oracle([]).shape, oracle([]).dtype, oracle.queries) == (shape, dtype, 0)

    def test_an_empty_batch_of_a_known_width(self):
        oracle = Oracle(Service(embed, "embedding").target)
        oracle(["a"])
        assert oracle([]).shape == (0, 2)
        assert Oracle(CallableTarget(pytest.fail, modality="text", returns="text"))([]) == []

    def test_it_shows_what_the_target_is_and_nothing_deeper(self):
        service = Service(price_per_call=0.25, fingerprint="f")
        oracle = Oracle(service.target)
        shown = (
            oracle.name,
            oracle.modality,
            oracle.returns,
            oracle.grants,
            oracle.fingerprint,
            oracle.price_per_call,
        )
        assert shown == ("svc", "text", "label", "query", "f", 0.25)

    def test_the_ledger_is_told_scope_and_price(self, tmp_path):
        ledger = Ledger(tmp_path / "ledger.sqlite")
        Oracle(Service(price_per_call=0.25).target, ledger=ledger, scope="attack, seed 0")(["a", "b"])
        assert ledger.money == 0.5

    def test_progress_shows_what_is_left(self):
        heard = []
        oracle = Oracle(Service(batch_size=2).target, ledger=Ledger(max_queries=9), max_queries=5)
        with listening(heard.append):
            oracle(["a", "b", "c"])
        assert [(event.done, event.total, event.left) for event in heard] == [
            (0, 3, None),
            (2, 3, "3 queries left"),
            (3, 3, "2 queries left"),
            (3, 3, None),
        ]
        assert heard[0].task == "asking svc"


class TestBudget:
    def test_a_batch_that_does_not_fit_is_not_sent_at_all(self):
        service = Service(batch_size=2)
        ledger = Ledger(max_queries=5)
        oracle = Oracle(service.target, ledger=ledger)
        oracle(["a", "b", "c"])
        with pytest.raises(BudgetExceeded) as caught:
            oracle(["a", "d", "e", "f"])
        assert (caught.value.used, caught.value.limit, caught.value.wanted) == (3, 5, 3)
        assert (service.sent, ledger.used, oracle.queries) == (["a", "b", "c"], 3, 3)
        assert oracle(["d", "e", "c", "d"]).tolist() == [1, 1, 1, 1]
        assert oracle.remaining == 0

    def test_answers_that_are_there_cost_nothing_even_without_budget(self):
        cache = AnswerCache()
        service = Service()
        Oracle(service.target, cache=cache)(["a", "b"])
        assert Oracle(service.target, cache=cache, ledger=Ledger(max_queries=0))(["b", "a"]).tolist() == [
            1,
            1,
        ]

    def test_an_oracles_own_cap_counts_cached_answers_so_that_a_rerun_ends_alike(self):
        cache = AnswerCache()
        service = Service()
        for _ in range(2):
            oracle = Oracle(service.target, cache=cache, max_queries=3)
            oracle(["a", "b"])
            with pytest.raises(BudgetExceeded, match="budget of 3 queries reached: 2 used, 2 more wanted"):
                oracle(["a", "c", "d"])
            oracle(["c"])
            assert (oracle.queries, oracle.remaining) == (3, 0)
        assert service.sent == ["a", "b", "c"]

    def test_remaining_is_the_tighter_cap(self):
        target = Service().target
        assert Oracle(target).remaining is None
        assert Oracle(target, max_queries=4).remaining == 4
        assert Oracle(target, ledger=Ledger(max_queries=3), max_queries=4).remaining == 3

    def test_the_allowance_is_the_tighter_cap_and_does_not_shrink(self):
        target = Service().target
        assert Oracle(target).allowance is None
        for caps in ({"max_queries": 4}, {"ledger": Ledger(max_queries=4), "max_queries": 9}):
            oracle = Oracle(target, **caps)
            oracle(["a", "b"])
            assert (oracle.allowance, oracle.remaining) == (4, 2)

    def test_the_cap_is_reserved_before_a_record_leaves(self):
        ledger = Ledger()
        seen = []
        service = Service(
            lambda batch: seen.append((ledger.used, ledger.answered)) or [0] * len(batch), batch_size=2
        )
        Oracle(service.target, ledger=ledger)(["a", "b", "c"])
        assert seen == [(2, 0), (3, 2)]

    def test_a_passed_time_limit_stops_between_batches_and_keeps_the_answers(self):
        service = Service(batch_size=1)
        ledger = Ledger()
        oracle = Oracle(service.target, ledger=ledger)
        with pytest.raises(BudgetExceeded, match="seconds"), time_limit(-1):
            oracle(["a", "b"])
        assert (service.sent, ledger.lost, oracle.queries) == (["a"], 0, 1)
        oracle(["a", "b"])
        assert service.sent == ["a", "b"]


class TestBadAnswers:
    @pytest.mark.parametrize(
        ("returns", "answer", "message"),
        [
            ("label", lambda batch: [1], r"an array of shape \(1,\) for 2 inputs"),
            ("label", lambda batch: [1.5, 2], "one whole-number label"),
            ("scores", lambda batch: [[0.5, np.nan]] * 2, "2 values that are NaN or infinite"),
            ("scores", lambda batch: [[0.5, 0.5], [1.0]], "no array of equal answers"),
            (
                "scores",
                lambda batch: "<html>Sign in</html>",
                "should return scores, but returned str '<html>",
            ),
            (
                "embedding",
                lambda batch: np.zeros((2, 3, 4)),
                r"of shape \(2, d\), but returned shape \(2, 3, 4\)",
            ),
            ("embedding", lambda batch: np.empty((2, 0)), r"but returned shape \(2, 0\)"),
            ("text", lambda batch: ["only one"], "returned 1 texts for 2 inputs"),
            ("text", lambda batch: [b"bytes"] * 2, r"a list of texts, but returned a list of 2 \(bytes\)"),
        ],
    )
    def test_they_raise_and_count_as_lost(self, returns, answer, message):
        ledger = Ledger()
        service = Service(answer, returns, fingerprint="same")
        cache = AnswerCache()
        oracle = Oracle(service.target, ledger=ledger, cache=cache)
        with pytest.raises(TargetError, match=rf"target 'svc' .*{message}"):
            oracle(["a", "bb"])
        assert (ledger.used, ledger.answered, ledger.lost, oracle.queries) == (2, 0, 2, 0)
        healthy = Service(returns="label", fingerprint="same")
        assert Oracle(healthy.target, cache=cache)(["a", "bb"]).tolist() == [1, 2]

    def test_a_width_that_changes_is_noticed(self):
        service = Service(lambda batch: np.zeros((len(batch), len(batch[0]))), "embedding", batch_size=1)
        ledger = Ledger()
        oracle = Oracle(service.target, ledger=ledger)
        with pytest.raises(TargetError, match="embedding of length 3 after length 2 before"):
            oracle(["aa", "bb", "ccc", "dd"])
        assert (ledger.used, ledger.answered) == (3, 2)

    def test_a_width_that_changed_since_the_answers_were_kept_is_noticed(self):
        cache = AnswerCache()
        services = [
            Service(lambda batch, width=width: np.ones((len(batch), width)), "scores", fingerprint="same")
            for width in (2, 3)
        ]
        Oracle(services[0].target, cache=cache)(["a"])
        with pytest.raises(TargetError, match=r"different shapes: \(2,\) and \(3,\)"):
            Oracle(services[1].target, cache=cache)(["a", "b"])
        oracle = Oracle(services[1].target, cache=cache)
        oracle(["c"])
        with pytest.raises(TargetError, match="scores of length 2 after length 3"):
            oracle(["a"])

    def test_masks_and_images_of_different_sizes_are_noticed(self):
        service = Service(lambda batch: np.ones((1, len(batch[0]), 4)), "mask", batch_size=1)
        with pytest.raises(TargetError, match=r"answers of different shapes: \(1, 4\) and \(2, 4\)"):
            Oracle(service.target)(["a", "bb"])

    @pytest.mark.parametrize("error", [TargetError("gone"), ValueError("a bug"), KeyboardInterrupt()])
    def test_what_came_before_an_error_is_kept(self, error):
        broken = [True]

        def answer(batch):
            if broken[0] and "ccc" in batch:
                raise error
            return [len(text) for text in batch]

        service = Service(answer, batch_size=2)
        ledger, cache = Ledger(), AnswerCache()
        oracle = Oracle(service.target, ledger=ledger, cache=cache)
        with pytest.raises(type(error)):
            oracle(["a", "bb", "ccc", "dddd"])
        assert (ledger.used, ledger.answered, oracle.queries) == (4, 2, 2)
        resumed = Oracle(service.target, cache=cache)
        with pytest.raises(type(error)):
            resumed(["a", "bb", "ccc", "dddd"])
        assert resumed.queries == 2
        service.sent.clear()
        broken[0] = False
        assert oracle(["a", "bb", "ccc", "dddd"]).tolist() == [1, 2, 3, 4]
        assert service.sent == ["ccc", "dddd"]
        assert (ledger.used, ledger.lost, oracle.queries) == (6, 2, 4)

    def test_a_stream_that_ends_early_is_an_error(self):
        class Short(Target):
            def answer(self, batch):
                return [0] * len(batch)

            def stream(self, batch, *, before_send):
                before_send(1)
                return iter([(np.array([0]), [7])])

        oracle = Oracle(Short(name="short", modality="text", returns="label", fingerprint="s"))
        with pytest.raises(TargetError, match="target 'short' answered only 1 of 3 inputs"):
            oracle(["a", "b", "c"])
        assert oracle(["a"]).tolist() == [7]

    def test_an_error_ends_what_is_still_in_flight(self):
        ended = []

        class Sending(Target):
            def answer(self, batch):
                raise NotImplementedError

            def stream(self, batch, *, before_send):
                try:
                    yield np.array([0]), [0.5]
                finally:
                    ended.append(True)

        with pytest.raises(TargetError) as caught:
            Oracle(Sending(name="s", modality="text", returns="label", fingerprint="s"))(["a", "b"])
        assert ended == [True]
        assert caught.value.__traceback__ is not None


class TestLabels:
    def test_labels_of_scores_are_their_arg_max(self):
        service = Service(lambda batch: [[0.1, 0.9], [0.8, 0.2]], "scores")
        assert Oracle(service.target).labels(["a", "b"]).tolist() == [1, 0]

    @pytest.mark.parametrize("returns", ["label", "scores"])
    def test_no_records_have_no_labels(self, returns):
        labels = Oracle(Service(returns=returns).target).labels([])
        assert (labels.shape, labels.dtype) == ((0,), np.int64)

    def test_a_target_without_labels_is_refused_before_it_is_asked(self):
        service = Service(embed, "embedding")
        with pytest.raises(CapabilityError, match="'svc' returns embedding; labels need"):
            Oracle(service.target).labels(["a"])
        assert service.sent == []


class TestDeterminism:
    TEXTS = tuple("abcdefghij")

    def measured(self, answer, returns):
        return Oracle(Service(answer, returns).target).determinism(list(self.TEXTS))

    def test_a_deterministic_target_agrees_with_itself(self):
        found = self.measured(embed, "embedding")
        assert (found.n, found.disagreeing, found.rate) == (10, 0, 0.0)

    @pytest.mark.parametrize("returns", ["label", "scores", "embedding", "text"])
    def test_a_random_target_does_not(self, returns):
        random = np.random.default_rng(0)
        make = {
            "label": lambda batch: random.integers(0, 1000, len(batch)),
            "scores": lambda batch: random.dirichlet([1, 1, 1], len(batch)),
            "embedding": lambda batch: 1e-6 * random.normal(size=(len(batch), 4)),
            "text": lambda batch: [str(random.random()) for _ in batch],
        }
        assert self.measured(make[returns], returns).rate > 0.9

    @pytest.mark.parametrize(("noise", "rate"), [(1e-6, 0.0), (1e-2, 1.0)])
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_rounding_noise_is_no_disagreement_at_any_scale(self, noise, rate, scale):
        signs = iter([1, -1])

        def answer(batch):
            return scale * embed(batch) * (1 + next(signs) * noise)

        assert self.measured(answer, "embedding").rate == rate

    def test_one_label_that_changed_is_one_disagreement(self):
        calls = iter(range(100))
        found = self.measured(lambda batch: [ord(text) + (next(calls) == 13) for text in batch], "label")
        assert (found.disagreeing, found.rate) == (1, 0.1)

    def test_asking_twice_is_paid_for_once(self):
        service = Service()
        oracle = Oracle(service.target)
        oracle.determinism(["a", "b"])
        oracle.determinism(["a", "b"])
        assert (oracle.queries, len(service.sent)) == (4, 4)

    def test_nothing_cannot_be_measured(self):
        with pytest.raises(InputError, match="cannot be measured on no inputs"):
            Oracle(Service().target).determinism([])


class TestSharedFiles:
    def run(self, folder, *jobs):
        started = [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(folder), *map(str, job)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for job in jobs
        ]
        (folder / "go").touch()
        ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
        assert all(code in (0, -9) for _, _, code in ended), ended
        sent = (folder / "sent").read_text().split()
        return [json.loads(out) if code == 0 else None for out, _, code in ended], sent

    def test_two_processes_pay_for_a_record_once_between_them(self, tmp_path):
        (one, other), sent = self.run(tmp_path, (0, 45, 1000), (15, 60, 1000))
        ledger = Ledger(tmp_path / "ledger.sqlite")
        assert sorted(map(int, sent)) == list(range(60))
        assert (ledger.used, ledger.answered) == (60, 60)
        assert one["told"] == {str(number): number**2 for number in range(45)}
        assert other["told"] == {str(number): number**2 for number in range(15, 60)}
        assert (one["queries"], other["queries"]) == (45, 45)

    def test_two_processes_never_overshoot_the_cap(self, tmp_path):
        results, sent = self.run(tmp_path, (0, 30, 37), (100, 130, 37))
        ledger = Ledger(tmp_path / "ledger.sqlite")
        assert len(sent) == len(set(sent)) == ledger.used == ledger.answered == 35
        assert any(result["refused"] for result in results)
        assert sum(len(result["told"]) for result in results) == 35

    def test_a_killed_process_pays_again_only_for_what_was_on_its_way(self, tmp_path):
        (result,), _ = self.run(tmp_path, (0, 20, 1000, "11"))
        assert result is None
        assert Ledger(tmp_path / "ledger.sqlite").lost == 3
        (result,), sent = self.run(tmp_path, (0, 20, 1000))
        assert result["told"] == {str(number): number**2 for number in range(20)}
        twice = {text for text, times in Counter(sent).items() if times > 1}
        assert twice == {"10", "11", "12"}
        ledger = Ledger(tmp_path / "ledger.sqlite")
        assert (ledger.used, ledger.lost, result["queries"]) == (23, 3, 20)

    def test_what_another_process_learned_meanwhile_is_not_asked_again(self, tmp_path):
        path = tmp_path / "answers.sqlite"
        first = Oracle(Service(fingerprint="f").target, cache=AnswerCache(path))

        class Raced(AnswerCache):
            """Another process gets the answers right after this one looked for them in vain."""

            def get(self, keys):
                found = super().get(keys)
                first(["a", "bb"])
                return found

        service = Service(fingerprint="f")
        ledger = Ledger()
        assert Oracle(service.target, cache=Raced(path), ledger=ledger)(["a", "ccc", "bb"]).tolist() == [
            1,
            3,
            2,
        ]
        assert (service.sent, ledger.used) == (["ccc"], 1)

    def test_a_cached_rerun_asks_nothing(self, tmp_path):
        service = Service(embed, "embedding", fingerprint="f")
        first = Oracle(service.target, cache=AnswerCache(tmp_path / "answers.sqlite"))(["a", "b"])
        again = Oracle(
            CallableTarget(pytest.fail, modality="text", returns="embedding", fingerprint="f"),
            cache=AnswerCache(tmp_path / "answers.sqlite"),
            ledger=Ledger(max_queries=0),
        )
        answers = again(["a", "b"])
        assert (answers.dtype, answers.tolist(), again.queries) == (first.dtype, first.tolist(), 2)

    def test_waiting_for_another_process_ends_with_the_time_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dosimeter.core.cache._LOCK_CHECK_SECONDS", 0.05)
        service = Service()
        oracle = Oracle(service.target, cache=AnswerCache(tmp_path / "answers.sqlite"))
        with (
            FileLock(tmp_path / "answers.lock"),
            time_limit(0.1),
            pytest.raises(BudgetExceeded, match="seconds"),
        ):
            oracle(["a"])
        assert service.sent == []
        assert oracle(["a"]).tolist() == [1]


def test_a_function_is_no_target_and_how_to_make_it_one_is_said():
    with pytest.raises(InputError, match=r"got a function\. Wrap a function of yours: CallableTarget\("):
        Oracle(lambda texts: [0] * len(texts))
