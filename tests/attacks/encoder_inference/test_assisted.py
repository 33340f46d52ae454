"""The follow-ups on small random encoders: knowing the right one must pay, and the controls must not."""

import numpy as np
import pytest
import torch
from torch import nn

from dosimeter.attacks.encoder_inference.assisted import AssistedEvasion, AssistedStealing
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.core.errors import InputError
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget
from dosimeter.data import load
from dosimeter.models.networks import MLP, SmallConvNet
from dosimeter.targets.torch import Preprocessing, TorchTarget

PREPROCESSING = Preprocessing(size=32, mean=(0.5, 0.5, 0.5), std=(0.05, 0.05, 0.05))


def encoder(seed: int) -> Candidate:
    module = SmallConvNet(channels=(16, 32), embedding_dim=32, seed=seed)
    target = TorchTarget(module, name=f"e{seed}", returns="embedding", preprocessing=PREPROCESSING)
    return Candidate(f"e{seed}", target)


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    return np.asarray(load("photographs", n=500, size=32, seed=0).inputs)


@pytest.fixture(scope="module")
def service(photographs) -> TorchTarget:
    """A random head on encoder 1 whose classes are spread over the photographs."""
    hidden = encoder(1).target
    features = torch.from_numpy(hidden.answer(photographs))
    centre, scale = features.mean(0), features.std(0)
    head = nn.Linear(32, 5)
    with torch.no_grad():
        head.weight.copy_(torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) / scale)
        head.bias.copy_(-(head.weight @ centre))
    return TorchTarget(
        nn.Sequential(hidden.module, head),
        name="service",
        returns="label",
        preprocessing=PREPROCESSING,
        grants="query",
    )


def test_stealing_pays_with_the_right_encoder_and_not_with_shuffled_answers(service, photographs):
    attack = AssistedStealing(
        encoders=(encoder(1), encoder(2)), queries=100, held_out=150, steps=300, hidden=64
    )
    oracle = Oracle(service)
    result = attack.run(oracle, context=Context(seed=0, public=photographs))
    assert result.verdict == "fail"
    assert result.metric("agreement.e1").value > result.metric("agreement.e2").value + 0.05
    assert result.metric("gain").low > 0
    assert result.metric("control.permuted-labels").value < result.metric("agreement.e1").value - 0.3
    (scores,) = result.records
    assert scores.total == 150
    assert set(scores.values) == {
        "agreement.e1",
        "agreement.e2",
        "agreement.from scratch",
        "gain",
        "control.permuted-labels",
    }
    assert oracle.queries == 250 == attack.estimate(service, Context(public=photographs)).queries


def test_stealing_from_logits_needs_scores(service, photographs):
    attack = AssistedStealing(encoders=(encoder(1),), queries=50, held_out=20, steps=5, loss="logit-label")
    with pytest.raises(InputError, match="logit-label needs scores, but the service returns label"):
        attack.run(service, context=Context(public=photographs))


def test_a_service_of_one_label_cannot_be_copied(photographs):
    constant = CallableTarget(
        lambda batch: np.zeros(len(batch), dtype=int), modality="image", returns="label"
    )
    attack = AssistedStealing(encoders=(encoder(1),), queries=50, held_out=20, steps=5)
    with pytest.raises(InputError, match="gives all 50 surrogate images the label 0"):
        attack.run(constant, context=Context(public=photographs))


def test_too_few_public_images(service, photographs):
    with pytest.raises(InputError, match=r"needs 2500 public images, but data\.public holds 500"):
        AssistedStealing(encoders=(encoder(1),)).run(service, context=Context(public=photographs))
    with pytest.raises(InputError, match=r"but data\.public holds 0"):
        AssistedStealing(encoders=(encoder(1),)).run(service)


def test_an_encoder_that_is_only_queried_is_refused(service, photographs):
    asked = CallableTarget(lambda batch: batch.mean((1, 2)), modality="image", returns="embedding")
    attack = AssistedStealing(encoders=(Candidate("api", asked),), queries=50, held_out=20)
    with pytest.raises(InputError, match="needs the weights of encoder 'api'"):
        attack.run(service, context=Context(public=photographs))


def test_images_from_the_right_encoder_are_read_as_their_goal_and_noise_is_not(service, photographs):
    attack = AssistedEvasion(encoders=(encoder(1), encoder(2)), goals=4, count=5, steps=80)
    result = attack.run(service, context=Context(seed=0, public=photographs[:60]))
    assert result.verdict == "fail"
    assert result.metric("success.e1").value >= 0.8
    assert result.metric("success.e2").value <= 0.6
    assert result.metric("control.noise").high < result.metric("success.e1").low
    (scores,) = result.records
    assert scores.total == 4
    assert np.mean(scores.values["success.e1"]) == pytest.approx(result.metric("success.e1").value)


def test_evasion_says_pass_when_the_encoder_is_wrong(service, photographs):
    attack = AssistedEvasion(encoders=(encoder(3),), goals=4, count=5, steps=40)
    result = attack.run(service, context=Context(seed=0, public=photographs[:60]))
    assert result.verdict == "pass"


def test_results_survive_json(service, photographs):
    attack = AssistedEvasion(encoders=(encoder(1),), goals=2, count=2, steps=2)
    result = attack.run(service, context=Context(public=photographs[:20]))
    assert type(result).from_json(result.to_json()) == result


def test_copy_answers_in_the_services_own_labels(photographs):
    from dosimeter.attacks.encoder_inference.followups import Stealing, steal_with_encoder

    def parity(batch):
        return np.where(batch.mean((1, 2, 3)) > 120, 7, 3)

    oracle = Oracle(CallableTarget(parity, modality="image", returns="label"))
    stolen = steal_with_encoder(
        oracle, photographs[:100], encoder(1).target, Stealing(steps=20, hidden=16), seed=0
    )
    assert set(stolen.labels(photographs[100:150])) <= {3, 7}
    assert isinstance(stolen.head, MLP)
