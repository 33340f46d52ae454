"""What a report says of a campaign: verdicts on hand-made spoils, and consistency of figures, tables and records."""

from dataclasses import replace

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.campaign import (
    PERMUTED,
    RANDOM,
    STOLEN,
    TARGET,
    UNTRAINED,
    CurvePoint,
    Spoils,
    ZeroShot,
)
from dosimeter.attacks.encoder_stealing.presentation import findings
from dosimeter.attacks.encoder_stealing.purchase import Probe, Purchase
from dosimeter.attacks.encoder_stealing.scoring import Share, Similarity, TaskScores
from dosimeter.attacks.encoder_stealing.training import StolenEncoder
from support.tiny_thefts import fast, few

M = 400
RIGHT = {TARGET: 360, STOLEN: 330, PERMUTED: 118, RANDOM: 111, UNTRAINED: 120}


def scores(right, task="digits"):
    """Encoders that are right about the first so many of 400 records."""
    predictions = np.zeros((len(right), 1, M), np.int64)
    for row, count in enumerate(right.values()):
        predictions[row, 0, :count] = 1
    keys = tuple(f"{task} {n}" for n in range(M))
    return TaskScores(task, tuple(right), predictions, np.ones(M, np.int64), keys)


def alike(value, n=50):
    per_input = np.full(n, value)
    share = Share(value, value - 0.05, value + 0.05, n)
    return Similarity(share, share, abs(value), per_input)


def probed(**settings):
    given = {"asked_twice": 10, "self_distance": 0.0, "spread": 0.9, "dimmed": 0.2, "first": np.ones((10, 4)), "second": np.ones((10, 4))}  # fmt: skip
    return Probe(**{**given, **settings})


def spoils(right=None, best=STOLEN, similarities=None, **settings):
    """A campaign of 60 calls, whose copies need no network to be talked about."""
    right = {**RIGHT, **(right or {})}
    images = np.zeros((60, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(60)
    copies = {name: StolenEncoder(None, None, queries=0 if name == UNTRAINED else 60) for name in right if name != TARGET}  # fmt: skip
    similarities = {name: alike(0.9 if name == STOLEN else 0.0) for name in copies} | (similarities or {})
    made = Spoils(
        attack=fast(),
        service="digits",
        price_per_call=0.5,
        probe=probed(),
        purchase=Purchase(images, np.ones((60, 4), np.float32)),
        held=images[:50],
        overlap=0,
        tasks=(few(),),
        copies=copies,
        similarities=similarities,
        scores=[scores(right)],
        linear=[scores(right)],
        curve=[CurvePoint(60, 30.0, similarities[STOLEN])],
        best=best,
        planted=alike(0.8),
        thief_queries=75,
        evaluation_queries=130,
    )
    return replace(made, **settings)


# Verdicts


@pytest.mark.parametrize(
    ("right", "verdict", "said"),
    [
        ({}, "fail", None),
        ({STOLEN: 150}, "pass", None),
        ({STOLEN: 100}, "pass", None),
        ({STOLEN: 240}, "undetermined", "may lie on either side of the tolerated 0.5; judge on more test records"),
        ({TARGET: 121}, "undetermined", "nothing to recover"),
        ({PERMUTED: 200}, "undetermined", "trained on shuffled vectors recovers 33% on task digits.*no fair one"),
    ],
)  # fmt: skip
def test_verdicts(right, verdict, said):
    found = findings(spoils(right))
    assert found.verdict == verdict
    if said is None:
        assert found.reason is None
    else:
        import re

        assert re.search(said, found.reason)


def test_one_task_that_is_stolen_is_enough():
    stolen, kept = scores(RIGHT, "a"), scores({**RIGHT, STOLEN: 121}, "b")
    assert findings(spoils(scores=[stolen, kept], linear=[stolen, kept])).verdict == "fail"
    assert findings(spoils(scores=[kept], linear=[kept])).verdict == "pass"


def test_the_better_floor_counts():
    """What is had without stealing is no theft, whichever way it is had."""
    found = findings(spoils({RANDOM: 320}))
    share = next(m for m in found.metrics if m.name == "recovered-share.digits")
    assert share.value == pytest.approx((330 - 320) / (360 - 320)) and found.verdict != "fail"
    assert "learned nothing from it 80%" in found.summary


def test_a_task_without_anything_to_recover_does_not_count():
    useless, kept = scores({**RIGHT, TARGET: 119}, "a"), scores({**RIGHT, STOLEN: 121}, "b")
    found = findings(spoils(scores=[useless, kept], linear=[useless, kept]))
    assert found.verdict == "pass"
    shares = {m.name: m for m in found.metrics}
    assert shares["recovered-share.a"].value is None and "not better" in shares["recovered-share.a"].reason


def test_an_attack_that_cannot_copy_its_own_kind_passes_nobody():
    found = findings(spoils({STOLEN: 121}, planted=alike(0.02)))
    assert found.verdict == "undetermined" and "network of its own kind" in found.reason


def test_tolerance_is_the_policy():
    assert findings(spoils({STOLEN: 340}, attack=fast(tolerated=1.0))).verdict == "pass"
    assert findings(spoils({STOLEN: 130}, attack=fast(tolerated=0.0))).verdict == "fail"


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ({"spread": 0.0}, "10 different inputs the same vector"),
        ({"self_distance": 0.9}, "answers at random"),
    ],
)
def test_doubt_about_the_service_ends_it(probe, said):
    found = findings(spoils(probe=probed(**probe), purchase=Purchase(np.empty((0, 8, 8, 3), np.uint8), np.empty((0, 0)))))  # fmt: skip
    assert found.verdict == "undetermined" and said in found.reason
    assert [m.name for m in found.metrics] == ["probe.self-distance", "probe.spread", "probe.dimmed"]
    assert found.records == [] and found.tables == []


