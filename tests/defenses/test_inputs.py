"""Input defences: what they change, what they leave alone, and that a defended service is consistent."""

import io
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from dosimeter.core.errors import CapabilityError
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Prompt
from dosimeter.core.target import CallableTarget
from dosimeter.data.images import resize
from dosimeter.defenses.inputs import CharacterFlips, JpegInputs

IMAGES = np.random.default_rng(0).integers(256, size=(3, 24, 24, 3), dtype=np.uint8)
TEXTS = ["the quick brown fox", "", "jumps over the lazy dog!", "ünïcödé 漢字"]

see_images = CallableTarget(lambda images: images, modality="image", returns="image", fingerprint="see")
see_texts = CallableTarget(lambda texts: texts, modality="text", returns="text", fingerprint="see")


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize(
    ("defense", "target", "inputs"),
    [
        (JpegInputs(quality=None), see_images, IMAGES),
        (CharacterFlips(rate=0), see_texts, TEXTS),
    ],
    ids=lambda value: getattr(getattr(value, "card", None), "slug", ""),
)
def test_zero_strength_changes_no_answer(defense, target, inputs):
    plain, defended = Oracle(target)(inputs), Oracle(defense.wrap(target))(inputs)
    assert np.array_equal(plain, defended)


@pytest.mark.parametrize(
    ("defense", "target", "inputs"),
    [(JpegInputs(), see_images, IMAGES), (CharacterFlips(), see_texts, TEXTS[2:])],
    ids=lambda value: getattr(getattr(value, "card", None), "slug", ""),
)
def test_answers_are_the_same_alone_in_company_and_when_asked_again(defense, target, inputs):
    defended = defense.wrap(target, seed=3)
    together = defended.answer(inputs)
    for row in range(len(inputs)):
        assert np.array_equal(defended.answer(inputs[row : row + 1])[0], together[row])
    assert Oracle(defended).determinism(inputs).disagreeing == 0
    assert not np.array_equal(together, inputs)
    streamed = {
        int(index): answer
        for indices, answers in defended.stream(inputs, before_send=lambda n: None)
        for index, answer in zip(indices, answers)
    }
    assert all(np.array_equal(streamed[row], together[row]) for row in range(len(inputs)))


def test_jpeg_is_pillows():
    seen = JpegInputs(quality=40).wrap(see_images).answer(IMAGES)
    np.testing.assert_array_equal(seen, np.stack([jpeg(image, 40) for image in IMAGES]))


def test_lower_quality_damages_more():
    errors = [
        np.abs(JpegInputs(quality=quality).wrap(see_images).answer(IMAGES).astype(int) - IMAGES).mean()
        for quality in (95, 75, 30, 5)
    ]
    assert errors == sorted(errors)


def test_the_order_of_resizing_and_encoding_is_kept():
    first = JpegInputs(quality=20, resize=16, order="jpeg-first").wrap(see_images).answer(IMAGES)
    np.testing.assert_array_equal(first, resize(np.stack([jpeg(image, 20) for image in IMAGES]), 16))
    last = JpegInputs(quality=20, resize=16, order="resize-first").wrap(see_images).answer(IMAGES)
    np.testing.assert_array_equal(last, np.stack([jpeg(image, 20) for image in resize(IMAGES, 16)]))
    assert not np.array_equal(first, last)


def test_images_of_prompts_are_encoded_and_their_text_kept():
    seen: list[Prompt] = []

    def chat(prompts: list[Prompt]) -> list[str]:
        seen.extend(prompts)
        return [prompt.text for prompt in prompts]

    target = CallableTarget(chat, modality="prompt", returns="text")
    answers = (
        JpegInputs(quality=30).wrap(target).answer([Prompt("same?", (IMAGES[0], IMAGES[1])), Prompt("none")])
    )
    assert answers == ["same?", "none"]
    np.testing.assert_array_equal(seen[0].images[1], jpeg(IMAGES[1], 30))
    assert seen[1].images == ()


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=4), rate=st.floats(0, 1), seed=st.integers(0, 5))
def test_flips_keep_the_length_and_take_from_the_alphabet(texts, rate, seed):
    flipped = CharacterFlips(rate=rate).wrap(see_texts, seed=seed).answer(texts)
    assert [len(text) for text in flipped] == [len(text) for text in texts]
    for before, after in zip(texts, flipped):
        assert all(a == b or b in string.ascii_lowercase for a, b in zip(before, after))


@pytest.mark.parametrize("rate", [0.2, 0.7, 1.0])
def test_the_rate_is_the_share_of_characters_that_differ(rate):
    text = "abcdefghijklmnopqrst" * 500
    (flipped,) = CharacterFlips(rate=rate).wrap(see_texts).answer([text])
    changed = np.mean([a != b for a, b in zip(text, flipped)])
    assert changed == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / len(text)))


def test_replacements_are_uniform_over_the_other_characters():
    (flipped,) = CharacterFlips(rate=1, alphabet="abcd").wrap(see_texts).answer(["b" * 9000])
    counts = {character: flipped.count(character) for character in "abcd"}
    assert counts.pop("b") == 0
    assert all(abs(count - 3000) < 200 for count in counts.values())


def test_another_seed_flips_other_characters():
    first, other = (CharacterFlips().wrap(see_texts, seed=seed) for seed in (0, 1))
    assert first.answer(TEXTS[2:]) != other.answer(TEXTS[2:])
    assert first.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("defense", "values", "says"),
    [
        (JpegInputs, {"quality": 96}, "less than or equal to 95"),
        (JpegInputs, {"quality": 0}, "greater than or equal to 1"),
        (JpegInputs, {"order": "resize-first"}, "needs resize"),
        (JpegInputs, {"strength": 3}, "Extra inputs"),
        (CharacterFlips, {"rate": 1.5}, "less than or equal to 1"),
        (CharacterFlips, {"alphabet": "a"}, "at least two characters"),
        (CharacterFlips, {"alphabet": "aab"}, "all different"),
    ],
)
def test_impossible_settings_are_refused(defense, values, says):
    with pytest.raises(ValidationError, match=says):
        defense(**values)


def test_a_defence_for_another_kind_of_input_is_refused():
    with pytest.raises(CapabilityError, match=r"jpeg-inputs cannot run on target .* image or prompt inputs"):
        JpegInputs().wrap(see_texts)
    with pytest.raises(CapabilityError, match=r"character-flips cannot run on target .* text inputs"):
        CharacterFlips().wrap(see_images)
