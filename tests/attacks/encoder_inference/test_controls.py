"""Services whose secret is known: the planted are named, the null are not, and what cannot be embedded is left out."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.controls import Controls, run_controls
from dosimeter.attacks.encoder_inference.decision import decide, undecidable
from dosimeter.attacks.encoder_inference.reference import Reference
from dosimeter.core.target import CallableTarget, RecordedTarget

N, M, K, PIXELS, SIDE = 6, 8, 4, 192, 8
GENERATOR = np.random.default_rng(5)
OBJECTIVES = GENERATOR.integers(256, size=(M, SIDE, SIDE, 3), dtype=np.uint8)


class Region:
    """An encoder that sees its own few pixels only, so that samples for it can be made by copying them."""

    def __init__(self, number):
        self.pixels = np.arange(number, PIXELS, N)

    def __call__(self, images):
        return images.reshape(len(images), -1)[:, self.pixels].astype(float)

    def samples(self, seed):
        made = np.random.default_rng(seed).integers(256, size=(M * K, PIXELS), dtype=np.uint8)
        made[:, self.pixels] = np.repeat(OBJECTIVES.reshape(M, -1)[:, self.pixels], K, axis=0)
        return made.reshape(M * K, SIDE, SIDE, 3)


REGIONS = [Region(i) for i in range(N)]
SAMPLES = [region.samples(i) for i, region in enumerate(REGIONS)]
CANDIDATES = [
    Candidate(f"c{i}", CallableTarget(region, modality="image", returns="embedding", fingerprint=f"c{i}"))
    for i, region in enumerate(REGIONS)
]


def judge_among(candidates):
    def judge(table, reference):
        return decide(
            table, candidates, rule="grubbs", alpha=0.05, tau=1.7,
            generator=np.random.default_rng(0), reference=reference,
        )  # fmt: skip

    return judge


def run(candidates=CANDIDATES, samples=SAMPLES, seed=0, judge=None):
    embedders = [candidate.embedder() for candidate in candidates]
    return run_controls(
        candidates, embedders, samples, OBJECTIVES, judge or judge_among(candidates), seed=seed
    )


@pytest.fixture(scope="module")
def controls():
    return run()


def test_planted_services_are_named_and_null_ones_are_not(controls):
    assert controls.planted == 60
    assert controls.planted_named >= 55
    assert controls.planted_wrong == 0
    assert controls.null == 100
    assert controls.null_accused <= 10
    assert controls.ok
    assert controls.skipped == ()
    assert controls.queries == N * (M + N * M * K)


def test_the_reference_knows_whom_a_service_is_built_on(controls):
    tables, foreign = controls.reference.tables, controls.reference.foreign
    assert tables.shape == (len(foreign), M, N)
    of_strangers = foreign.all(axis=1)
    assert of_strangers.sum() == (len(foreign) - of_strangers.sum()) / N * 10
    assert ((~foreign[~of_strangers]).sum(axis=1) == 1).all()
    own = np.array([table[:, ~row].mean() for table, row in zip(tables, foreign) if not row.all()])
    others = np.array([table[:, row].mean() for table, row in zip(tables, foreign)])
    assert own.mean() > 0.9
    assert others.mean() < 0.3


def test_planted_services_tell_which_objectives_discriminate():
    # For the first three objectives, the samples of every candidate are plain noise.
    spoiled = [np.array(batch) for batch in SAMPLES]
    for number, batch in enumerate(spoiled):
        batch[: 3 * K] = np.random.default_rng(number).integers(256, size=(3 * K, SIDE, SIDE, 3))
    found = run(samples=spoiled).discrimination
    assert found[:3].max() < 0.1
    assert found[3:].min() > 0.6


def test_the_same_seed_gives_the_same_controls(controls):
    again, other = run(), run(seed=1)
    np.testing.assert_array_equal(controls.reference.tables, again.reference.tables)
    assert (controls.planted_named, controls.null_accused) == (again.planted_named, again.null_accused)
    assert not np.array_equal(controls.reference.tables, other.reference.tables)


def test_relatives_are_not_foreign_and_naming_the_family_counts_as_right():
    related = [Candidate(c.name, c.target, family="twins" if i < 2 else "") for i, c in enumerate(CANDIDATES)]
    twin_samples = [SAMPLES[0], SAMPLES[0], *SAMPLES[2:]]
    related[1] = Candidate("c1", related[0].target, family="twins")
    found = run(related, twin_samples)
    assert found.planted_wrong == 0
    assert found.planted_named >= 50
    assert set(map(tuple, found.reference.foreign[:, :2].tolist())) == {(True, True), (False, False)}


def test_nothing_to_find_fails_the_controls():
    noise = [
        np.random.default_rng(50 + i).integers(256, size=b.shape, dtype=np.uint8)
        for i, b in enumerate(SAMPLES)
    ]
    found = run(samples=noise)
    assert found.planted_named < 10
    assert not found.ok


def test_an_accuser_fails_the_controls():
    def accuse(table, reference):
        return judge_among(CANDIDATES)(np.eye(M, N) + np.eye(1, N), None)

    found = run(judge=accuse)
    assert found.null_accused == 100
    assert found.planted_wrong > 0
    assert not found.ok


def test_decoys_get_no_planted_services():
    with_decoy = [Candidate(c.name, c.target, decoy=i == 0) for i, c in enumerate(CANDIDATES)]
    found = run(with_decoy)
    assert found.planted == 50
    assert found.skipped == ()
    assert found.ok


def pooled(candidate, inputs):
    answers = candidate.embedder()(inputs)
    return Candidate(candidate.name, RecordedTarget(inputs, answers, modality="image", returns="embedding"))


def test_pools_of_their_own_are_skipped():
    own = [pooled(c, np.concatenate([OBJECTIVES, SAMPLES[i]])) for i, c in enumerate(CANDIDATES[:2])]
    found = run([*own, *CANDIDATES[2:]])
    assert found.skipped == ("c0", "c1")
    assert found.planted == 40
    assert found.ok


def test_a_pool_that_all_share_can_be_planted():
    everything = np.concatenate([OBJECTIVES, *SAMPLES])
    found = run([pooled(candidate, everything) for candidate in CANDIDATES])
    assert found.skipped == ()
    assert (found.planted, found.ok) == (60, True)


def test_without_any_planted_service_the_controls_show_nothing():
    own = [pooled(c, np.concatenate([OBJECTIVES, SAMPLES[i]])) for i, c in enumerate(CANDIDATES)]
    found = run(own, judge=lambda table, reference: undecidable("no", N))
    assert found.planted == 0
    assert not found.ok
    np.testing.assert_array_equal(found.discrimination, np.zeros(M))
    assert found.queries == 0


@pytest.mark.parametrize(
    ("named", "wrong", "accused", "ok"),
    [(60, 0, 0, True), (30, 3, 16, True), (29, 0, 0, False), (60, 4, 0, False), (60, 0, 17, False)],
)
def test_what_the_controls_must_show(named, wrong, accused, ok):
    nothing = Reference(np.zeros((1, 1, 1)), np.ones((1, 1), bool), np.zeros((1, 1)))
    found = Controls(60, named, wrong, 100, accused, (), np.zeros(1), nothing, 0)
    assert found.ok is ok
