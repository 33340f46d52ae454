"""The whole attack against services that return images or talk about them, in this process and behind HTTP."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.beam import CharacterBeam
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.synthesis import Gradient
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Prompt
from dosimeter.core.target import CallableTarget
from dosimeter.models.flow import TextToImage, VelocityField, fit_flow
from dosimeter.models.networks import SmallConvNet
from dosimeter.models.text import CharacterEncoder, embedding_target
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.loopback import LoopbackService

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def text_candidates() -> tuple[Candidate, ...]:
    made = []
    for seed in range(5):
        encoder = CharacterEncoder("cnn", width=32, embedding_dim=16, seed=seed)
        with torch.no_grad():
            encoder.projection.weight.mul_(20)
        made.append(Candidate(f"text-{seed}", embedding_target(encoder, f"text-{seed}")))
    return tuple(made)


@pytest.fixture(scope="module")
def painter(text_candidates):
    """A flow model that paints digits from the embedding of their name under candidate 3."""
    digits = load_digits()
    images = torch.from_numpy(digits.images[:, None] / 16).float()
    names = torch.from_numpy(np.asarray(text_candidates[3].embedder()(DIGITS)))
    field = VelocityField(8, names.shape[1], seed=0)
    fit_flow(field, images, names[torch.from_numpy(digits.target)], steps=250, seed=0)
    return TextToImage(
        field, lambda texts: torch.from_numpy(np.asarray(text_candidates[3].embedder()(texts)))
    )


@pytest.fixture(scope="module")
def reader() -> CallableTarget:
    digits = load_digits()
    model = LogisticRegression(max_iter=300).fit(digits.data / 16, digits.target)

    def judge(images: np.ndarray) -> np.ndarray:
        return model.decision_function(images[..., 0].reshape(len(images), -1) / 255)

    return CallableTarget(judge, modality="image", returns="embedding", name="digit reader")


def test_text_to_image_service_gives_its_text_encoder_the_highest_score(text_candidates, painter, reader):
    service = CallableTarget(painter, modality="text", returns="image", name="digit painter")
    attack = EncoderInference(
        candidates=text_candidates,
        copies=2,
        judge=reader,
        synthesis=CharacterBeam(length=10, width=16, extensions=8),
    )
    found = attack.investigate(Oracle(service), Context(seed=0, public=DIGITS))
    scores = found.decision.scores
    assert int(scores.argmax()) == 3
    assert scores[3] > np.delete(scores, 3).max() + 0.1
    assert found.inference.checks.determinism is None
    assert attack.run(service, context=Context(seed=0, public=DIGITS)).cost.queries > 0


def test_the_same_service_behind_http_gives_the_same_answers_and_counts(text_candidates, painter, reader):
    def png(image: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    def answer(body):
        return {"images": [png(group[0]) for group in painter(body["prompts"])]}

    settings = CharacterBeam(length=4, width=4, extensions=4)
    attack = EncoderInference(candidates=text_candidates, copies=1, judge=reader, synthesis=settings)
    context = Context(seed=0, public=DIGITS[:3])
    local = CallableTarget(lambda texts: painter(texts)[:, :1], modality="text", returns="image")
    with LoopbackService(answer) as loopback:
        spec = HttpSpec(
            url=loopback.url,
            authorized=True,
            request={"prompts": "{{inputs}}"},
            response="images[*]",
            modality="text",
            returns="image",
            batch_size=8,
        )
        remote = HttpTarget(spec)
        here, there = Oracle(local), Oracle(remote)
        first, second = attack.investigate(here, context), attack.investigate(there, context)
        remote.close()
    assert np.array_equal(first.decision.scores, second.decision.scores)
    assert here.queries == there.queries


def test_vision_language_service_reveals_its_image_encoder():
    preprocessing = Preprocessing(size=16)
    modules = [SmallConvNet((8, 16), 12, 16, seed=seed) for seed in range(6)]
    candidates = tuple(
        Candidate(
            f"vision-{i}", TorchTarget(m, name=f"v{i}", returns="embedding", preprocessing=preprocessing)
        )
        for i, m in enumerate(modules)
    )
    hidden = candidates[2].target
    objectives = (
        np.random.default_rng(0).integers(256, size=(6, 4, 4, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    )
    centre = hidden.answer(
        np.concatenate(
            [objectives, np.random.default_rng(1).integers(256, size=objectives.shape, dtype=np.uint8)]
        )
    ).mean(0)

    def chat(prompts: list[Prompt]) -> list[str]:
        replies = []
        for number, prompt in enumerate(prompts):
            a, b = (hidden.answer(image[None])[0] - centre for image in prompt.images)
            cosine = max(0.0, float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
            replies.append("I cannot tell." if number % 37 == 36 else f"About {cosine:.2f}.")
        return replies

    service = CallableTarget(chat, modality="prompt", returns="text", name="chat", batch_size=512)
    attack = EncoderInference(candidates=candidates, copies=2, synthesis=Gradient(canvas=16, steps=80))
    result = attack.run(service, context=Context(seed=0, public=objectives))
    rows = result.tables[0].rows
    assert rows[0][0] == "vision-2"
    assert rows[0][2] > rows[1][2] + 0.2
    assert result.metric("dropped-replies").value > 0
