"""Attack sets: what they hold, when they are made again, and pools against an independent neighbour search."""

import json
import threading

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import NearestNeighbors
from torch import nn

from dosimeter.attacks.encoder_inference import attack_sets
from dosimeter.attacks.encoder_inference.attack_sets import (
    AttackSet,
    default_settings,
    make_attack_set,
    most_queries,
    settings_from_spec,
)
from dosimeter.attacks.encoder_inference.beam import CharacterBeam
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.synthesis import Gradient, ZerothOrder
from dosimeter.core.errors import InputError, TargetError, WriteError
from dosimeter.core.target import CallableTarget, RecordedTarget
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.tiny_encoders import PREPROCESSING, SIZE, CharacterFeatures, image_candidate, text_candidate

IMAGES = np.random.default_rng(0).integers(256, size=(3, SIZE, SIZE, 3), dtype=np.uint8)
ZEROTH = ZerothOrder(canvas=8, steps=2, directions=3)
BEAM = CharacterBeam(length=4, width=3, extensions=4)
PHRASES = ["red fox", "blue whale", "green parrot"]


class CountedImages:
    """An encoder of images behind an API."""

    def __init__(self):
        self.asked = 0
        self.weights = np.random.default_rng(1).normal(size=(192, 5))

    def __call__(self, images):
        self.asked += len(images)
        coarse = (
            images.reshape(len(images), 8, images.shape[1] // 8, 8, -1, 3)
            .mean(axis=(2, 4))
            .reshape(len(images), -1)
        )
        return coarse / 255 @ self.weights


def api(embed, fingerprint="api"):
    return Candidate(
        "api",
        CallableTarget(embed, modality="image", returns="embedding", fingerprint=fingerprint, batch_size=64),
    )


def make(candidate, settings, objectives=IMAGES, copies=2, seed=0, cache=None):
    return make_attack_set(candidate, objectives, copies, settings, seed=seed, cache=cache)


def same(a, b):
    np.testing.assert_array_equal(a.samples, b.samples)
    np.testing.assert_array_equal(a.losses, b.losses)
    np.testing.assert_array_equal(a.start_losses, b.start_losses)
    assert (a.objective_spread, a.queries, a.origin) == (b.objective_spread, b.queries, b.origin)


@pytest.mark.parametrize(
    ("candidate", "settings", "objectives"),
    [
        (image_candidate(0), Gradient(canvas=8, steps=2), IMAGES),
        (image_candidate(0), ZEROTH, IMAGES),
        (text_candidate(0), BEAM, PHRASES),
    ],
)
def test_a_set_holds_the_copies_of_an_objective_side_by_side(candidate, settings, objectives):
    made = make(candidate, settings, objectives)
    assert len(made.samples) == 6
    assert made.losses.shape == made.start_losses.shape == (3, 2)
    assert made.origin == settings.kind
    goals, found = candidate.embedder()(objectives), candidate.embedder()(made.samples)
    expected = np.square(found.reshape(3, 2, -1) - goals[:, None]).mean(axis=2)
    np.testing.assert_allclose(made.losses, expected, rtol=1e-4)
    pairs = [np.square(goals[a] - goals[b]).mean() for a in range(3) for b in range(3) if a != b]
    assert made.objective_spread == pytest.approx(np.mean(pairs), rel=1e-5)


def test_every_forward_pass_is_counted():
    embed = CountedImages()
    made = make(api(embed), ZEROTH)
    assert made.queries == embed.asked == 3 + 3 * 2 * (2 * 3 * 2 + 2) == most_queries(ZEROTH, 3, 2)
    texts = CharacterFeatures(0)
    target = CallableTarget(texts, modality="text", returns="embedding", batch_size=4096)
    made = make(Candidate("t", target), BEAM, PHRASES)
    assert made.queries == texts.asked <= most_queries(BEAM, 3, 2)
    one_search = CharacterBeam(length=1, width=1, extensions=4)
    assert make(Candidate("t", target), one_search, PHRASES, copies=1).queries <= most_queries(
        one_search, 3, 1
    )


def test_the_same_inputs_are_not_paid_for_again(tmp_path):
    embed = CountedImages()
    first = make(api(embed), ZEROTH, cache=tmp_path)
    asked = embed.asked
    second = make(api(embed), ZEROTH, cache=tmp_path)
    assert embed.asked == asked
    same(first, second)
    same(first, make(api(CountedImages()), ZEROTH))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"copies": 3},
        {"objectives": IMAGES[::-1].copy()},
        {"settings": ZEROTH.model_copy(update={"epsilon": 4.0})},
        {"settings": Gradient(canvas=8, steps=2)},
        {"candidate": image_candidate(1)},
    ],
)
def test_anything_that_matters_makes_a_new_set(change, tmp_path):
    given = {"candidate": image_candidate(0), "settings": ZEROTH} | {"cache": tmp_path}
    make(**given)
    make(**{**given, **change})
    assert len(list((tmp_path / "attack-sets").glob("*.npz"))) == 2


