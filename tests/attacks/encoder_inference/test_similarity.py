"""Every adapter on answers known by hand, the choice of one, and two services with a hidden encoder."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from dosimeter.attacks.encoder_inference.beam import CharacterBeam, random_baseline, search
from dosimeter.attacks.encoder_inference.objectives import random_starts
from dosimeter.attacks.encoder_inference.similarity import (
    ImageJudge,
    LabelEquality,
    ScoreOverlap,
    SelfScore,
    TextMatch,
    choose_similarity,
)
from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Prompt
from dosimeter.core.target import CallableTarget
from dosimeter.models.flow import TextToImage, VelocityField, fit_flow
from dosimeter.models.networks import SmallConvNet, initial_weights


def service(function, *, modality="text", returns="label", **options):
    return Oracle(CallableTarget(function, modality=modality, returns=returns, **options))


def pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def lengths(texts: list[str]) -> np.ndarray:
    return np.array([[float(len(text)), 1.0] for text in texts])


IMAGE_JUDGE = CallableTarget(pixels, modality="image", returns="embedding", name="pixels")
TEXT_JUDGE = CallableTarget(lengths, modality="text", returns="embedding", name="lengths")


def test_labels_are_equal_or_not_and_objectives_are_asked_once():
    oracle = service(lambda texts: [len(text) for text in texts])
    found = LabelEquality().compare(oracle, ["a", "bb", "ccc"], ["x", "x", "xyz"])
    np.testing.assert_array_equal(found.values, [1.0, 0.0, 1.0])
    assert found.dropped == 0
    assert oracle.queries == 3 + 2


def test_scores_give_their_arg_max_or_their_overlap():
    table = {"a": [0.7, 0.3, 0.0], "b": [0.6, 0.0, 0.4], "c": [0.0, 0.0, 1.0]}
    oracle = service(lambda texts: [table[text] for text in texts], returns="scores")
    np.testing.assert_array_equal(LabelEquality().compare(oracle, ["a", "a"], ["b", "c"]).values, [1.0, 0.0])
    overlap = ScoreOverlap().compare(oracle, ["a", "a", "a"], ["b", "c", "a"])
    np.testing.assert_allclose(overlap.values, [0.6, 0.0, 1.0])


def test_logits_are_no_probabilities():
    oracle = service(lambda texts: [[2.0, -1.0]] * len(texts), returns="scores")
    with pytest.raises(InputError, match="score overlap needs probabilities"):
        ScoreOverlap().compare(oracle, ["a"], ["b"])


def test_texts_by_class_by_scorer_and_by_judge():
    oracle = service(lambda texts: [f"It is {text}." for text in texts], returns="text")
    by_class = TextMatch(classes=("sports", "world")).compare(
        oracle, ["Sports", "world", "unclear", "sports or world"], ["sports", "sports", "world", "world"]
    )
    np.testing.assert_array_equal(by_class.values, [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(by_class.dropped_mask, [False, False, True, True])
    assert by_class.dropped == 2

    scorer = TextMatch(scorer=lambda first, second: [0.25 if a == b else 0.0 for a, b in zip(first, second)])
    np.testing.assert_array_equal(scorer.compare(oracle, ["x", "y"], ["x", "z"]).values, [0.25, 0.0])

    judged = TextMatch(judge=TEXT_JUDGE).compare(oracle, ["ab", "a"], ["cd", "cdef"])
    a, b = np.array([8.0, 1.0]), np.array([11.0, 1.0])
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(judged.values, [1.0, 0.5 + 0.5 * cosine])


def test_text_match_wants_one_way_of_comparing_and_a_scorer_in_range():
    for given_ways in ({}, {"classes": ("a",), "judge": TEXT_JUDGE}):
        with pytest.raises(InputError, match="exactly one of classes, scorer and judge"):
            TextMatch(**given_ways)
    with pytest.raises(InputError, match="takes image"):
        TextMatch(judge=IMAGE_JUDGE)
    oracle = service(lambda texts: texts, returns="text")
    with pytest.raises(InputError, match=r"2 numbers in 0\.\.1"):
        TextMatch(scorer=lambda first, second: [7.0, 0.0]).compare(oracle, ["a", "b"], ["a", "b"])


@pytest.mark.parametrize("per_call", [None, 1, 3, 4, 5])
def test_images_are_paired_in_order_however_many_come_per_call(per_call):
    """Image i of a prompt is one bright pixel, at place i; for 'shift' at place i + 1."""
    calls: Counter[str] = Counter()

    def generate(prompts: list[str]) -> np.ndarray:
        images = np.zeros((len(prompts), per_call or 1, 16, 1, 3), np.uint8)
        for row, prompt in enumerate(prompts):
            for number in range(per_call or 1):
                images[row, number, calls[prompt] * (per_call or 1) + number + (prompt == "shift")] = 255
            calls[prompt] += 1
        return images if per_call else images[:, 0]

    adapter = ImageJudge(judge=IMAGE_JUDGE)
    oracle = service(generate, returns="image")
    found = adapter.compare(oracle, ["same", "shift"], ["also", "also"])
    np.testing.assert_allclose(found.values, [1.0, 0.0], atol=1e-12)
    assert oracle.queries == 3 * -(-4 // (per_call or 1))
    assert adapter.queries_per_sample == adapter.queries_per_objective == 4


def test_black_images_have_no_direction_and_score_zero():
    oracle = service(lambda prompts: np.zeros((len(prompts), 2, 2, 3), np.uint8), returns="image")
    assert ImageJudge(judge=IMAGE_JUDGE, images_per_prompt=1).compare(
        oracle, ["a"], ["b"]
    ).values.tolist() == [0.0]


def test_self_score_asks_both_orders_and_drops_what_it_cannot_read():
    def reply(prompts: list[Prompt]) -> list[str]:
        return [
            {(1, 2): "0.6", (2, 1): "About 0.8.", (1, 3): "0.5", (3, 1): "no idea"}[
                tuple(int(image[0, 0, 0]) for image in prompt.images)
            ]
            for prompt in prompts
        ]

    images = np.stack([np.full((3, 3, 3), value, np.uint8) for value in (1, 1, 2, 3)])
    oracle = service(reply, modality="prompt", returns="text")
    found = SelfScore().compare(oracle, images[:2], images[2:])
    np.testing.assert_allclose(found.values, [0.7, 0.0])
    np.testing.assert_array_equal(found.dropped_mask, [False, True])
    assert oracle.queries == 4 == 2 * SelfScore().queries_per_sample


@pytest.mark.parametrize(
    ("modality", "returns", "options", "kind"),
    [
        ("image", "label", {}, LabelEquality),
        ("image", "scores", {}, LabelEquality),
        ("image", "scores", {"overlap": True}, ScoreOverlap),
        ("prompt", "text", {}, SelfScore),
        ("text", "text", {"classes": ["a", "b"], "judge": TEXT_JUDGE}, TextMatch),
        ("image", "text", {"judge": TEXT_JUDGE}, TextMatch),
        ("text", "text", {"scorer": lambda first, second: [0.0]}, TextMatch),
        ("text", "image", {"judge": IMAGE_JUDGE}, ImageJudge),
    ],
)
def test_the_adapter_follows_from_what_the_service_returns(modality, returns, options, kind):
    oracle = service(len, modality=modality, returns=returns)
    adapter = choose_similarity(oracle, **options)
    assert type(adapter) is kind
    assert returns in adapter.returns


@pytest.mark.parametrize(
    ("returns", "options", "says"),
    [
        ("text", {}, "give the classes it names, a scorer, or a text encoder as judge"),
        ("image", {}, "give an image encoder that is not a candidate as judge"),
        ("image", {"judge": TEXT_JUDGE}, "takes image and returns embedding, but 'lengths' takes text"),
        ("embedding", {}, "returns embedding; encoder inference compares"),
        ("label", {"overlap": True}, "score overlap needs scores"),
        (
            "image",
            {"judge": IMAGE_JUDGE, "candidate_fingerprints": [IMAGE_JUDGE.fingerprint]},
            "'pixels' is one of the candidates",
        ),
    ],
)
def test_what_is_missing_is_said(returns, options, says):
    with pytest.raises(InputError, match=says):
        choose_similarity(service(len, returns=returns), **options)


def test_unequal_pairs_and_wrong_answers_are_refused():
    oracle = service(lambda texts: [0] * len(texts))
    with pytest.raises(InputError, match="one to one, but got 2 and 1"):
        LabelEquality().compare(oracle, ["a", "b"], ["c"])
    with pytest.raises(InputError, match="compares scores, but target"):
        ScoreOverlap().compare(oracle, ["a"], ["b"])
    with pytest.raises(InputError, match="takes text"):
        SelfScore().compare(service(list, returns="text"), ["a"], ["b"])
    with pytest.raises(InputError, match="at least 1 image per prompt"):
        ImageJudge(judge=IMAGE_JUDGE, images_per_prompt=0)
    assert LabelEquality().compare(oracle, [], []).values.shape == (0,)


DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class CharacterConvNet(nn.Module):
    """Texts -> (n, 16) embeddings: characters, one convolution, mean over the text. Untrained."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with initial_weights(seed, "character-conv-net"):
            self.characters = nn.Embedding(128, 16, padding_idx=0)
            self.convolution = nn.Conv1d(16, 64, 3, padding=1)
            self.projection = nn.Linear(64, 16)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> np.ndarray:
        codes = nn.utils.rnn.pad_sequence(
            [torch.tensor([ord(character) for character in text]) for text in texts], batch_first=True
        )
        mask = (codes > 0).float()[:, None]
        hidden = torch.relu(self.convolution(self.characters(codes).transpose(1, 2))) * mask
        return 3 * self.projection(hidden.sum(2) / mask.sum(2)).numpy()


