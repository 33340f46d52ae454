"""The measuring side of the reproduction: that it would not pass with a stub. The claims themselves are `make reproduce`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dosimeter.attacks.encoder_stealing.purchase import Purchase
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.reproduction import find
from dosimeter.data import load
from dosimeter.data.dataset import Dataset
from dosimeter.defenses.features import FeatureNoise, TopKFeatures
from dosimeter.models.heads import HeadRecipe
from dosimeter.reproductions import encoder_stealing
from dosimeter.reproductions.encoder_stealing import arms, defended, full, quick, relations, world
from dosimeter.reproductions.encoder_stealing.arms import Arm, Made, make
from dosimeter.reproductions.encoder_stealing.defended import STRONGEST, Toll
from dosimeter.reproductions.encoder_stealing.relations import HELD, RANDOM, TARGET, UNTRAINED, Measured

HEADS = HeadRecipe(hidden=(24,), learning_rate=1e-2, batch_size=50, epochs=25)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Copies in processes

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
SOLD = Purchase(IMAGES, GENERATOR.normal(size=(30, 5)).astype(np.float32))
RECIPE = Recipe(steps=3, optimizer="adam", learning_rate=1e-3, batch_size=10)


def constant_steps(purchase, network, views, seed):
    """Another way to train, for an arm that has one."""
    with torch.no_grad():
        for tensor in network.parameters():
            tensor += seed
    return StolenEncoder(network.eval(), views, (1.0,), queries=3)


ARMS = [
    Arm("stolen", SOLD, RECIPE, 1),
    Arm("plain", SOLD, RECIPE.model_copy(update={"augmentation_weight": 0.0}), 1),
    Arm("permuted", SOLD.permuted(np.random.default_rng(1)), RECIPE, 1),
    Arm("other seed", SOLD, RECIPE, 2),
    Arm("own way", SOLD, RECIPE, 1, train=constant_steps, note="own"),
    Arm(UNTRAINED, SOLD, None, 1),
]


def made(cache=None, chosen=ARMS):
    return make(
        chosen, {"held": IMAGES[:7]}, ImageViews(8), architecture="small-conv", length=0, cache=cache, task="arms"
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "usable_cpus", lambda: 1)
        yield made()


def test_arms_come_back_in_order_and_all_differ(alone):
    assert list(alone) == [arm.name for arm in ARMS]
    assert len({one.digest for one in alone.values()}) == len(ARMS)
    assert {name: one.queries for name, one in alone.items()} == {
        "stolen": 30, "plain": 30, "permuted": 30, "other seed": 30, "own way": 3, UNTRAINED: 0,
    }  # fmt: skip
    assert all(one.vectors["held"].shape == (7, 5) for one in alone.values())


def test_two_processes_make_the_same_bits(alone, monkeypatch):
    monkeypatch.setattr(arms, "usable_cpus", lambda: 2)
    chosen = [arm for arm in ARMS if arm.train is None]  # a function of this file cannot be sent
    for name, one in made(chosen=chosen).items():
        assert one.digest == alone[name].digest
        np.testing.assert_array_equal(one.vectors["held"], alone[name].vectors["held"])


def test_kept_copies_are_taken_back_and_nothing_is_trained(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "usable_cpus", lambda: 1)
    first = made(tmp_path)
    kept = list(tmp_path.rglob("*.safetensors"))
    assert len(kept) == len(ARMS) - 1  # an untrained network is not kept

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(arms, "steal", refuse)
    again = made(tmp_path, [arm for arm in ARMS if arm.train is None])
    for name, one in again.items():
        assert one.digest == first[name].digest == alone[name].digest
        np.testing.assert_array_equal(one.vectors["held"], alone[name].vectors["held"])
        assert (one.losses, one.queries) == (first[name].losses, first[name].queries)
    with pytest.raises(AssertionError, match="trained again"):
        made(tmp_path, [replace(ARMS[0], seed=7)])
    with pytest.raises(AssertionError, match="trained again"):
        made(tmp_path, [replace(ARMS[0], note="another goal")])


# Claims on encoders made by hand

CENTRES = np.random.default_rng(7).normal(size=(4, 12)) * 2.5


def labelled(n, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    rows = CENTRES[labels] + generator.normal(size=(n, 12))
    return Dataset("blobs", "table", rows, labels, tuple("abcd"))


TASK = Task("blobs", labelled(120, 1), labelled(800, 2))
BATCHES = {HELD: labelled(100, 3).inputs, "blobs train": TASK.train.inputs, "blobs test": TASK.test.inputs}


def vectors(function):
    return {name: function(np.asarray(batch)).astype(np.float32) for name, batch in BATCHES.items()}


def noise(seed):
    generator = np.random.default_rng(seed)
    return lambda batch: generator.normal(size=batch.shape)


def near(amount, seed=5):
    generator = np.random.default_rng(seed)
    return lambda batch: batch + amount * generator.normal(size=batch.shape)


KINDS = {
    "good": near(0.3),
    "fair": near(1.0),
    "bad": near(6.0),
    "untrained": noise(11),
    "random": noise(13),
    "permuted": noise(12),
    "constant": lambda batch: np.ones_like(batch),
}


FLOORS = {UNTRAINED: "untrained", RANDOM: "random"}


def judged(**copies):
    """Copies of the encoder that gives every input as it is; ``stolen="good"`` and so on."""
    chosen = {**FLOORS, **{name.replace("_", " "): kind for name, kind in copies.items()}}
    found = {name: Made(name, vectors(KINDS[kind]), name, 50) for name, kind in chosen.items()}
    return relations.judge(found, vectors(lambda batch: batch), (TASK,), HEADS, seed=0)


def holding(claims):
    return {claim.name: claim.holds for claim in claims}


def test_a_good_copy_meets_every_relation_inside_the_domain():
    claims = relations.in_domain_claims(judged(stolen="good"), "stolen")
    assert holding(claims) == dict.fromkeys(["ratio-blobs", "recovered-blobs", "cosine", "centred-cosine"], True)  # fmt: skip
    ratio = next(claim for claim in claims if claim.name == "ratio-blobs")
    assert (
        ratio.low <= ratio.value <= ratio.high and "TA 1.0" in ratio.statement
    ) or "TA 0.9" in ratio.statement


@pytest.mark.parametrize("stub", ["untrained", "permuted", "constant"])
def test_a_stub_meets_none(stub):
    claims = relations.in_domain_claims(judged(stolen=stub), "stolen")
    assert not any(holding(claims).values()), holding(claims)


def test_a_target_that_is_worth_nothing_meets_none():
    found = {name: Made(name, vectors(KINDS["untrained"]), name, 50) for name in ("stolen", *FLOORS)}
    nothing = relations.judge(found, vectors(noise(99)), (TASK,), HEADS, seed=0)
    claims = relations.in_domain_claims(nothing, "stolen")
    recovered = next(claim for claim in claims if claim.name == "recovered-blobs")
    assert not recovered.holds and "nothing to recover" in recovered.statement
    assert nothing.recovered("stolen") == 0


def test_controls_hold_for_what_learned_nothing_and_not_for_a_copy():
    right = judged(permuted="permuted", constant="constant")
    assert holding(relations.control_claims(right, "permuted", "constant")) == {
        "permuted": True, "constant": True, "permuted-cosine": True,
    }  # fmt: skip
    leaking = judged(permuted="good", constant="good")
    claims = relations.control_claims(leaking, "permuted", "constant")
    assert not any(holding(claims).values()) and all(claim.control for claim in claims)
    assert len(relations.control_claims(right, "permuted", None)) == 2


def three_seeds(few, few_plain, many, many_plain):
    """Copies of each kind at few and at many queries, with and without augmentation, three times."""
    kinds = {
        "500 queries": few, "500 queries, no augmentation": few_plain, "stolen": many, "no augmentation": many_plain,
    }  # fmt: skip
    found = {name: kind for arm, kind in kinds.items() for name in relations.repeats(arm, 3)}
    copies = {name: Made(name, vectors(KINDS[kind]), name, 50) for name, kind in {**found, **FLOORS}.items()}
    return relations.judge(copies, vectors(lambda batch: batch), (TASK,), HEADS, seed=0)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("good", "bad", "good", "fair"), [True, True, True, True]),
        (("bad", "good", "good", "fair"), [False, False, False, False]),
        (("good", "good", "good", "bad"), [True, True, False, False]),
    ],
)
def test_what_augmentation_brings(kinds, expected):
    claims = relations.augmentation_claims(three_seeds(*kinds), 500, 3, 2500, 2)
    assert list(holding(claims).values()) == expected
    for claim in claims[:2]:
        assert claim.low <= claim.value <= claim.high


def test_an_open_relation_shows_but_fails_no_build():
    claims = relations.augmentation_claims(three_seeds("bad", "good", "good", "fair"), 500, 3, 2500, 3, open_recovered="why")  # fmt: skip
    assert {claim.name for claim in claims if claim.fails_build} == {
        "augmentation-cosine",
        "augmentation-gap-cosine",
    }
    assert {claim.open for claim in claims if not claim.fails_build} == {"why"}


def test_more_queries_and_scratch():
    worse, better = three_seeds("good", "good", "bad", "bad"), three_seeds("fair", "bad", "good", "bad")
    assert not relations.budget_claim(worse, 500, 2500, 3).holds
    assert relations.budget_claim(better, 500, 2500, 3, 1).holds
    found = judged(stolen="bad", best="good")
    assert holding(relations.scratch_claims(found, "stolen", "best")) == {"over-scratch": False}
    assert holding(relations.scratch_claims(found, "best", "stolen")) == {"over-scratch": True}
    # A stub that gives the same for both is no theft.
    assert holding(relations.scratch_claims(found, "best", "best")) == {"over-scratch": False}


def test_tables_show_what_was_measured():
    found = judged(stolen="good")
    alike, worth = relations.copies_tables(found, "Copies")
    rows = {row[0]: row[1:] for row in alike.rows}
    assert rows["stolen"][2] == pytest.approx(found.centred("stolen").value, abs=1e-3)
    assert {row[0] for row in worth.rows} == {TARGET, "stolen", UNTRAINED, RANDOM}
    budget = relations.budget_table(found, {0: UNTRAINED, 50: "stolen"})
    assert budget.rows[0][:3:2] == [0, 0.0] and budget.rows[1][1] == pytest.approx(found.accuracy("stolen"), abs=1e-3)  # fmt: skip
    assert relations.budget_figure(found, {50: "stolen"}, "budget", "t").spec


# Defences


def services():
    """The encoder that gives every input as it is, behind defences, with what was bought from each."""
    from dosimeter.core.target import CallableTarget

    target = CallableTarget(lambda rows: rows, modality="table", returns="embedding", fingerprint="as it is")
    chosen = {"top-k 25 %": TopKFeatures(share=0.25, by="magnitude"), STRONGEST: FeatureNoise(rho=32)}
    found = []
    from dosimeter.core.oracle import Oracle

    for name, defense in chosen.items():
        oracle = Oracle(defense.wrap(target))
        bought = np.asarray(oracle(TASK.train.inputs))
        found.append(defended.Defended(name, name.split(" ")[0], oracle, Purchase(TASK.train.inputs, bought)))
    return found


def test_tolls_of_honest_users_and_thieves():
    behind = services()
    copies = {"behind top-k 25 %": "bad", "behind top-k 25 %, adaptive": "good", f"behind {STRONGEST}": "permuted"}  # fmt: skip
    found = {
        name: Made(name, vectors(KINDS[kind]), name, 50)
        for name, kind in {"stolen": "good", **FLOORS, **copies}.items()
    }
    seen = relations.judge(found, vectors(lambda batch: batch), (TASK,), HEADS, seed=0)
    costs = defended.tolls(behind, seen, (TASK,), HEADS, seed=0)
    ruined, light = costs[STRONGEST], costs["top-k 25 %"]
    # The better of the thief's two copies counts.
    assert light.recovered == pytest.approx(seen.recovered("behind top-k 25 %, adaptive")) and light.thief < 0.05  # fmt: skip
    assert ruined.honest > 0.4 and ruined.thief > 0.4 and ruined.recovered < 0.1
    assert 0 <= light.honest < ruined.honest
    table = defended.defence_table(costs, seen)
    assert [row[0] for row in table.rows] == list(costs) and table.rows[1][-1] is None
    figure = defended.tradeoff(costs, behind)
    assert figure.name == "defences"


def tolls_of(**changed):
    found = {name: Toll(0.05, 0.02, 0.9) for name in defended.NAMED}
    found[STRONGEST] = Toll(0.6, 0.6, 0.0)
    return {**found, **{name.replace("_", " "): toll for name, toll in changed.items()}}


def test_claims_on_defences():
    seen = judged(stolen="good")
    names = ["defences-insufficient", "ruin-thief", "ruin-honest"]
    assert holding(defended.defence_claims(tolls_of(), seen)) == dict.fromkeys(names, True)
    dead = {name: Toll(0.05, 0.6, 0.1) for name in defended.NAMED}
    claims = holding(defended.defence_claims({**tolls_of(), **dead}, seen))
    assert not claims["defences-insufficient"]
    for toll, broken in ((Toll(0.0, 0.6, 0.0), "ruin-honest"), (Toll(0.6, 0.0, 0.9), "ruin-thief")):
        claims = holding(defended.defence_claims({**tolls_of(), STRONGEST: toll}, seen))
        assert [name for name, holds in claims.items() if not holds] == [broken]


@pytest.mark.parametrize(("adaptive", "holds"), [("good", True), ("permuted", False)])
def test_an_adaptive_copy_must_be_the_closer_one(adaptive, holds):
    copies = {"stolen": "good", **FLOORS, "behind rounding 1": "fair", "behind rounding 1, adaptive": adaptive}  # fmt: skip
    found = {name: Made(name, vectors(KINDS[kind]), name, 50) for name, kind in copies.items()}
    seen = relations.judge(found, vectors(lambda batch: batch), (TASK,), HEADS, seed=0)
    assert holding(defended.defence_claims(tolls_of(), seen))["adaptive-gains"] is holds


# The world, and the run


def test_every_task_has_the_same_digits_and_labels_that_fit(monkeypatch):
    monkeypatch.setattr(world, "_service", lambda provider, seed: None)
    digits, *others = world.world(0).tasks
    for task in others:
        for part, plain in ((task.train, digits.train), (task.test, digits.test)):
            np.testing.assert_array_equal(part.inputs, plain.inputs)
            # A label says something of the digit and nothing else.
            assert len({*zip(plain.labels.tolist(), part.labels.tolist())}) == 10
            assert 1 < len(np.unique(part.labels)) == len(part.classes) < 10


def test_warped_digits_are_seeded_and_no_copies():
    images = np.asarray(load("digits", size=16).take(range(5)).inputs)
    first, second, other = (world.warped(images, 12, seed) for seed in (0, 0, 1))
    assert first.shape == (12, 16, 16, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not {record.tobytes() for record in first} & {record.tobytes() for record in images}


def test_the_parts_of_the_world_are_disjoint(monkeypatch):
    monkeypatch.setattr(world, "_service", lambda provider, seed: None)
    place = world.world(0)
    parts = [place.provider.inputs, place.inside[:400], place.tasks[0].train.inputs, place.tasks[0].test.inputs]  # fmt: skip
    rows = [{record.tobytes() for record in part} for part in parts]
    assert all(not one & other for number, one in enumerate(rows) for other in rows[number + 1 :])
    everything = {record.tobytes() for record in place.inside}
    assert len(place.inside) == world.QUERIES
    assert not everything & rows[3], "images to steal with that a task tests on"
    assert not everything & {record.tobytes() for record in place.held}


def test_the_reproduction_is_found_under_its_slug():
    assert find("encoder-stealing").SLUG == "encoder-stealing"


@pytest.mark.parametrize(("size", "module"), [("quick", quick), ("full", full)])
def test_copies_are_kept_under_out_or_nowhere(size, module, monkeypatch, tmp_path):
    folders = []

    def measure(seed, cache):
        assert cache.is_dir() and seed == 3 and torch.get_num_threads() == 1
        folders.append(cache)
        return Measured()

    monkeypatch.setattr(module, "measure", measure)
    kept = encoder_stealing.run(size, 3, tmp_path)
    encoder_stealing.run(size, 3, None)
    assert folders[0] == tmp_path and folders[1] != tmp_path and not Path(folders[1]).exists()
    assert (kept.slug, kept.size, kept.seed) == ("encoder-stealing", size, 3)
    assert kept.exit_code == 1, "without a control nothing is shown"


def test_each_encoder_of_the_full_size_has_claims_of_its_own(monkeypatch):
    claim = relations.share_claim("ratio", "SA / TA", None, ">=", 0.9)
    for module in (full.full_fashion, full.full_cifar, full.full_text):
        monkeypatch.setattr(module, "measure", lambda seed, cache: Measured(claims=[claim]))
    found = full.measure(0, Path())
    assert [c.name for c in found.claims] == ["fashion-ratio", "cifar-ratio", "text-ratio"]
    assert not any(c.holds for c in found.claims)
