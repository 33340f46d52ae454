import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from dosimeter import data
from dosimeter.core.errors import InputError
from dosimeter.core.progress import listening
from dosimeter.models.networks import MLP, AutoEncoder, Classifier, SmallConvNet
from dosimeter.models.training import (
    accuracy,
    embed,
    fit,
    fit_autoencoder,
    fit_classifier,
    fit_head,
    images_to_tensor,
    single_thread,
)


@pytest.fixture(autouse=True)
def one_thread():
    with single_thread():
        yield


@pytest.fixture(scope="module")
def digits():
    """(train, test) parts of the digits."""
    return data.load("digits", size=16).split([0.7, 0.3], seed=0)


def tensors(part):
    return images_to_tensor(part.inputs), torch.from_numpy(part.labels)


def classifier():
    return Classifier(SmallConvNet(in_size=16, seed=1), 64, 10, seed=2)


def test_a_conv_net_learns_digits_as_well_as_logistic_regression(digits):
    (x, y), (x_test, y_test) = map(tensors, digits)
    module = classifier()
    losses = fit_classifier(module, x, y, epochs=10, batch_size=32, lr=3e-3, seed=0)
    reference = LogisticRegression(max_iter=500).fit(x.flatten(1).numpy(), y.numpy())
    assert len(losses) == 10 and losses[-1] < 0.1 * losses[0]
    assert (
        accuracy(module, x_test, y_test) > reference.score(x_test.flatten(1).numpy(), y_test.numpy()) - 0.03
    )
    assert not module.training


def test_equal_seeds_give_equal_weights(digits):
    x, y = tensors(digits[0].take(range(200)))
    modules = [classifier() for _ in range(3)]
    state = torch.random.get_rng_state()
    losses = [fit_classifier(m, x, y, epochs=2, seed=seed) for m, seed in zip(modules, (0, 0, 1))]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, other = (torch.cat([p.flatten() for p in m.parameters()]) for m in modules)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert losses[0] == losses[1] != losses[2]


def test_fit_is_full_batch_gradient_descent_when_the_batch_is_everything():
    """One Adam step from zero state moves every parameter by lr against the sign of its gradient."""
    generator = torch.Generator().manual_seed(0)
    x, goal = torch.randn(20, 3, generator=generator), torch.randn(20, 2, generator=generator)
    module, reference = MLP(3, (), 2, seed=0), MLP(3, (), 2, seed=0)
    value = F.mse_loss(reference(x), goal)
    value.backward()
    losses = fit(module, x, goal, loss=F.mse_loss, epochs=1, batch_size=20, lr=0.01, seed=0)
    assert losses == [pytest.approx(value.item(), rel=1e-6)]
    for moved, start in zip(module.parameters(), reference.parameters()):
        torch.testing.assert_close(moved.data, start.data - 0.01 * start.grad.sign(), atol=1e-6, rtol=0)


def test_the_learning_rate_falls_to_zero_unless_told_otherwise():
    """With a linear loss Adam moves by exactly the learning rate, so the way is the sum of the learning rates."""
    x, goal = torch.ones(4, 1), torch.zeros(4, 1)
    ways = []
    for decay in (True, False):
        module = torch.nn.Linear(1, 1)
        start = module.bias.item()
        fit(module, x, goal, loss=lambda a, _: a.mean(), epochs=10, batch_size=4, lr=0.1, decay=decay, seed=0)
        ways.append(start - module.bias.item())
    cosine = sum(0.05 * (1 + np.cos(np.pi * step / 10)) for step in range(10))
    assert ways == pytest.approx([cosine, 1.0], rel=1e-4)


def test_an_autoencoder_learns_more_than_the_mean_image(digits):
    x, _ = tensors(digits[0].take(range(400)))
    module = AutoEncoder(channels=(8, 16), embedding_dim=32, in_size=16, seed=0)
    losses = fit_autoencoder(module, x, epochs=8, batch_size=32, lr=3e-3, seed=0)
    assert losses[-1] < 0.5 * float((x - x.mean(0)).square().mean())