# Words


def test_the_summary_says_price_and_worth():
    said = findings(spoils()).summary
    assert "With 60 calls (30.00 in money)" in said
    assert (
        "82% on digits, where the service reaches 90% and a network that learned nothing from it 30%: 87% of what"
        in said
    )
    assert "(from scratch, no calls)" in findings(spoils({"from-scratch": 340}, best="from-scratch")).summary
    assert "in money" not in findings(spoils(price_per_call=0.0)).summary
    assert "more than the service gives its honest users" in findings(spoils({STOLEN: 395})).summary
    assert "nothing of what the encoder is worth" in findings(spoils({STOLEN: 110})).summary
    assert "no task tells what it is worth" in findings(spoils({TARGET: 120})).summary


def test_a_copy_that_asked_nothing_is_said():
    found = spoils({"from-scratch": 340}, best="from-scratch")
    found.copies["from-scratch"] = StolenEncoder(None, None, queries=0)
    assert findings(found).summary.endswith("It asked nothing.")


def test_limits():
    plain = findings(spoils()).limits
    assert any("lower bound" in limit for limit in plain) and len(plain) == 2
    more = findings(spoils(overlap=7, defense="entries are rounded", probe=probed(self_distance=0.031))).limits  # fmt: skip
    assert any("traces of a defence: entries are rounded" in limit for limit in more)
    assert any("7 public inputs were left out" in limit for limit in more)
    assert any("two answers to one input are 0.031 apart" in limit for limit in more)


# Figures that agree


def test_metrics_have_the_closed_form_and_an_interval_around_it():
    metrics = {m.name: m for m in findings(spoils()).metrics}
    expected = {
        "recovered-share.digits": (330 - 120) / (360 - 120), "accuracy.target.digits": 0.9, "accuracy.stolen.digits": 0.825,
        "accuracy.untrained.digits": 0.3, "accuracy.random-vectors.digits": 111 / 400, "ratio.digits": 330 / 360, "agreement.digits": 1 - 30 / 400,
        "cosine": 0.9, "cka": 0.9, "control.permuted.digits": -2 / 240, "control.planted": 0.8,
        "queries.thief": 75, "queries.evaluation": 130,
    }  # fmt: skip
    for name, value in expected.items():
        assert metrics[name].value == pytest.approx(value), name
    for metric in metrics.values():
        assert metric.description
        if metric.low is None:
            assert metric.reason, metric.name
        else:
            assert metric.low <= metric.value <= metric.high and metric.n and metric.interval, metric.name
    assert {name for name, m in metrics.items() if m.control} == {"control.permuted.digits", "control.planted", "control.untrained"}  # fmt: skip


