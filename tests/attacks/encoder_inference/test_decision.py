"""The rules against independent statistics, the traps they must not fall into, and their error under the null."""

import math

import numpy as np
import pytest
from scipy import stats

from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.decision import decide, undecidable
from dosimeter.attacks.encoder_inference.reference import Reference
from dosimeter.core.target import CallableTarget

OBJECTIVES = 10
COPIES = 5


def candidates(n=6, families=(), decoys=()):
    target = CallableTarget(len, modality="text", returns="embedding")
    return [
        Candidate(f"c{i}", target, family=families[i] if i < len(families) else "", decoy=i in decoys)
        for i in range(n)
    ]


def judge(table, among=None, rule="grubbs", alpha=0.05, tau=1.7, **rest):
    table = np.asarray(table, dtype=float)
    among = among or candidates(table.shape[1])
    return decide(table, among, rule=rule, alpha=alpha, tau=tau, generator=np.random.default_rng(0), **rest)


def table_of(means, seed=0, objectives=OBJECTIVES):
    generator = np.random.default_rng(seed)
    return generator.binomial(COPIES, means, size=(objectives, len(means))) / COPIES


def reference_of(means, services=160, seed=1, foreign=None):
    generator = np.random.default_rng(seed)
    tables = generator.binomial(COPIES, means, size=(services, OBJECTIVES, len(means))) / COPIES
    return Reference.of(tables, np.ones((services, len(means)), bool) if foreign is None else foreign)


LEADER = table_of([0.1, 0.1, 0.9, 0.15, 0.1, 0.2])


def grubbs_p_by_definition(scores):
    """Grubbs 1969: the largest deviation as a t statistic with n - 2 degrees of freedom, times n."""
    n = len(scores)
    g = stats.zscore(scores, ddof=1).max()
    t = math.sqrt(n * (n - 2) * g**2 / ((n - 1) ** 2 - n * g**2))
    return min(1.0, n * stats.t(n - 2).sf(t))


@pytest.mark.parametrize("rule", ["grubbs", "z"])
def test_a_clear_leader_is_named(rule):
    found = judge(LEADER, rule=rule)
    assert (found.kind, found.named) == ("identified", "c2")
    np.testing.assert_allclose(found.scores, LEADER.mean(axis=0))
    np.testing.assert_allclose(found.z, stats.zscore(LEADER.mean(axis=0), ddof=1))
    assert found.grubbs_p == pytest.approx(grubbs_p_by_definition(LEADER.mean(axis=0)))
    assert found.threshold == pytest.approx(1.822 if rule == "grubbs" else 1.7, abs=5e-4)
    ordered = np.sort(found.scores)
    assert found.margin == pytest.approx(ordered[-1] - ordered[-2])
    assert (found.low <= found.scores).all()
    assert (found.scores <= found.high).all()
    assert 0 < found.margin_low < found.margin