@pytest.fixture(scope="module")
def encoders() -> list[CharacterConvNet]:
    return [CharacterConvNet(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    return load_digits()


@pytest.fixture(scope="module")
def text_to_image(encoders, digits) -> Oracle:
    """Draws handwritten digits by name; conditions come from encoder 3."""
    images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
    conditions = torch.from_numpy(encoders[3](DIGITS))[torch.from_numpy(digits.target)]
    field = VelocityField(8, 16, channels=16, seed=0)
    fit_flow(field, images, conditions, steps=250, seed=0)
    return service(TextToImage(field, encoders[3]), returns="image", name="digit painter")


def test_the_image_judge_ranks_the_hidden_text_encoder_first(encoders, text_to_image, digits):
    reader = LogisticRegression(max_iter=300).fit(digits.data / 16, digits.target)
    judge = CallableTarget(
        lambda images: reader.decision_function(pixels(images[..., 0]) / 255),
        modality="image",
        returns="embedding",
        name="digit reader",
    )
    config = CharacterBeam(length=12, width=20, extensions=8)
    adapter = choose_similarity(text_to_image, judge=judge)
    objectives = [name for name in DIGITS for _ in range(2)]

    def score(find) -> list[float]:
        texts = [find(encoder, encoder(DIGITS), 2, config, 0).texts for encoder in encoders]
        pairs = [[text for row in rows for text in row] for rows in texts]
        return [float(adapter.compare(text_to_image, attacks, objectives).values.mean()) for attacks in pairs]

    searched, random = score(search), score(random_baseline)
    others = [value for place, value in enumerate(searched) if place != 3]
    assert np.argmax(searched) == 3
    assert searched[3] > max(others) + 0.15
    # All candidates start from the same random strings, which the search has to beat.
    assert max(random) == min(random) < searched[3] - 0.3


def _closest_images(encoder: nn.Module, goals: torch.Tensor, starts: np.ndarray) -> np.ndarray:
    """``starts`` after 100 steps of Adam towards the embeddings ``goals``, as uint8."""
    images = torch.from_numpy(starts).permute(0, 3, 1, 2).float().div(255).requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (encoder(images) - goals).square().mean(1).sum().backward()
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return images.detach().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_self_score_ranks_the_hidden_image_encoder_first():
    encoders = [SmallConvNet((8, 16), 12, 16, seed=seed).eval().requires_grad_(False) for seed in range(5)]

    def embed(encoder: nn.Module, images: np.ndarray) -> torch.Tensor:
        return encoder(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)

    objectives = random_starts("image", 6, seed=0, size=4).repeat(4, axis=1).repeat(4, axis=2)
    starts = random_starts("image", 6, seed=1, size=16)
    center = embed(encoders[2], np.concatenate([objectives, starts])).mean(0)

    def chat(prompts: list[Prompt]) -> list[str]:
        """A vision-language stub: how close the two images are to encoder 2, in words."""
        pairs = [embed(encoders[2], np.stack(prompt.images)) - center for prompt in prompts]
        return [f"I would say {max(0.0, float(torch.cosine_similarity(a, b, 0))):.2f}." for a, b in pairs]

    oracle = service(chat, modality="prompt", returns="text", name="chat")
    adapter = choose_similarity(oracle)
    scores = []
    for encoder in encoders:
        attacks = _closest_images(encoder, embed(encoder, objectives), starts)
        found = adapter.compare(oracle, attacks, objectives)
        assert found.dropped == 0
        scores.append(float(found.values.mean()))
    assert np.argmax(scores) == 2
    assert scores[2] > 0.9
    assert scores[2] > sorted(scores)[-2] + 0.2