def test_a_head_on_random_features_beats_chance_and_depends_on_the_seed(digits):
    (x, y), (x_test, y_test) = map(tensors, digits)
    encoder = SmallConvNet(channels=(16, 32), in_size=16, seed=3)
    embeddings, embeddings_test = embed(encoder, x), embed(encoder, x_test)
    mean, spread = embeddings.mean(0), embeddings.std(0)
    embeddings, embeddings_test = (embeddings - mean) / spread, (embeddings_test - mean) / spread
    settings = {"classes": 10, "hidden": 64, "steps": 200, "batch_size": 128, "lr": 3e-3}
    heads = [fit_head(embeddings, y, seed=seed, **settings) for seed in (0, 0, 1)]
    assert accuracy(heads[0], embeddings_test, y_test) > 0.5
    outputs = [head(embeddings_test) for head in heads]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    assert outputs[0].shape == (len(y_test), 10) and not heads[0].training


def test_a_head_cannot_learn_permuted_labels(digits):
    (x, y), (x_test, y_test) = map(tensors, digits)
    permuted = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    head = fit_head(x.flatten(1), permuted, classes=10, hidden=64, steps=200, batch_size=128, seed=0)
    assert accuracy(head, x_test.flatten(1), y_test) < 0.2


def test_embed_is_the_module_in_evaluation_mode_and_keeps_its_mode():
    module = SmallConvNet(channels=(4,), seed=0).train()
    x = torch.rand(7, 3, 8, 8)
    before = module.stages[0][1].running_mean.clone()
    embedding = embed(module, x, batch_size=3)
    assert module.training and not embedding.requires_grad
    assert torch.equal(module.stages[0][1].running_mean, before)
    torch.testing.assert_close(embedding, module.eval()(x).detach())


def test_images_to_tensor_puts_channels_first():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    tensor = images_to_tensor(images)
    assert tensor.shape == (2, 3, 4, 5) and tensor.dtype == torch.float32
    assert float(tensor[1, 2, 3, 4]) == pytest.approx(images[1, 3, 4, 2] / 255)


def test_single_thread_restores_the_number_even_after_an_error():
    with single_thread():
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError), single_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError
        assert torch.get_num_threads() == 2


def test_progress_is_reported():
    events = []
    x, y = torch.rand(10, 3), torch.arange(10) % 2
    with listening(events.append):
        fit_classifier(MLP(3, (), 2, seed=0), x, y, epochs=3, seed=0, task="toy")
        fit_head(x, y, classes=2, hidden=4, steps=120, seed=0)
    assert [(e.done, e.total) for e in events if e.task == "toy"][-1] == (3, 3)
    assert [(e.done, e.total) for e in events if e.task != "toy"][-1] == (120, 120)


def test_a_last_batch_of_one_does_not_break_batch_norm():
    x, y = torch.rand(9, 3, 2, 2), torch.arange(9) % 2
    module = Classifier(SmallConvNet(channels=(4,), in_size=2, seed=0), 64, 2, seed=0)
    assert np.isfinite(fit_classifier(module, x, y, epochs=2, batch_size=4, seed=0)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: fit_classifier(m, x[:0], y[:0], epochs=1, seed=0), "got 0 inputs"),
        (lambda m, x, y: fit_classifier(m, x, y[:3], epochs=1, seed=0), "got 8 inputs and 3 goals"),
        (lambda m, x, y: fit_classifier(m, x, y * 0, epochs=1, seed=0), r"at least two classes.*only \[0\]"),
        (lambda m, x, y: fit_classifier(m, x, y - 1, epochs=1, seed=0), r"got -1\.\.0"),
        (lambda m, x, y: fit_classifier(m, x, y, epochs=0, seed=0), "got 0 epochs"),
        (lambda m, x, y: fit_classifier(m, x, y, epochs=1, batch_size=0, seed=0), "batch_size 0"),
        (lambda m, x, y: fit_classifier(m, x / 0, y, epochs=1, seed=0), "diverged in epoch 1.*smaller lr"),
        (lambda m, x, y: fit_head(x, y + 1, classes=2, seed=0), r"labels in 0\.\.1, but got 1\.\.2"),
        (lambda m, x, y: fit_head(x, y * 0, classes=2, seed=0), "at least two classes"),
        (lambda m, x, y: fit_head(x[:0], y[:0], classes=2, seed=0), "got 0 inputs"),
        (lambda m, x, y: fit_head(x, y, classes=2, steps=0, seed=0), "steps and batch_size of at least 1"),
    ],
)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(MLP(3, (), 2, seed=0), torch.rand(8, 3), torch.arange(8) % 2)