def test_the_interval_of_a_score_is_close_to_that_of_scipy():
    found = judge(LEADER)
    scipys = stats.bootstrap((LEADER[:, 2],), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert found.low[2] == pytest.approx(scipys.confidence_interval.low, abs=0.03)
    assert found.high[2] == pytest.approx(scipys.confidence_interval.high, abs=0.03)


def test_nobody_is_named_where_all_scatter_alike():
    found = judge(table_of([0.2] * 6))
    assert (found.kind, found.named) == ("none", None)
    assert "no candidate stands out: z = " in found.reason
    assert found.z is not None


def test_a_hair_above_equal_others_is_no_evidence():
    table = np.zeros((OBJECTIVES, 6))
    table[4, 2] = 1 / COPIES
    found = judge(table)
    assert found.z.max() == pytest.approx(5 / math.sqrt(6))  # the largest there can be
    assert found.grubbs_p == 0
    assert found.kind == "none"
    # The paper's rule looks at z alone.
    assert judge(table, rule="z").named == "c2"


@pytest.mark.parametrize("rule", ["grubbs", "z"])
def test_two_that_tie_at_the_top_are_not_told_apart(rule):
    table = np.zeros((OBJECTIVES, 20))
    table[:, [3, 8]] = 0.9
    found = judge(table, rule=rule)
    assert found.z.max() > 2.9
    assert found.kind == "none"


@pytest.mark.parametrize("rule", ["grubbs", "z"])
def test_equal_scores_are_undecidable_even_if_summed_in_another_order(rule):
    row = np.array([0.1, 0.7, 0.2, 0.3, 0.6, 0.1, 0.9])
    table = np.stack([np.roll(row, shift) for shift in range(6)], axis=1)
    found = judge(table, rule=rule)
    assert found.kind == "undecidable"
    assert found.reason == "all 6 candidates have the same score (0.414); ask more objectives or copies"
    assert found.z is None


def test_fewer_than_five_candidates_are_undecidable():
    found = judge(LEADER[:, :4])
    assert found.kind == "undecidable"
    assert "4 candidates; the rule needs at least 5" in found.reason
    np.testing.assert_allclose(found.scores, LEADER[:, :4].mean(axis=0))


def test_a_threshold_out_of_reach_is_undecidable_rather_than_silent():
    found = judge(LEADER[:, :5], rule="z", tau=1.8)
    assert found.kind == "undecidable"
    assert "no score among 5 can lie 1.8 standard deviations above their mean (at most 1.79)" in found.reason


def test_a_decoy_on_top_is_undecidable():
    found = judge(LEADER, candidates(6, decoys=(2,)))
    assert found.kind == "undecidable"
    assert found.reason == "the decoy 'c2' scored highest"


FAMILIES = ("", "", "twins", "twins", "", "", "")
TWINS = table_of([0.1, 0.1, 0.9, 0.85, 0.1, 0.1, 0.1], seed=3)


def test_twins_mask_each_other_and_their_family_is_named():
    alone = judge(TWINS, candidates(7))
    assert alone.kind == "none"
    together = judge(TWINS, candidates(7, FAMILIES))
    assert (together.kind, together.named) == ("family", "twins")
    assert "no single candidate stands out, but the family does" in together.reason


def test_one_of_two_relatives_is_named_itself_where_it_stands_out():
    table = table_of([0.1, 0.1, 0.95, 0.2, 0.1, 0.1, 0.1], seed=3)
    assert judge(table, candidates(7, FAMILIES)).named == "c2"


def test_a_family_of_decoys_is_not_named():
    found = judge(TWINS, candidates(7, FAMILIES, decoys=(2, 3)))
    assert found.kind == "undecidable"
    assert found.reason == "the decoys of family 'twins' scored highest"


def test_families_are_tested_only_where_there_are_five_of_them():
    few = judge(TWINS[:, :5], candidates(5, FAMILIES))
    assert few.kind == "none"
    assert few.threshold == pytest.approx(1.671, abs=5e-4)


def critical(n, alpha):
    square = stats.t.ppf(1 - alpha / n, n - 2) ** 2
    return (n - 1) / math.sqrt(n) * math.sqrt(square / (n - 2 + square))


def test_two_tests_share_the_error():
    assert judge(TWINS, candidates(7)).threshold == pytest.approx(critical(7, 0.05))
    assert judge(TWINS, candidates(7, FAMILIES)).threshold == pytest.approx(critical(7, 0.025))


def test_undecidable_carries_what_is_known():
    found = undecidable("why", 3)
    assert np.isnan(found.scores).all()
    assert (found.kind, found.named, found.reason, found.z) == ("undecidable", None, "why", None)


# The samples of c0 resemble their objectives for any encoder, as those of an autoencoder do.
TRAP = np.array([0.7, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_what_any_encoder_shows_is_subtracted():
    reference = reference_of(TRAP)
    trapped = table_of(TRAP)
    assert judge(trapped).named == "c0"
    freed = judge(trapped, reference=reference)
    assert freed.kind == "none"
    assert freed.reference_p > 0.05
    hidden = table_of([0.7, 0.1, 0.8, 0.1, 0.1, 0.1])
    found = judge(hidden, reference=reference)
    assert found.named == "c2"
    assert found.reference_p == 1 / 161
    np.testing.assert_allclose(found.scores, hidden.mean(axis=0))  # scores are shown as they were measured


def test_rows_are_matched_with_the_objectives_they_belong_to():
    reference = reference_of(TRAP)
    reference.expected[:] = np.arange(OBJECTIVES)[:, None] * np.ones(6)
    table = np.zeros((3, 6)) + np.array([7, 2, 5])[:, None]
    table[:, 1] += [0.5, 0.6, 0.4]
    found = judge(table, reference=reference, asked=[7, 2, 5])
    assert found.margin == pytest.approx(0.5)
    assert found.margin_low > 0.4


def test_a_reference_too_small_for_the_error_is_said_and_not_taken_for_silence():
    found = judge(LEADER, reference=reference_of([0.1] * 6, services=99), alpha=0.009)
    assert found.kind == "undecidable"
    assert "99 reference services cannot show an error as small as 0.009" in found.reason
    assert judge(LEADER, reference=reference_of([0.1] * 6, services=99), alpha=0.011).named == "c2"


def test_the_z_rule_takes_no_notice_of_a_reference():
    assert judge(table_of(TRAP), rule="z", reference=reference_of(TRAP)).named == "c0"


def accusations(tables, **rest):
    return np.mean([judge(table, **rest).named is not None for table in tables])


def at_most(alpha, trials):
    """Three standard errors above ``alpha``."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.4])
def test_exchangeable_candidates_are_accused_no_more_often_than_stated(mean):
    trials = 300
    tables = [table_of([mean] * 6, seed) for seed in range(trials)]
    assert accusations(tables) <= at_most(0.05, trials)


def test_families_do_not_raise_the_error():
    trials = 300
    tables = [table_of([0.1] * 7, seed) for seed in range(trials)]
    assert accusations(tables, among=candidates(7, FAMILIES)) <= at_most(0.05, trials)


def test_with_a_reference_the_error_holds_although_one_candidate_agrees_everywhere():
    trials = 300
    tables = [table_of(TRAP, seed) for seed in range(trials)]
    assert accusations(tables) > 0.9
    assert accusations(tables, reference=reference_of(TRAP)) <= at_most(0.05, trials)


def test_the_z_rule_errs_more_the_more_candidates_there_are():
    few, many = (
        accusations([np.random.default_rng(seed).normal(size=(1, n)) for seed in range(300)], rule="z")
        for n in (5, 8)
    )
    assert few < 0.08  # 3 % and 24 % for normal scores
    assert 0.15 < many < 0.33
