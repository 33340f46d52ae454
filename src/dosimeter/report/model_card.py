"""The outcome as a model card: Markdown for people, with metadata that the Hugging Face hub reads.

The metadata hold the measured figures as ``model-index`` results. What is not known is left out: no licence, no task of the
model. Figures without a value stand in the text with their reason; metadata cannot hold them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from dosimeter.core.records import content_hash
from dosimeter.core.result import Metric, Verdict
from dosimeter.report.cards import tags_of_outcome
from dosimeter.report.checks import checks, measured_text
from dosimeter.report.markdown import code, code_block, escaped, one_line, shortened, table
from dosimeter.report.summary import summarise
from dosimeter.report.wording import VERDICT_WORDS, bytes_text, date_text, number_text, seconds_text
from dosimeter.study.outcome import Bill, CellOutcome, StudyOutcome

_MOST_RESULTS = 300
_MOST_NAME = 200
_MOST_TEXT = 1_000
_MOST_ROWS = 400
_SIGNS: dict[Verdict, str] = {"pass": "✓", "fail": "✕", "undetermined": "?", "error": "!"}


def render_model_card(outcome: StudyOutcome) -> str:
    """The text of ``model-card.md``: the same text for the same outcome."""
    parts = [
        _metadata(outcome),
        f"# Audit of {escaped(outcome.target) or 'the target'}",
        *_summary(outcome),
        *_tested(outcome),
        *_findings(outcome),
        *_limits(outcome),
        *_tags(outcome),
        *_again(outcome),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(outcome: StudyOutcome) -> str:
    name = shortened(one_line(outcome.target), _MOST_NAME) or "target"
    identifiers = [tag.id for tags in tags_of_outcome(outcome).values() for tag in tags]
    metadata: dict[str, Any] = {"tags": ["dosimeter", "security-audit", "privacy", *identifiers]}
    results = list(_index_results(outcome))
    if results:
        metadata["model-index"] = [{"name": name, "results": results[:_MOST_RESULTS]}]
    # Wide enough never to fold: a folded line could begin with the dashes that end the metadata.
    text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=2**31)
    return f"---\n{text}---"


def _index_results(outcome: StudyOutcome) -> Iterator[dict[str, Any]]:
    """One per cell, with its metrics that have a value."""
    for done in outcome.cells:
        metrics = [metric for metric in done.result.metrics if metric.value is not None]
        if not metrics:
            continue
        digests = done.result.provenance.data_digests
        names = ", ".join(digests) or "made by the attack"
        dataset: dict[str, Any] = {
            "type": re.sub(r"[^a-z0-9]+", "-", one_line(names).lower()).strip("-")[:_MOST_NAME] or "other",
            "name": shortened(one_line(names), _MOST_NAME),
        }
        if digests:
            only = next(iter(digests.values()))
            dataset["revision"] = one_line(only) if len(digests) == 1 else content_hash(digests)
            dataset["args"] = {one_line(name): one_line(digest) for name, digest in digests.items()}
        # One name for all: the hub's own library merges results of one task and data set, and keeps the first name.
        yield {
            "task": {"type": "other", "name": "security audit"},
            "dataset": dataset,
            "metrics": [_index_metric(metric, done) for metric in metrics],
        }


def _index_metric(metric: Metric, done: CellOutcome) -> dict[str, Any]:
    said: dict[str, Any] = {"defense": one_line(done.cell.defense), "seed": done.cell.seed}
    for field in ("low", "high", "n", "interval", "unit"):
        value = getattr(metric, field)
        if value not in (None, ""):
            said[field] = one_line(value) if isinstance(value, str) else value
    if metric.control:
        said["control"] = True
    return {
        "type": shortened(one_line(f"{done.cell.attack}.{metric.name}"), _MOST_NAME),
        "name": shortened(one_line(f"{done.result.title}: {metric.name} ({_where(done)})"), _MOST_NAME),
        "value": metric.value,
        "args": said,
        "verified": False,
    }


def _where(done: CellOutcome) -> str:
    defended = "no defence" if done.cell.defense == "none" else f"behind {one_line(done.cell.defense)}"
    return f"{defended}, seed {done.cell.seed}"


def _verdict(verdict: Verdict) -> str:
    return f"{_SIGNS[verdict]} {VERDICT_WORDS[verdict]}"


def _text(text: str) -> str:
    return escaped(shortened(one_line(text), _MOST_TEXT))


def _summary(outcome: StudyOutcome) -> list[str]:
    summary = summarise(outcome)
    parts = [
        f"**{_verdict(outcome.verdict)}.** {_text(summary.headline)} {_text(summary.found)}",
        _text(summary.meaning),
    ]
    if summary.reasons:
        parts.append("\n".join(f"- {_text(reason)}" for reason in summary.reasons))
    return [*parts, f"Next: {_text(summary.next_step)}"]


def _tested(outcome: StudyOutcome) -> list[str]:
    summary = summarise(outcome)
    bill = outcome.bill
    facts = [
        ("Target", _text(outcome.target)),
        ("Access", _text(outcome.target_access)),
        ("Asked", _text(" ".join([summary.asked, *summary.questions]))),
        ("Date", _text(date_text(outcome.started))),
        ("Run", code(outcome.run)),
        ("Cost", _cost(bill)),
    ]
    threats = dict.fromkeys(
        (done.result.title, done.result.threat_model) for done in outcome.cells if done.result.threat_model
    )
    digests = dict.fromkeys(
        item for done in outcome.cells for item in done.result.provenance.data_digests.items()
    )
    versions = dict.fromkeys(
        item for done in outcome.cells for item in done.result.provenance.versions.items()
    )
    parts = ["## What was tested", table(["", ""], [(name, value) for name, value in facts if value])]
    if threats:
        parts.append("\n".join(f"- **{_text(title)}.** {_text(threat)}" for title, threat in threats))
    if digests:
        parts.append("Data: " + ", ".join(f"{_text(name)} {code(digest)}" for name, digest in digests) + ".")
    if versions:
        parts.append(
            "Versions: " + ", ".join(f"{_text(name)} {_text(version)}" for name, version in versions) + "."
        )
    return parts


def _cost(bill: Bill) -> str:
    limit = "" if bill.limit is None else f" of {number_text(bill.limit)} allowed"
    took = "" if bill.seconds is None else f", {seconds_text(bill.seconds)}"
    price = f", price {number_text(bill.money)}" if bill.money else ""
    return f"{number_text(bill.queries)} queries{limit}{took}{price}"


def _findings(outcome: StudyOutcome) -> list[str]:
    parts = ["## Findings"]
    rows = [
        (
            _verdict(check.verdict),
            code(check.required) if check.finding else _text(check.required),
            _text(measured_text(check.finding.measured)) if check.finding else _text(check.text),
            "" if check.cell is None else _text(check.cell.defense),
            "" if check.cell is None else str(check.cell.seed),
            _text(check.reason or ""),
        )
        for check in checks(outcome)
    ]
    parts.append(table(["Verdict", "Required", "Found", "Defence", "Seed", "Reason"], rows[:_MOST_ROWS]))
    parts += _left_out(len(rows))
    for done in outcome.cells:
        if not done.result.metrics:
            continue
        parts.append(f"### {_text(done.result.title)}, {_text(_where(done))}")
        parts.append(_text(done.result.summary))
        metrics = sorted(done.result.metrics, key=lambda metric: metric.control)
        parts.append(
            table(
                ["Metric", "Value", "Better", "What it is"],
                [
                    (
                        code(metric.name) + (" (control)" if metric.control else ""),
                        _text(measured_text(metric)),
                        {True: "higher", False: "lower", None: ""}[metric.higher_is_better],
                        _text(metric.description),
                    )
                    for metric in metrics[:_MOST_ROWS]
                ],
            )
        )
        parts += _left_out(len(metrics))
        if done.result.artifacts:
            files = ", ".join(
                f"{code(file.path)} ({bytes_text(file.bytes)})" for file in done.result.artifacts[:50]
            )
            parts.append(f"Files: {files}.")
    return parts


def _left_out(rows: int) -> list[str]:
    more = rows - _MOST_ROWS
    return [f"{number_text(more)} more rows are in report.json."] if more > 0 else []


def _limits(outcome: StudyOutcome) -> list[str]:
    limits = list(dict.fromkeys(limit for done in outcome.cells for limit in done.result.limits))
    always = "The figures speak for these attacks, this budget and this data; they rule out no others."
    return ["## Limits", "\n".join(f"- {_text(limit)}" for limit in [*limits, always])]


def _tags(outcome: StudyOutcome) -> list[str]:
    grouped = tags_of_outcome(outcome)
    if not grouped:
        return []
    rows = [
        (escaped(taxonomy.title), f"[{escaped(tag.title)}]({tag.url})" if tag.url else escaped(tag.title))
        for taxonomy, tags in grouped.items()
        for tag in tags
    ]
    return ["## Standard tags", table(["Taxonomy", "Entry"], rows)]


def _again(outcome: StudyOutcome) -> list[str]:
    command = one_line(outcome.command)
    return [
        "## How to run it again",
        code_block(command, "console"),
        "With this specification:",
        code_block(outcome.spec, "yaml"),
        "Made by Dosimeter. The same figures, unrounded, are in report.json.",
    ]
