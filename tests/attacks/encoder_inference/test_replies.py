"""Numbers and labels in replies: those known by hand, and any text at all."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dosimeter.attacks.encoder_inference.replies import parse_label, parse_score


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("0.83", 0.83),
        ("The similarity is 0.83.", 0.83),
        (".5", 0.5),
        ("1", 1.0),
        ("Answer: 0", 0.0),
        ("Image 1 and image 2: 0.8", 0.8),
        ("0.8 out of 1", 0.8),
        ("similarity-0.8", 0.8),
        ("- 0.8", 0.8),
        ("8/10", None),
        ("8.5 out of 10", None),
        ("2", None),
        ("83%", None),
        ("0.5 %", None),
        ("-0.5", None),
        ("\u22120.5", None),
        ("0,83", None),
        ("1,000.5", None),
        ("8e-1", None),
        ("0.8e-1", None),
        ("between 0.2 and 0.4", None),
        ("0.7-0.8", None),
        ("1.5.2", None),
        ("v0.5", None),
        ("...", None),
        ("", None),
    ],
)
def test_scores_are_read_or_left_unread(reply, score):
    assert parse_score(reply) == score


@settings(deadline=None)
@given(st.text())
@example("0.")
@example("1." + "0" * 400)
@example("9" * 5000)
def test_any_reply_gives_nothing_or_a_number_in_range(reply):
    score = parse_score(reply)
    assert score is None or 0 <= score <= 1


WORDS = st.text(st.characters(categories=("L", "Z", "P"), exclude_characters="-.,%\u2212"))


@settings(deadline=None)
@given(before=WORDS, value=st.integers(0, 1000), after=WORDS)
def test_one_number_among_words_is_found(before, value, after):
    assert parse_score(f"{before} {value / 1000:.3f} {after.lstrip()}") == value / 1000


@settings(deadline=None)
@given(first=st.integers(0, 99), second=st.integers(0, 99), between=WORDS)
def test_two_numbers_are_never_chosen_between(first, second, between):
    assert parse_score(f"0.{first:02d} {between} 0.{second:02d}") is None


CLASSES = ("negative", "positive", "very positive", "C++")


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Positive", 1),
        ("very positive!", 2),
        ("VERY POSITIVE, very positive", 2),
        ("positive, or very positive?", None),
        ("nonnegative", None),
        ("I like C++.", 3),
        ("", None),
    ],
)
def test_labels_are_read_as_whole_words(reply, label):
    assert parse_label(reply, CLASSES) == label


@settings(deadline=None)
@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_reply_gives_nothing_or_a_known_class(reply, classes):
    label = parse_label(reply, classes)
    assert label is None or classes[label].casefold() in reply.casefold()
