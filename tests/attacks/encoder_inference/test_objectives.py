"""Built-in objectives and random starts."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.beam import TEXT_TO_IMAGE, random_strings
from dosimeter.attacks.encoder_inference.objectives import (
    PHRASES,
    farthest_points,
    image_objectives,
    random_starts,
    text_objectives,
)
from dosimeter.core.errors import InputError


def test_phrases_are_twenty_pairs_of_words_without_repetition():
    pairs = [phrase.split() for phrase in text_objectives()]
    assert len(pairs) == 20
    assert all(len(pair) == 2 for pair in pairs)
    assert all(len({pair[place] for pair in pairs}) == 20 for place in (0, 1))
    assert text_objectives(3) == list(PHRASES[:3])


@pytest.mark.parametrize("n", [0, 21])
def test_no_other_number_of_phrases(n):
    with pytest.raises(InputError, match=f"but {n} were asked for"):
        text_objectives(n)


def test_image_objectives_differ_more_than_random_patches():
    from dosimeter.data import load

    chosen = image_objectives(8, 32, seed=1)
    assert chosen.shape == (8, 32, 32, 3)
    assert chosen.dtype == np.uint8
    np.testing.assert_array_equal(chosen, image_objectives(8, 32, seed=1))
    assert not np.array_equal(chosen, image_objectives(8, 32, seed=2))

    def least_distance(images):
        coarse = images.reshape(len(images), 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(images), -1)
        return min(np.linalg.norm(a - b) for i, a in enumerate(coarse) for b in coarse[:i])

    assert least_distance(chosen) > 2 * least_distance(load("photographs", n=8, size=32, seed=1).inputs)


def test_farthest_points_on_a_line_are_its_ends_then_its_middle():
    points = np.array([[0.0], [1.0], [4.9], [5.2], [10.0], [11.0]])
    chosen = farthest_points(points, 3)
    assert sorted(points[chosen[:2], 0]) == [0.0, 11.0]
    assert points[chosen[2], 0] == 5.2
    assert sorted(farthest_points(np.zeros((4, 2)), 4)) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="at least 5 points"):
        farthest_points(np.zeros((4, 2)), 5)


def test_random_starts_are_uniform_and_seeded():
    images = random_starts("image", 6, seed=0, size=16)
    assert images.shape == (6, 16, 16, 3)
    assert images.dtype == np.uint8
    assert {int(images.min()), int(images.max())} == {0, 255}
    np.testing.assert_array_equal(images, random_starts("image", 6, seed=0, size=16))
    assert not np.array_equal(images, random_starts("image", 6, seed=1, size=16))
    assert random_starts("text", 5, seed=3, beam=TEXT_TO_IMAGE) == random_strings(5, TEXT_TO_IMAGE, 3)
