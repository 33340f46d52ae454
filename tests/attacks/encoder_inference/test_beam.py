"""The vectorised search against a loop over single strings, its counts, and what it finds."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dosimeter.attacks.encoder_inference import beam as beam_module
from dosimeter.attacks.encoder_inference.beam import (
    CLASSIFICATION,
    TEXT_TO_IMAGE,
    CharacterBeam,
    random_baseline,
    random_strings,
    search,
)
from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.seeding import rng

SMALL = CharacterBeam(length=5, alphabet="abcdef", width=7, extensions=4)


class Spy:
    """An embedding by character and position; remembers what it was asked."""

    def __init__(self, dim: int = 6) -> None:
        self.table = np.random.default_rng(0).normal(size=(40, 128, dim))
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.calls.append(texts)
        return np.stack([self.one(text) for text in texts])

    def one(self, text: str) -> np.ndarray:
        return sum(
            (self.table[place, ord(character)] for place, character in enumerate(text)), self.table[39, 0]
        )

    @property
    def asked(self) -> list[str]:
        return [text for call in self.calls for text in call]


def slow_search(embed, objective, j, k, config, seed):
    """One search, one string at a time: grow, score, sort, keep."""
    generator = rng(seed, "beam", j, k)
    beams = [""]
    for _ in range(config.length):
        scored = []
        for text in beams:
            order = generator.random(len(config.alphabet)).argsort()[: config.extensions]
            for place in order:
                grown = text + config.alphabet[place]
                scored.append((float(np.mean((embed.one(grown) - objective) ** 2)), grown))
        scored.sort(key=lambda pair: pair[0])
        beams = [text for _, text in scored[: config.width]]
    return beams[0], scored[0][0]


@pytest.mark.parametrize("width", [1, 7, 1000])
@pytest.mark.parametrize("extensions", [1, 4, 6])
def test_search_equals_a_loop_over_single_strings(width, extensions):
    config = CharacterBeam(length=4, alphabet="abcdef", width=width, extensions=extensions)
    embed = Spy()
    objectives = np.random.default_rng(1).normal(size=(3, 6)) * 2
    outcome = search(embed, objectives, 2, config, seed=5)
    for j in range(3):
        for k in range(2):
            text, loss = slow_search(embed, objectives[j], j, k, config, 5)
            assert outcome.texts[j][k] == text
            assert outcome.losses[j, k] == pytest.approx(loss, rel=1e-12)


def test_small_blocks_change_nothing(monkeypatch):
    objectives = np.random.default_rng(1).normal(size=(2, 6))
    whole = search(Spy(), objectives, 3, SMALL, seed=0)
    monkeypatch.setattr(beam_module, "_NUMBERS_A_BLOCK", 17)
    embed = Spy()
    blocks = search(embed, objectives, 3, SMALL, seed=0)
    assert max(map(len, embed.calls)) == 2
    assert blocks.texts == whole.texts
    np.testing.assert_array_equal(blocks.losses, whole.losses)


def test_copies_and_objectives_are_independent_of_each_other():
    objectives = np.random.default_rng(1).normal(size=(2, 6))
    one = search(Spy(), objectives[:1], 1, SMALL, seed=3)
    many = search(Spy(), objectives, 4, SMALL, seed=3)
    assert one.texts[0][0] == many.texts[0][0]
    assert len({text for row in many.texts for text in row}) > 1


def test_published_settings_score_as_many_strings_as_published():
    assert CLASSIFICATION.queries_per_sample() == 16 + 16 * 16 + 14 * 150 * 16 == 33_872
    assert TEXT_TO_IMAGE.queries_per_sample() == 32 + 32 * 32 + 30 * 64 * 32 == 62_496
    assert len(CLASSIFICATION.alphabet) == 30
    assert set(TEXT_TO_IMAGE.alphabet) == set(string.printable) - set(string.whitespace)


def test_one_search_asks_exactly_what_the_settings_say():
    def embed(texts):
        embed.asked += len(texts)
        return np.array([[float(sum(map(ord, text)) % 97)] for text in texts])

    embed.asked = 0
    outcome = search(embed, np.array([[3.0]]), 1, CLASSIFICATION, seed=0)
    assert outcome.queries == embed.asked == 33_872 + 1  # the random start


def test_no_string_is_asked_twice_and_every_query_is_counted():
    embed = Spy()
    outcome = search(embed, np.zeros((3, 6)), 5, SMALL, seed=0)
    searched = [text for text in embed.asked if len(text) < SMALL.length]
    assert len(searched) == len(set(searched))
    assert all(len(call) == len(set(call)) for call in embed.calls)
    assert outcome.queries == len(embed.asked) < 15 * SMALL.queries_per_sample()


@pytest.mark.parametrize("planted", ["abcde", "fffff", "cabaf"])
def test_a_planted_text_is_found(planted):
    embed = Spy()
    config = CharacterBeam(length=5, alphabet="abcdef", width=400, extensions=6)
    outcome = search(embed, embed([planted]), 1, config, seed=0)
    assert outcome.texts == [[planted]]
    assert outcome.losses[0, 0] == pytest.approx(0, abs=1e-20)
    assert outcome.start_losses[0, 0] > 0.1


def test_a_beam_of_one_is_greedy():
    embed, goal = Spy(), np.full((1, 6), 0.7)
    config = CharacterBeam(length=4, alphabet="abcdef", width=1, extensions=6)
    text = ""
    for _ in range(4):
        text = min((text + c for c in "abcdef"), key=lambda grown: np.mean((embed.one(grown) - goal) ** 2))
    assert search(embed, goal, 1, config, seed=9).texts == [[text]]


def test_same_seed_same_texts_other_seed_other_texts():
    objectives = np.random.default_rng(1).normal(size=(2, 6))
    first, again, other = (search(Spy(), objectives, 2, SMALL, seed=seed) for seed in (4, 4, 5))
    assert first.texts == again.texts
    np.testing.assert_array_equal(first.start_losses, again.start_losses)
    assert first.texts != other.texts


def test_an_alphabet_of_one_leaves_one_text():
    config = CharacterBeam(length=3, alphabet="x", width=2, extensions=1)
    outcome = search(Spy(), np.zeros((2, 6)), 2, config, seed=0)
    assert outcome.texts == [["xxx", "xxx"]] * 2
    np.testing.assert_array_equal(outcome.losses, outcome.start_losses)
    assert outcome.queries == 1 + 3


def test_characters_beyond_ascii_survive():
    config = CharacterBeam(length=3, alphabet="äß漢🦊", width=3, extensions=4)

    def embed(texts):
        return np.array([[float(text.count("🦊"))] for text in texts])

    assert search(embed, np.array([[3.0]]), 1, config, seed=0).texts == [["🦊🦊🦊"]]


def test_searching_beats_random_strings_which_are_the_reported_start():
    embed = Spy()
    objectives = embed(["red fo", "blue w", "green "])
    outcome = search(embed, objectives, 4, SMALL, seed=2)
    baseline = random_baseline(embed, objectives, 4, SMALL, seed=2)
    np.testing.assert_array_equal(outcome.start_losses, baseline.losses)
    assert [text for row in baseline.texts for text in row] == random_strings(12, SMALL, 2)
    assert (outcome.losses < baseline.losses).mean() > 0.9
    for j, row in enumerate(baseline.texts):
        for k, text in enumerate(row):
            assert baseline.losses[j, k] == pytest.approx(np.mean((embed.one(text) - objectives[j]) ** 2))


@given(
    n=st.integers(0, 30),
    length=st.integers(1, 20),
    alphabet=st.sets(st.sampled_from("abcxyz!?é"), min_size=1),
)
@settings(max_examples=40, deadline=None)
def test_random_strings_have_the_length_and_the_characters(n, length, alphabet):
    config = CharacterBeam(length=length, alphabet="".join(sorted(alphabet)), extensions=1)
    texts = random_strings(n, config, 0)
    assert len(texts) == n
    assert all(len(text) == length and set(text) <= alphabet for text in texts)


def test_token_states_are_compared_flattened():
    """Encoders whose flattened states differ in one place only are told apart; their means would not be."""

    def states(texts):
        codes = np.array(
            [[ord(character) for character in text.ljust(4, "a")] for text in texts], dtype=float
        )
        return codes - 97.0

    config = CharacterBeam(length=4, alphabet="abcd", width=64, extensions=4)
    assert search(states, states(["bdac"]), 1, config, seed=0).texts == [["bdac"]]


def test_steps_are_reported_up_to_the_length():
    told: list[float] = []
    search(Spy(), np.zeros((1, 6)), 2, SMALL, seed=0, on_step=told.append)
    assert sum(told) == pytest.approx(SMALL.length)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"extensions": 31}, "at most 30 extensions"),
        ({"alphabet": "aab", "extensions": 1}, "different printable characters"),
        ({"alphabet": "a\n", "extensions": 1}, "different printable characters"),
        ({"alphabet": "", "extensions": 1}, "at most 0 extensions"),
        ({"length": 0}, "greater than or equal to 1"),
        ({"steps": 3}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(values, says):
    with pytest.raises(ValidationError, match=says):
        CharacterBeam(**values)


@pytest.mark.parametrize(
    "objectives", [np.zeros(6), np.zeros((0, 6)), np.full((2, 6), np.nan), np.zeros((2, 3, 6))]
)
def test_objectives_that_are_no_embeddings_are_refused(objectives):
    with pytest.raises(InputError, match="Flatten token states first"):
        search(Spy(), objectives, 1, SMALL, seed=0)


def test_bad_copies_and_bad_embeddings_are_refused():
    with pytest.raises(InputError, match="at least 1 copy"):
        search(Spy(), np.zeros((1, 6)), 0, SMALL, seed=0)
    with pytest.raises(TargetError, match=r"its objectives ask for \(1, 5\)"):
        search(Spy(), np.zeros((1, 5)), 1, SMALL, seed=0)
    with pytest.raises(TargetError, match="NaN or infinity for 1 texts"):
        search(lambda texts: np.full((len(texts), 2), np.nan), np.zeros((1, 2)), 1, SMALL, seed=0)
