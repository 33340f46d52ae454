"""Every outcome becomes findings that are complete, finite and survive JSON."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.attack_sets import AttackSet
from dosimeter.attacks.encoder_inference.decision import decide, undecidable
from dosimeter.attacks.encoder_inference.exhibits import candidate_table
from dosimeter.attacks.encoder_inference.presentation import present
from dosimeter.attacks.encoder_inference.synthesis import Gradient
from dosimeter.core.method import Context, Findings
from dosimeter.core.oracle import Determinism, Oracle
from dosimeter.core.result import Provenance, Result
from support.tiny_encoders import SIZE, image_candidates, image_service

CONTEXT = Context(seed=0)
ATTACK = EncoderInference(
    candidates=image_candidates(6), objective_count=6, copies=2, synthesis=Gradient(canvas=SIZE, steps=40)
)


@pytest.fixture(scope="module")
def prepared():
    return ATTACK.prepare(CONTEXT)


@pytest.fixture(scope="module")
def identified(prepared):
    return ATTACK.investigate(Oracle(image_service(3)), CONTEXT, prepared)


@pytest.fixture(scope="module")
def silent(prepared):
    return ATTACK.investigate(Oracle(image_service(50)), CONTEXT, prepared)


def redecided(found, table=None, candidates=None, **rest):
    table = found.inference.per_objective if table is None else table
    among = candidates or found.prepared.candidates
    given = {"rule": "grubbs", "alpha": 0.05, "tau": 1.7, "generator": np.random.default_rng(0)}
    return replace(
        found,
        decision=decide(table, among, **{**given, **rest}),
        prepared=replace(found.prepared, candidates=among),
    )


def with_controls(found, **changes):
    return replace(
        found, prepared=replace(found.prepared, controls=replace(found.prepared.controls, **changes))
    )


def unasked(found, reason="the service gives all objectives the same answer"):
    checks = replace(found.inference.checks, problem=reason)
    return replace(
        found,
        inference=type(found.inference)(checks),
        decision=undecidable(reason, len(found.prepared.candidates)),
    )


def in_families(found):
    return tuple(
        replace(c, family="pair" if i in (3, 4) else "") for i, c in enumerate(found.prepared.candidates)
    )


def family(found):
    table = np.full((len(found.inference.rows), 6), 0.1)
    table[:, 3:5] = [0.9, 0.88]
    table[0, 0] = 0.15
    return replace(redecided(found, table, in_families(found)), decision=replace(
        redecided(found, table, in_families(found)).decision, kind="family", named="pair"
    ))  # fmt: skip


def with_decoy(found):
    among = tuple(replace(c, decoy=i == 3) for i, c in enumerate(found.prepared.candidates))
    return redecided(found, candidates=among)


def texts(found):
    made = [
        AttackSet([f"text {i}" for i in range(12)], s.losses, s.start_losses, s.objective_spread, 3, "beam")
        for s in found.prepared.sets
    ]
    return replace(found, prepared=replace(found.prepared, objectives=["a"] * 6, sets=made))


def without_scale(found):
    made = [replace(s, start_losses=s.start_losses * 0, objective_spread=0.0) for s in found.prepared.sets]
    return replace(found, prepared=replace(found.prepared, sets=made))


def unreadable(found):
    inference = replace(found.inference, dropped=3, compared=40)
    return replace(found, inference=replace(inference, checks=replace(inference.checks, determinism=None)))


KINDS = {
    "identified": lambda found: found,
    "no reference": lambda found: redecided(found),
    "family": family,
    "decoy on top": with_decoy,
    "equal scores": lambda found: redecided(found, np.full((6, 6), 0.5)),
    "nothing asked": unasked,
    "few candidates": lambda found: redecided(
        found, candidates=found.prepared.candidates[:4], table=np.eye(6)[:, :4]
    ),
    "controls failed": lambda found: with_controls(found, planted_named=3),
    "no control": lambda found: with_controls(found, planted=0, planted_named=0, skipped=("encoder-0",)),
    "texts": texts,
    "no scale": without_scale,
    "dropped replies": unreadable,
}


def as_result(findings: Findings) -> Result:
    fields = {
        name: getattr(findings, name)
        for name in ("verdict", "summary", "reason", "metrics", "tables", "figures", "limits")
    }
    return Result(method="encoder-inference", title="t", provenance=Provenance(seed=0), **fields)


@pytest.mark.parametrize("rule", ["grubbs", "z"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_outcome_is_complete(kind, rule, identified):
    found = KINDS[kind](identified)
    if kind == "few candidates":
        found = replace(found, prepared=replace(found.prepared, sets=found.prepared.sets[:4]))
        found = replace(
            found, inference=replace(found.inference, rows=[row[:4] for row in found.inference.rows])
        )
    findings = present(ATTACK.model_copy(update={"rule": rule}), found)
    result = as_result(findings)
    names = [metric.name for metric in result.metrics]
    assert len(names) == len(set(names))
    assert {"identified", "top-score", "top-z", "grubbs-p", "margin", "reference-p", "base-rate"} <= set(
        names
    )
    assert {f"score.{c.name}" for c in found.prepared.candidates} <= set(names)
    for metric in result.metrics:
        assert metric.value is not None or metric.reason, metric.name
        assert metric.value is None or math.isfinite(metric.value)
        assert metric.low is not None or metric.reason, metric.name  # an interval, or why there is none
        assert metric.n is not None
    for table in result.tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert Result.from_json(result.to_json()) == result
    assert "NaN" not in result.to_json()
    assert (result.reason is not None) == (result.verdict == "undetermined")
    assert len(result.limits) >= 3
    str(result), result._repr_html_()


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_can_be_drawn(kind, identified):
    import altair

    for figure in present(
        ATTACK, KINDS["identified" if kind == "few candidates" else kind](identified)
    ).figures:
        json.dumps(figure.spec, allow_nan=False)
        chart = altair.Chart.from_dict({"$schema": altair.SCHEMA_URL, **figure.spec})
        assert chart.to_dict()
        assert figure.title
        assert figure.caption


def test_which_exhibits_there_are(identified):
    def names(found):
        findings = present(ATTACK, found)
        return [t.name for t in findings.tables], [f.name for f in findings.figures]

    assert names(identified) == (["candidates", "objectives"], ["scores", "per-objective", "samples"])
    assert names(texts(identified)) == (["candidates", "objectives"], ["scores", "per-objective"])
    assert names(unasked(identified)) == (["candidates"], ["samples"])


def test_a_named_encoder_is_a_failure_said_in_words(identified):
    findings = present(ATTACK, identified)
    assert findings.verdict == "fail"
    assert findings.summary == (
        "An outsider can tell that this service runs on 'encoder-3' (family-wise error 5%)."
    )
    metrics = {metric.name: metric for metric in findings.metrics}
    decision = identified.decision
    assert metrics["identified"].value == 1
    assert metrics["top-score"].value == metrics["score.encoder-3"].value == decision.scores[3]
    assert (metrics["top-score"].low, metrics["top-score"].high) == (decision.low[3], decision.high[3])
    assert metrics["top-score"].description.endswith("encoder-3")
    assert metrics["top-z"].value == decision.z[3]
    assert metrics["reference-p"].value == decision.reference_p
    assert metrics["control.planted-named"].control
    assert findings.tables[0].rows[0][0] == "encoder-3"
    controls = identified.prepared.controls
    assert findings.candidate_queries == sum(s.queries for s in identified.prepared.sets) + controls.queries


def test_scores_are_kept_per_objective(identified):
    (scores,) = present(ATTACK, identified).records
    assert scores.total == len(identified.inference.asked) == len(scores.keys)
    assert len(scores.values) == len(ATTACK.candidates) + 1
    found = as_result(present(ATTACK, identified))
    assert np.mean(scores.values["top-score"]) == pytest.approx(found.metric("top-score").value)
    assert present(ATTACK, unasked(identified)).records == []


def test_silence_is_a_pass(silent):
    findings = present(ATTACK, silent)
    assert findings.verdict == "pass"
    assert "No candidate encoder stands out" in findings.summary
    assert next(m for m in findings.metrics if m.name == "identified").value == 0


def test_a_family_is_a_failure_too(identified):
    findings = present(ATTACK, family(identified))
    assert findings.verdict == "fail"
    assert "an encoder of the family 'pair'" in findings.summary


@pytest.mark.parametrize("changes", [{"planted_named": 3}, {"planted_wrong": 20}, {"null_accused": 50}])
def test_a_name_does_not_count_where_the_controls_fail(changes, identified):
    findings = present(ATTACK, with_controls(identified, **changes))
    assert findings.verdict == "undetermined"
    assert findings.summary.endswith("The attack named 'encoder-3', but that cannot be relied on.")
    assert "local services built on the candidates" in findings.reason
    metric = next(m for m in findings.metrics if m.name == "identified")
    # A policy on this metric must not take an unreliable answer for a measurement.
    assert metric.value is None
    assert metric.reason == findings.reason


def test_silence_without_controls_is_no_pass(silent):
    findings = present(ATTACK, with_controls(silent, planted=0, planted_named=0))
    assert findings.verdict == "undetermined"
    assert next(m for m in findings.metrics if m.name == "identified").value is None


def test_an_undecidable_outcome_says_why(identified):
    findings = present(ATTACK, unasked(identified))
    assert (findings.verdict, findings.reason) == (
        "undetermined",
        "the service gives all objectives the same answer",
    )


def test_the_z_rule_warns_of_its_error(identified):
    by_z = EncoderInference(**{**dict(ATTACK), "rule": "z"})
    findings = present(by_z, redecided(identified, rule="z"))
    assert "(threshold z > 1.7)" in findings.summary
    assert "24 % for 8" in findings.limits[-1]


def test_self_disagreement_and_dropped_replies_are_reported(identified):
    inference = replace(identified.inference, dropped=3, compared=40)
    shaky = replace(inference, checks=replace(inference.checks, determinism=Determinism(n=6, disagreeing=1)))
    metrics = {m.name: m for m in present(ATTACK, replace(identified, inference=shaky)).metrics}
    assert metrics["self-disagreement"].value == pytest.approx(1 / 6)
    assert metrics["dropped-replies"].value == pytest.approx(0.075)
    assert metrics["dropped-replies"].low < 0.075 < metrics["dropped-replies"].high


def test_candidates_without_controls_are_a_limit(identified):
    findings = present(ATTACK, with_controls(identified, skipped=("encoder-1", "encoder-2")))
    assert findings.limits[-1].endswith("known only by recorded embeddings: encoder-1, encoder-2.")


def test_the_order_is_that_of_the_rule_where_it_differs_from_the_raw_scores(identified):
    # encoder-0 agrees everywhere, on services of others too: its raw score is the highest, its freed one is not.
    decision = replace(
        identified.decision,
        scores=np.array([0.95, 0.1, 0.1, 0.9, 0.1, 0.1]),
        z=np.array([0.1, 0, 0, 2.0, -0.5, -0.4]),
    )
    findings = present(ATTACK, replace(identified, decision=decision))
    assert findings.tables[0].rows[0][0] == "encoder-3"
    assert next(m for m in findings.metrics if m.name == "top-score").value == 0.9
    table = candidate_table(decision, identified.prepared.candidates, identified.prepared.sets)
    assert [row[0] for row in table.rows][:2] == ["encoder-3", "encoder-0"]


def test_a_long_list_of_candidates_can_be_shown(identified):
    many = tuple(replace(identified.prepared.candidates[i % 6], name=f"candidate {i}") for i in range(90))
    sets = [identified.prepared.sets[i % 6] for i in range(90)]
    wide = replace(identified.inference, rows=[np.resize(row, 90) for row in identified.inference.rows])
    found = replace(
        identified, inference=wide, prepared=replace(identified.prepared, candidates=many, sets=sets),
        decision=redecided(identified, np.stack(wide.rows), many).decision,
    )  # fmt: skip
    assert [f.name for f in present(ATTACK, found).figures] == ["scores", "per-objective", "samples"]
