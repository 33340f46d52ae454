"""Copies that are kept: taken back bit for bit, and only where everything that made them is the same."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dosimeter.attacks.encoder_stealing.keeping import kept, weights_as_safetensors
from dosimeter.attacks.encoder_stealing.training import StolenEncoder
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.models.networks import SmallConvNet

VIEWS = ImageViews(8)


def network(seed=0):
    return SmallConvNet((4,), 3, 8, seed=seed)


class Work:
    """Counts how often it trains."""

    def __init__(self):
        self.done = 0

    def keep(self, cache, signature=("a", 1), surrogate=None):
        surrogate = network() if surrogate is None else surrogate

        def train():
            self.done += 1
            with torch.no_grad():
                for tensor in surrogate.parameters():
                    tensor += 1
            return StolenEncoder(surrogate.eval(), VIEWS, (0.5, 0.1 + 0.2), queries=7, input_passes=99)

        return kept(cache, signature, surrogate, VIEWS, train)


def test_a_kept_copy_is_the_one_that_was_trained(tmp_path, images):
    work = Work()
    first, second = work.keep(tmp_path), work.keep(tmp_path)
    assert work.done == 1 and first.digest == second.digest
    assert (first.losses, first.queries, first.input_passes) == (
        second.losses, second.queries, second.input_passes
    )  # fmt: skip
    assert (first.embed(images) == second.embed(images)).all() and not second.module.training
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"signature": ("a", 2)},
        {"signature": ("a",)},
        {"surrogate": network(1)},
        {"surrogate": SmallConvNet((4, 8), 3, 8, seed=0)},
    ],
)
def test_what_was_made_otherwise_is_made_anew(tmp_path, other):
    work = Work()
    work.keep(tmp_path)
    work.keep(tmp_path, **other)
    assert work.done == 2


def test_nothing_is_kept_without_a_folder():
    work = Work()
    work.keep(None)
    work.keep(None)
    assert work.done == 2


def damaged(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no facts":
        save_file(network(5).state_dict(), path)
    elif how == "facts of another kind":
        save_file(network(5).state_dict(), path, metadata={"dosimeter": "[1]"})
    elif how == "facts without losses":
        save_file(network(5).state_dict(), path, metadata={"dosimeter": '{"queries": 1, "input_passes": 1}'})
    elif how == "another network":
        facts = {"dosimeter": '{"losses": [], "queries": 1, "input_passes": 1}'}
        state = network(5).state_dict()
        state["projection.weight"] = torch.ones(9, 9)
        save_file(state, path, metadata=facts)


@pytest.mark.parametrize(
    "how",
    ["cut", "empty", "no facts", "facts of another kind", "facts without losses", "another network"],
)
def test_a_damaged_file_is_made_anew_from_the_same_start(tmp_path, how):
    work = Work()
    first = work.keep(tmp_path)
    (path,) = tmp_path.rglob("*.safetensors")
    damaged(path, how)
    again = work.keep(tmp_path)
    assert work.done == 2 and again.digest == first.digest
    assert work.keep(tmp_path).digest == first.digest and work.done == 2


def test_networks_with_tied_weights_can_be_kept(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(3, 3)
            self.two = self.one

        def forward(self, x):
            return self.two(self.one(x.flatten(1)[:, :3]))

    torch.manual_seed(0)
    start = Tied()
    state = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    work = Work()
    first = work.keep(tmp_path, surrogate=start)
    other = Tied()
    other.load_state_dict(state)
    assert work.keep(tmp_path, surrogate=other).digest == first.digest and work.done == 1


def test_bytes_hold_weights_and_facts():
    from safetensors.torch import load

    copy = StolenEncoder(network(3).eval(), VIEWS, (1.0,), queries=5)
    state = load(weights_as_safetensors(copy))
    assert all(torch.equal(state[name], tensor) for name, tensor in copy.module.state_dict().items())