def test_what_is_good_for_the_owner():
    metrics = {m.name: m.higher_is_better for m in findings(spoils()).metrics}
    assert metrics["accuracy.target.digits"] is True and metrics["queries.thief"] is True
    assert all(metrics[name] is False for name in ("recovered-share.digits", "cosine", "agreement.digits", "ratio.digits"))  # fmt: skip
    assert metrics["control.untrained"] is None


def test_records_are_what_metrics_are_means_of():
    found = findings(spoils())
    metrics = {m.name: m.value for m in found.metrics}
    names = set()
    for part in found.records:
        for name, column in part.values.items():
            names.add(name)
            assert np.mean(column) == pytest.approx(metrics[name]), name
            assert part.total == len(column)
    assert names == {"accuracy.target.digits", "accuracy.stolen.digits", "agreement.digits", "centred-cosine"}


def test_tables_have_a_row_per_encoder_and_per_budget():
    found = findings(spoils(curve=[CurvePoint(n, n / 2, alike(0.5)) for n in (10, 30, 60)], stopped=True))
    copies, price = found.tables
    assert [row[0] for row in copies.rows] == [
        "original", "stolen copy", "shuffled vectors", "random vectors", "untrained network",
    ]  # fmt: skip
    assert copies.rows[1][1] == 60 and copies.rows[0][1] is None
    cells = dict(zip(copies.columns, copies.rows[1]))
    assert cells["digits: accuracy"] == pytest.approx(0.825)
    assert cells["digits: recovered"] == pytest.approx(0.875)
    assert dict(zip(copies.columns, copies.rows[0]))["digits: recovered"] == 1
    assert [row[:2] for row in price.rows] == [[10, 5.0], [30, 15.0], [60, 30.0]]
    assert "Buying stopped" in price.caption
    assert [figure.name for figure in found.figures] == ["accuracy-digits", "price-curve"]
    assert [figure.name for figure in findings(spoils()).figures] == ["accuracy-digits"]


def test_a_recovered_share_of_zero_is_shown_as_zero():
    rows = findings(spoils({STOLEN: 120})).tables[0].rows
    columns = findings(spoils()).tables[0].columns
    assert dict(zip(columns, rows[1]))["digits: recovered"] == 0


def test_zero_shot_hits_have_an_exact_interval():
    from scipy.stats import binomtest

    hits = ZeroShot("digits", np.arange(M) < 300, np.arange(M) < 200, 10)
    metrics = {m.name: m for m in findings(spoils(zero_shot=[hits])).metrics}
    stolen = metrics["zero-shot.stolen.digits"]
    expected = binomtest(200, M).proportion_ci(0.95, method="exact")
    assert (stolen.value, stolen.low, stolen.high) == pytest.approx((0.5, expected.low, expected.high))
    assert metrics["zero-shot.target.digits"].value == 0.75 and stolen.higher_is_better is False


def test_copies_of_another_width_have_no_cosine():
    other = Similarity(None, None, 0.4, np.empty(0))
    found = findings(spoils(similarities=dict.fromkeys((STOLEN, PERMUTED, RANDOM, UNTRAINED), other)))
    names = {m.name for m in found.metrics}
    assert "cka" in names and "cosine" not in names
    assert [name for part in found.records for name in part.values if "cosine" in name] == []


def test_digests_name_everything_that_went_in():
    digests = findings(spoils()).data_digests
    assert set(digests) == {"bought", "held-out", "task digits"} and len(set(digests.values())) == 3