def test_texts_survive_the_file(tmp_path):
    texts = ["plain", "", "ümlaut \u2603", "quote\"'\\", "line\nbreak", "🦊" * 40]
    losses = np.arange(6.0).reshape(3, 2)
    kept = AttackSet(texts, losses, losses + 1, 0.25, 7, "beam")
    kept.save(tmp_path / "set.npz")
    opened = AttackSet.open(tmp_path / "set.npz")
    assert opened.samples == texts
    assert all(type(text) is str for text in opened.samples)
    same(kept, opened)


def stored(tmp_path):
    make(image_candidate(0), ZEROTH, cache=tmp_path)
    (path,) = (tmp_path / "attack-sets").glob("*.npz")
    return path


def pickled(path):
    about = np.asarray(json.dumps([0.1, 1, "pool"]))
    np.savez(
        path, samples=np.array([threading.Thread], dtype=object), losses=[1], start_losses=[1], about=about
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>not a set</html>"),
        lambda path: path.write_bytes(b"\x93NUMPY" + b"\0" * 60),
        lambda path: np.savez(path, images=IMAGES),
        lambda path: np.savez(path, samples=IMAGES, losses=[1], start_losses=[1], about="no json"),
        lambda path: np.savez(path, samples=IMAGES, losses=[1], start_losses=[1], about="[1, 2]"),
        lambda path: path.write_bytes(path.read_bytes()[:300] + b"\xff" * 200 + path.read_bytes()[500:]),
        pickled,
    ],
)
def test_a_damaged_or_foreign_file_is_said_and_not_used(spoil, tmp_path):
    path = stored(tmp_path)
    spoil(path)
    with pytest.raises(InputError, match=r"attack set \(.*\)\. Delete it to have it made again\.") as error:
        make(image_candidate(0), ZEROTH, cache=tmp_path)
    assert str(path) in str(error.value)
    path.unlink()
    make(image_candidate(0), ZEROTH, cache=tmp_path)


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    def full_disk(file, **arrays):
        file.write(b"PK half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(attack_sets.np, "savez_compressed", full_disk)
    with pytest.raises(WriteError, match="No space left"):
        make(image_candidate(0), ZEROTH, cache=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_search_that_stops_leaves_no_set(tmp_path):
    calls = []

    def fails_later(images):
        calls.append(len(images))
        if len(calls) > 3:
            raise TargetError("api is down")
        return np.ones((len(images), 3)) * len(calls)

    with pytest.raises(TargetError, match="api is down"):
        make(api(fails_later), ZEROTH, cache=tmp_path)
    assert not (tmp_path / "attack-sets").exists()


def pool(n=40, dim=6, seed=0, name="pool"):
    generator = np.random.default_rng(seed)
    images = generator.integers(256, size=(n, 4, 4, 3), dtype=np.uint8)
    target = RecordedTarget(images, generator.normal(size=(n, dim)), modality="image", returns="embedding")
    return Candidate(name, target), images


def test_pool_samples_are_the_nearest_neighbours_of_sklearn():
    candidate, images = pool()
    objectives = images[[3, 17, 30]]
    made = make(candidate, None, objectives, copies=4)
    answers = candidate.target.answers
    distances, rows = NearestNeighbors(n_neighbors=5).fit(answers).kneighbors(answers[[3, 17, 30]])
    np.testing.assert_array_equal(
        made.samples, images[rows[:, 1:].ravel()]
    )  # the nearest is the objective itself
    np.testing.assert_allclose(made.losses, distances[:, 1:] ** 2 / 6)
    others = [np.delete(np.square(answers - answers[j]).mean(axis=1), j).mean() for j in (3, 17, 30)]
    np.testing.assert_allclose(made.start_losses, np.repeat(np.array(others)[:, None], 4, axis=1))
    assert (made.queries, made.origin) == (0, "pool")


def test_a_pool_of_texts():
    texts = [f"text {i}" for i in range(9)]
    target = RecordedTarget(texts, np.arange(9.0)[:, None] ** 2, modality="text", returns="embedding")
    made = make(Candidate("pool", target), None, ["text 0", "text 8"], copies=2)
    assert made.samples == ["text 1", "text 2", "text 7", "text 6"]


def test_an_objective_that_the_pool_lacks_is_named():
    candidate, images = pool()
    with pytest.raises(InputError, match=r"candidate 'pool': .*no answer for 2 of 3 inputs.*data\.public"):
        make(candidate, None, np.concatenate([images[:1], images[:2] // 2 + 3]))


@pytest.mark.parametrize("twice", [False, True])
def test_a_pool_that_is_too_small_is_said(twice):
    _, images = pool(3)
    if twice:
        images[2] = images[0]
    target = RecordedTarget(images, np.ones((3, 2)), modality="image", returns="embedding")
    left = 1 if twice else 2
    with pytest.raises(
        InputError, match=f"holds 3 inputs, which leaves {left} beside an objective; 3 nearest"
    ) as error:
        make(Candidate("pool", target), None, images[:1], copies=3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("candidate", "settings", "message"),
    [
        (text_candidate(0), ZEROTH, "'zeroth-order' makes image samples, but candidate 'text-0' takes text"),
        (image_candidate(0), BEAM, "'beam' makes text samples, but candidate 'encoder-0' takes image"),
        (api(len), Gradient(), "'gradient' needs the weights of candidate 'api', which is only queried"),
    ],
)
def test_settings_that_cannot_work_are_refused(candidate, settings, message):
    with pytest.raises(InputError, match=message):
        make(candidate, settings)


def test_a_module_that_cannot_take_the_canvas_is_a_sentence():
    fixed = TorchTarget(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), name="fixed", returns="embedding")
    for settings in (Gradient(canvas=8, steps=1), ZEROTH):
        with pytest.raises(
            TargetError, match=r"candidate 'fixed' failed on images of shape \(.*, 3, 8, 8\)"
        ) as error:
            make(Candidate("fixed", fixed), settings)
        assert "\n" not in str(error.value)


def test_weights_in_double_precision_work():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double()
    target = TorchTarget(module, name="double", returns="embedding", preprocessing=Preprocessing(size=8))
    made = make(Candidate("double", target), Gradient(canvas=8, steps=3))
    assert made.losses.mean() < made.start_losses.mean()
    assert make(Candidate("double", target), ZEROTH).losses.dtype == np.float32


def test_default_settings_follow_modality_and_access():
    def on(size, grants):
        module = nn.Flatten()
        preprocessing = Preprocessing(size=size)
        target = TorchTarget(
            module, name="x", returns="embedding", preprocessing=preprocessing, grants=grants
        )
        return default_settings(Candidate("x", target))

    assert default_settings(text_candidate(0)) == CharacterBeam()
    assert default_settings(pool()[0]) is None
    assert on(32, "weights") == Gradient(canvas=32)
    assert on(224, "weights") == Gradient(canvas=64)
    assert on(224, "query") == ZerothOrder(canvas=64)
    assert on(32, "query") == ZerothOrder(canvas=16)
    assert default_settings(api(len)) == ZerothOrder(canvas=64)


def test_settings_from_a_spec():
    assert settings_from_spec("auto") == "auto"
    assert settings_from_spec("gradient") == Gradient()
    assert settings_from_spec({"kind": "zeroth-order", "canvas": 16}) == ZerothOrder(canvas=16)
    assert settings_from_spec({"kind": "beam", "length": 3}).length == 3
    assert settings_from_spec(ZEROTH) is ZEROTH


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("gradients", "should be auto, gradient, zeroth-order or beam, but is 'gradients'"),
        (7, "but is 7"),
        ({"canvas": 16}, "should be auto"),
        ({"kind": "gradient", "canvas": 1}, "canvas: should be greater than or equal to 4"),
        (
            {"kind": "zeroth-order", "step": 3, "epsilon": -1},
            "epsilon: .*; step: unknown key; did you mean 'steps'",
        ),
    ],
)
def test_wrong_settings_are_one_line(value, message):
    with pytest.raises(ValueError, match=message) as error:
        settings_from_spec(value)
    assert not isinstance(error.value, ValidationError)
    assert "\n" not in str(error.value)


def test_the_same_preprocessing_and_weights_are_the_same_candidate(tmp_path):
    first = TorchTarget(nn.Flatten(), name="a", returns="embedding", preprocessing=PREPROCESSING)
    second = TorchTarget(nn.Flatten(), name="b", returns="embedding", preprocessing=PREPROCESSING)
    make(Candidate("a", first), ZEROTH, cache=tmp_path)
    torch.manual_seed(0)
    make(Candidate("b", second), ZEROTH, cache=tmp_path)
    assert len(list((tmp_path / "attack-sets").glob("*.npz"))) == 1
