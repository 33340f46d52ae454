"""Downstream heads trained side by side against heads trained one at a time."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dosimeter.core.errors import InputError
from dosimeter.core.progress import listening
from dosimeter.models.heads import HeadRecipe, head_predictions
from dosimeter.models.networks import MLP, initial_weights

RECIPE = HeadRecipe(hidden=(12, 7), learning_rate=1e-2, batch_size=16, epochs=8)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(n, d, seed, spread=2.0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.random.default_rng(d).normal(size=(3, d)) * spread
    return (centres[labels] + generator.normal(size=(n, d))).astype(np.float32), labels


def one_head(train, labels, test, classes, recipe, seed, state=None):
    """The obvious way: one perceptron, torch's own layers, Adam, mean cross-entropy; no dropout."""
    assert recipe.dropout == 0
    module = MLP(train.shape[1], recipe.hidden, classes, seed=seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.learning_rate)
    x, y = torch.from_numpy(train), torch.from_numpy(labels)
    with initial_weights(seed, "downstream-head"):
        for _ in range(recipe.epochs):
            order = torch.randperm(len(x))
            for start in range(0, len(x), recipe.batch_size):
                rows = order[start : start + recipe.batch_size]
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
                optimizer.step()
    with torch.no_grad():
        return module(torch.from_numpy(test)).numpy()


@pytest.mark.parametrize("hidden", [(12, 7), (9,), (6, 6, 6)])
@pytest.mark.parametrize("n", [40, 48, 5])
def test_without_dropout_each_is_a_plain_perceptron(hidden, n):
    recipe = RECIPE.model_copy(update={"dropout": 0.0, "hidden": hidden})
    sets = [blobs(n, 5, seed) for seed in range(3)]
    tests = [blobs(200, 5, 10 + seed)[0] for seed in range(3)]
    labels = sets[0][1]
    ours = head_predictions([s[0] for s in sets], labels, tests, classes=3, recipe=recipe, seed=4)
    for row, ((train, _), test) in enumerate(zip(sets, tests)):
        logits = one_head(train, labels, test, 3, recipe, 4)
        second, first = np.sort(logits, axis=1)[:, -2:].T
        clear = first - second > 1e-3  # rounding may turn a tie
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(ours[row][clear], logits.argmax(1)[clear])


def test_together_they_are_what_each_is_alone():
    sets, tests = [blobs(50, 6, s) for s in range(4)], [blobs(150, 6, 20 + s)[0] for s in range(4)]
    labels, trains = sets[0][1], [s[0] for s in sets]
    together = head_predictions(trains, labels, tests, classes=3, recipe=RECIPE, seed=1)
    alone = [
        head_predictions([a], labels, [b], classes=3, recipe=RECIPE, seed=1)[0] for a, b in zip(trains, tests)
    ]
    assert (together == np.stack(alone)).mean() > 0.995
    same = head_predictions([trains[0]] * 3, labels, [tests[0]] * 3, classes=3, recipe=RECIPE, seed=1)
    assert (same == same[0]).all(), "equal vectors must give equal heads"


def test_widths_may_differ():
    a, labels = blobs(60, 4, 0)
    b, c = blobs(60, 9, 1)[0], blobs(60, 4, 2)[0]
    tests = [blobs(90, 4, 3)[0], blobs(90, 9, 4)[0], blobs(90, 4, 5)[0]]
    truth = blobs(90, 4, 3)[1]
    found = head_predictions([a, b, c], labels, tests, classes=3, recipe=RECIPE, seed=0)
    assert found.shape == (3, 90) and found.dtype == np.int64
    assert ((found == truth).mean(1) > 0.8).all()
    only = head_predictions([b], labels, [tests[1]], classes=3, recipe=RECIPE, seed=0)
    np.testing.assert_array_equal(found[1], only[0])


def test_seeds_and_the_global_generator():
    train, labels = blobs(60, 4, 0, spread=0.5)
    test = blobs(200, 4, 1, spread=0.5)[0]
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    found = [
        head_predictions([train], labels, [test], classes=3, recipe=RECIPE, seed=seed) for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_dropout_changes_training_but_not_prediction():
    train, labels = blobs(60, 4, 0, spread=0.5)
    test = blobs(300, 4, 1, spread=0.5)[0]
    with_, without = (
        head_predictions(
            [train, train],
            labels,
            [test, test],
            classes=3,
            recipe=RECIPE.model_copy(update={"dropout": p}),
            seed=0,
        )
        for p in (0.5, 0.0)
    )
    assert not np.array_equal(with_, without)
    np.testing.assert_array_equal(with_[0], with_[1])  # all encoders lose the same units


def test_shuffled_labels_teach_nothing():
    train, labels = blobs(150, 4, 0)
    test, truth = blobs(300, 4, 1)
    shuffled = np.random.default_rng(0).permutation(labels)
    right, wrong = (
        head_predictions([train], given, [test], classes=3, recipe=RECIPE, seed=0)[0]
        for given in (labels, shuffled)
    )
    assert (right == truth).mean() > 0.85
    assert (wrong == truth).mean() < 0.6


def test_classes_that_training_lacks_may_exist():
    train, labels = blobs(30, 4, 0)
    found = head_predictions([train], labels, [train], classes=7, recipe=RECIPE, seed=0)
    assert found.shape == (1, 30) and found.max() <= 6


def test_progress_counts_steps():
    train, labels = blobs(50, 4, 0)
    events = []
    with listening(events.append):
        head_predictions([train], labels, [train], classes=3, recipe=RECIPE, seed=0, task="heads")
    total = RECIPE.epochs * math.ceil(50 / 16)
    assert [(e.done, e.total) for e in events if e.task == "heads"][-1] == (total, total)


X, Y = blobs(12, 4, 0)


@pytest.mark.parametrize(
    ("train", "labels", "test", "message"),
    [
        ([], Y, [], "vectors of every encoder for each of the 12 labels, but got 0 training sets"),
        ([X], Y, [], "got 1 training sets of .12. and 0 test sets"),
        ([X[:5]], Y, [X], "each of the 12 labels, but got 1 training sets of .5."),
        ([X], Y * 0, [X], r"at least two classes in 0\.\.2, but got \[0\]"),
        ([X], Y + 1, [X], r"in 0\.\.2, but got \[1, 2, 3\]"),
        ([X], Y - 1, [X], r"in 0\.\.2, but got \[-1, 0, 1\]"),
        ([X, X], Y, [X, X[:3]], "as many test records under every encoder"),
        ([X, X], Y, [X, X[:, :2]], "vectors as long as those of the training records"),
    ],
)
def test_bad_calls_are_refused(train, labels, test, message):
    with pytest.raises(InputError, match=message):
        head_predictions(train, labels, test, classes=3, recipe=RECIPE, seed=0)


@pytest.mark.parametrize(
    "settings", [{"hidden": ()}, {"hidden": (0,)}, {"dropout": 1}, {"epochs": 0}, {"layers": 2}]
)
def test_recipes_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        HeadRecipe(**settings)


def test_published_settings_are_the_defaults():
    recipe = HeadRecipe()
    assert (recipe.hidden, recipe.dropout, recipe.learning_rate) == ((512, 256), 0.5, 1e-4)
    assert (recipe.batch_size, recipe.epochs) == (256, 500)
