"""The outcome as a bill of materials of the target: CycloneDX 1.6, the kind for machine learning (ML-BOM).

The target is a ``machine-learning-model`` with a model card of what was measured; data sets stand with their digests,
Dosimeter and the libraries behind the figures as tools. Files without a run's own identity would differ from one rendering
to the next, so the serial number is derived from the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import metadata
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from dosimeter.core.records import content_hash
from dosimeter.core.result import Metric
from dosimeter.report.cards import tags_of_outcome
from dosimeter.report.comparison import compare_defenses
from dosimeter.report.markdown import one_line, shortened
from dosimeter.report.wording import clean_text, number_text
from dosimeter.study.outcome import CellOutcome, StudyOutcome

SPEC_VERSION = "1.6"
_MOST_METRICS = 2_000
_MOST_TEXT = 2_000
_TARGET = "target"
_SHA = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


def render_bom(outcome: StudyOutcome) -> str:
    """The text of ``bom.cdx.json``: the same text for the same outcome."""
    data, libraries = _data(outcome), _libraries(outcome)
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'dosimeter:bom:{content_hash(outcome.run, outcome.started)}')}",
        "version": 1,
        "metadata": {
            **_timestamp(outcome),
            "tools": {"components": [_tool(), *libraries]},
            "component": _target(outcome, data),
        },
        "components": data,
        "dependencies": [
            {"ref": _TARGET, "dependsOn": [component["bom-ref"] for component in data]},
            *({"ref": component["bom-ref"]} for component in data),
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _text(text: str) -> str:
    return shortened(one_line(text), _MOST_TEXT)


def _timestamp(outcome: StudyOutcome) -> dict[str, str]:
    try:
        began = datetime.fromisoformat(outcome.started)
    except ValueError:
        return {}
    began = began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC)
    return {"timestamp": f"{began:%Y-%m-%dT%H:%M:%SZ}"}


def _tool() -> dict[str, Any]:
    package = metadata("dosimeter")
    return {
        "type": "application",
        "bom-ref": "tool:dosimeter",
        "name": "dosimeter",
        "version": package["Version"],
        "description": package["Summary"],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }


def _libraries(outcome: StudyOutcome) -> list[dict[str, Any]]:
    """What the figures were computed with, by the provenance of the cells."""
    pairs = dict.fromkeys(item for done in outcome.cells for item in done.result.provenance.versions.items())
    found = []
    for name, version in pairs:
        if name == "dosimeter":
            continue
        own: dict[str, Any] = {
            "type": "platform" if name == "python" else "library",
            "bom-ref": f"tool:{content_hash(name, version)}",
            "name": _text(name) or "library",
            "version": _text(version),
        }
        if (
            name != "python"
            and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
            and re.fullmatch(r"[\w.!-]+(\+\w+)?", version)
        ):
            own["purl"] = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
        found.append(own)
    return found


def _data(outcome: StudyOutcome) -> list[dict[str, Any]]:
    pairs = dict.fromkeys(
        item for done in outcome.cells for item in done.result.provenance.data_digests.items()
    )
    return [_data_set(name, digest) for name, digest in pairs]


def _data_set(name: str, digest: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "data",
        "bom-ref": f"data:{content_hash(name, digest)}",
        "name": _text(name) or "data",
        "data": [{"type": "dataset", "name": _text(name) or "data"}],
        "properties": [_property("digest", digest)],
    }
    if match := _SHA.fullmatch(digest):
        component["hashes"] = [{"alg": "SHA-256", "content": match[1]}]
    return component


def _target(outcome: StudyOutcome, data: list[dict[str, Any]]) -> dict[str, Any]:
    fingerprints = dict.fromkeys(
        done.result.provenance.target_fingerprint
        for done in outcome.cells
        if done.result.provenance.target_fingerprint
    )
    facts = [
        ("verdict", outcome.verdict),
        ("summary", outcome.summary),
        ("access", outcome.target_access),
        ("run", outcome.run),
        ("study", outcome.name),
        ("command", outcome.command),
        ("queries", str(outcome.bill.queries)),
        *(("fingerprint", fingerprint) for fingerprint in fingerprints),
        *(
            (f"tag:{tag.taxonomy.key}", tag.title)
            for tags in tags_of_outcome(outcome).values()
            for tag in tags
        ),
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": _TARGET,
        "name": _text(outcome.target) or "target",
        "description": _text(outcome.target_access),
        "modelCard": _model_card(outcome, data),
        "properties": [_property(name, value) for name, value in facts if value],
    }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"dosimeter:{name}", "value": _text(value)}


def _model_card(outcome: StudyOutcome, data: list[dict[str, Any]]) -> dict[str, Any]:
    card: dict[str, Any] = {"bom-ref": "model-card"}
    if data:
        card["modelParameters"] = {"datasets": [{"ref": component["bom-ref"]} for component in data]}
    metrics = list(_metrics(outcome))
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics[:_MOST_METRICS]}
    considerations = _considerations(outcome)
    if considerations:
        card["considerations"] = considerations
    unresolved = [
        f"{done.cell.label}: {metric.name}: {metric.reason}"
        for done in outcome.cells
        for metric in done.result.metrics
        if metric.value is None
    ]
    notes = [_property("unresolved", text) for text in unresolved]
    if len(metrics) > _MOST_METRICS:
        notes.append(_property("left-out", f"{len(metrics) - _MOST_METRICS} more metrics are in report.json"))
    return {**card, **({"properties": notes} if notes else {})}


def _metrics(outcome: StudyOutcome) -> Iterator[dict[str, Any]]:
    """Figures with a value; CycloneDX writes numbers as text. Controls are marked in the slice."""
    for done in outcome.cells:
        for metric in done.result.metrics:
            if metric.value is not None:
                yield _metric(done, metric)


def _metric(done: CellOutcome, metric: Metric) -> dict[str, Any]:
    defended = "no defence" if done.cell.defense == "none" else f"behind {done.cell.defense}"
    where = [defended, f"seed {done.cell.seed}"]
    where += [f"n {metric.n}"] if metric.n is not None else []
    where += [metric.interval] if metric.interval else []
    where += ["control"] if metric.control else []
    found: dict[str, Any] = {
        "type": _text(f"{done.cell.attack}.{metric.name}"),
        "value": repr(metric.value),
        "slice": _text(", ".join(where)),
    }
    bounds = {"lowerBound": metric.low, "upperBound": metric.high}
    interval = {name: repr(bound) for name, bound in bounds.items() if bound is not None}
    return {**found, "confidenceInterval": interval} if interval else found


def _considerations(outcome: StudyOutcome) -> dict[str, Any]:
    limits = dict.fromkeys(
        _text(limit) for done in outcome.cells for limit in done.result.limits if limit.strip()
    )
    risks = dict.fromkeys(
        (done.result.title, done.result.summary) for done in outcome.cells if done.result.verdict != "pass"
    )
    found: dict[str, Any] = {
        "technicalLimitations": list(limits),
        "performanceTradeoffs": list(_tradeoffs(outcome)),
        "ethicalConsiderations": [
            {
                "name": _text(f"{title}: {summary}"),
                "mitigationStrategy": _text(outcome.next_step) or "Read the evidence in report.html.",
            }
            for title, summary in risks
        ],
    }
    return {name: value for name, value in found.items() if value}


def _tradeoffs(outcome: StudyOutcome) -> Iterator[str]:
    """What each defence changes, in the figures that compare them."""
    for comparison in compare_defenses(outcome):
        for row in comparison.rows:
            figures = [
                f"{name} {number_text(metric.value)}"
                for name, metric in zip(comparison.names, row.metrics)
                if metric is not None and metric.value is not None
            ]
            if figures:
                where = f"{comparison.title}, defence {row.done.cell.defense}, seed {row.done.cell.seed}"
                yield _text(clean_text(f"{where}: {', '.join(figures)}"))
