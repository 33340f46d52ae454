"""NT-Xent against a loop by hand; SimCLR learns without labels, is seeded and says what it needs."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dosimeter.core.errors import InputError
from dosimeter.models.networks import MLP, SmallConvNet
from dosimeter.models.simclr import contrastive_loss, fit_simclr


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_loop(first, second, temperature):
    """Equation 1 of the paper, view by view."""
    views = [row / math.sqrt(sum(a * a for a in row)) for row in [*first, *second]]
    n, total = len(first), 0.0
    for i, view in enumerate(views):
        partner = views[(i + n) % (2 * n)]
        others = sum(math.exp(view @ views[j] / temperature) for j in range(2 * n) if j != i)
        total -= math.log(math.exp(view @ partner / temperature) / others)
    return total / (2 * n)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_loop(n, temperature):
    first, second = np.random.default_rng(n).normal(size=(2, n, 4))
    found = contrastive_loss(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert found.item() == pytest.approx(by_loop(first, second, temperature))


def test_equal_views_that_differ_from_all_others_cost_least():
    basis = torch.eye(4)
    apart = contrastive_loss(basis, basis, 0.1)
    assert apart.item() == pytest.approx(math.log(1 + 6 * math.exp(-10)), rel=1e-3)
    assert contrastive_loss(basis, basis.roll(1, 0), 0.1) > apart + 5


def inputs(n, seed=0):
    """Points that lie around one of four places, in six of eight coordinates; the others are noise that views redraw."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(n) % 4
    places = torch.randn(4, 6, generator=torch.Generator().manual_seed(99))
    x = torch.randn(n, 8, generator=generator)
    x[:, :6] = places[kind] + 0.4 * x[:, :6]
    return x, kind.numpy()


def views(rows):
    seen = rows + 0.2 * torch.randn_like(rows)
    seen[:, 6:] = 3 * torch.randn(len(rows), 2)
    return seen


def trained(seed, steps=60):
    encoder = MLP(8, (32,), 6, seed=0)
    return fit_simclr(encoder, inputs(200)[0], views, width=6, steps=steps, batch_size=50, seed=seed)


def test_it_learns_what_views_have_in_common():
    x, kind = inputs(400, seed=1)
    noise = torch.cat([torch.zeros(400, 6), 3 * torch.randn(400, 2, generator=torch.Generator().manual_seed(3))], 1)  # fmt: skip
    moves, hits = [], []
    for encoder in (MLP(8, (32,), 6, seed=0), trained(0, steps=150)):
        with torch.no_grad():
            plain, moved = encoder(x), encoder(x + noise)
        moves.append(((plain - moved).norm(dim=1).mean() / (plain - plain.roll(1, 0)).norm(dim=1).mean()).item())  # fmt: skip
        probe = LogisticRegression(max_iter=500).fit(plain[:200].numpy(), kind[:200])
        hits.append(probe.score(plain[200:].numpy(), kind[200:]))
    assert moves[1] < 0.5 * moves[0], "it did not learn to overlook what views redraw"
    assert hits[1] > 0.9


def test_equal_seeds_give_equal_weights_and_the_global_generator_stays():
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first, second, other = (
        torch.cat([p.flatten() for p in trained(seed, 5).parameters()]) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_encoder_keeps_its_shape_and_ends_in_evaluation_mode():
    encoder = SmallConvNet((4,), 5, 8, seed=0)
    names = set(encoder.state_dict())
    rows = torch.rand(6, 3, 8, 8)
    found = fit_simclr(encoder, rows, lambda r: r + 0.1 * torch.rand_like(r), width=5, steps=2, seed=0)
    assert found is encoder and not encoder.training and set(encoder.state_dict()) == names
    assert encoder(rows).shape == (6, 5)


def test_two_inputs_are_needed():
    with pytest.raises(InputError, match="needs at least 2 inputs, but got 1"):
        fit_simclr(MLP(8, (), 6, seed=0), inputs(1)[0], views, width=6, steps=1, seed=0)
    fit_simclr(MLP(8, (), 6, seed=0), inputs(2)[0], views, width=6, steps=1, seed=0)


def test_divergence_is_named():
    with pytest.raises(InputError, match=r"a lesson diverged with lr 1e\+30. Choose a smaller lr"):
        fit_simclr(
            MLP(8, (32,), 6, seed=0),
            inputs(20)[0],
            views,
            width=6,
            steps=20,
            lr=1e30,
            seed=0,
            task="a lesson",
        )
