"""Zero-shot labels of a stolen image tower with the target's text tower."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.zero_shot import prompts, zero_shot_labels
from dosimeter.core.errors import InputError


def test_a_prompt_per_class():
    assert prompts(["cat", "dog"]) == ["a photo of a cat", "a photo of a dog"]
    assert prompts(["a{0}"], "{} seen") == ["a{0} seen"]
    assert prompts([], "the {}") == []


def test_a_template_needs_a_place_for_the_class():
    with pytest.raises(InputError, match=r"template with \{\} for the class.*but got 'a photo'"):
        prompts(["cat"], "a photo")


@pytest.mark.parametrize("template", ["{} and {}", "{} of {name}", "{} in {", "{!x} {}"])
def test_other_braces_do_not_matter(template):
    assert prompts(["cat"], template)[0] == template.replace("{}", "cat")


def test_the_nearest_text_by_angle_whatever_the_lengths():
    generator = np.random.default_rng(0)
    texts, images = generator.normal(size=(5, 7)), generator.normal(size=(30, 7))
    expected = [
        max(range(5), key=lambda c: image @ texts[c] / np.linalg.norm(image) / np.linalg.norm(texts[c]))
        for image in images
    ]
    scaled = images * generator.uniform(0.1, 10, size=(30, 1))
    assert zero_shot_labels(scaled, 3 * texts).tolist() == expected


def test_towers_of_two_models_are_refused():
    with pytest.raises(InputError, match=r"length 4, the text tower of length 5.*two towers of one model"):
        zero_shot_labels(np.ones((2, 4)), np.ones((3, 5)))
