"""The outcome as SARIF 2.1.0, for code scanning: one result per policy line and defence that does not hold or is in doubt.

Seeds of one line and defence are one result: the worst of them, with a count. Checks that hold are no results, as code
scanning shows every result as an alert. Every result has a line of the audit spec, and a fingerprint that neither the run,
nor the seeds, nor the bound, nor its line change. The verdict of the study can be read back: ``executionSuccessful`` is
false for an error; else a result of the kind ``fail`` means fail, one of the kind ``open`` undetermined, none at all pass.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, errata 01 (2023).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import metadata
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from dosimeter.core.records import content_hash
from dosimeter.core.result import VERDICT_EXIT, VERDICT_ORDER, Verdict
from dosimeter.report.checks import STUDY_RULE, Check, checks
from dosimeter.report.markdown import one_line, shortened
from dosimeter.report.places import SpecText
from dosimeter.report.sarif_rules import Rules, message
from dosimeter.report.wording import clean_text, counted
from dosimeter.study.outcome import StudyOutcome

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: What code scanning shows of a run; it refuses more than 25,000 results and files over 10 MB, compressed.
MOST_RESULTS = 5_000
MOST_BYTES = 10_000_000
_MOST_MESSAGE = 1_000
_MOST_SPEC = 200_000
_KINDS: dict[Verdict, tuple[str, str]] = {
    "pass": ("pass", "none"),
    "fail": ("fail", "error"),
    "undetermined": ("open", "none"),
    "error": ("open", "none"),
}
_EXIT_WORDS = {
    0: "pass",
    1: "a policy does not hold",
    2: "undetermined",
    3: "something could not be completed",
}


@dataclass(frozen=True)
class _Finding:
    """The checks of one rule and defence, all seeds."""

    rule: str
    defense: str | None
    checks: list[Check]

    @property
    def worst(self) -> Check:
        return max(self.checks, key=lambda check: VERDICT_ORDER.index(check.verdict))


def render_sarif(outcome: StudyOutcome) -> str:
    """The text of ``report.sarif``: the same text for the same outcome.

    What exceeds the limits of code scanning is left out, the least bad first, and a notification says how much.
    """
    found = [finding for finding in _findings(checks(outcome)) if finding.worst.verdict != "pass"]
    found.sort(key=lambda finding: -VERDICT_ORDER.index(finding.worst.verdict))
    kept = min(len(found), MOST_RESULTS)
    while True:
        text = _text(outcome, found[:kept], len(found) - kept)
        if kept == 0 or len(gzip.compress(text.encode(), 6, mtime=0)) <= MOST_BYTES:
            return text
        kept //= 2


def _findings(all_checks: Iterable[Check]) -> list[_Finding]:
    grouped: dict[tuple[str, str | None], list[Check]] = {}
    for check in all_checks:
        grouped.setdefault((check.rule, check.cell.defense if check.cell else None), []).append(check)
    return [_Finding(rule, defense, own) for (rule, defense), own in grouped.items()]


def _text(outcome: StudyOutcome, found: Sequence[_Finding], left_out: int) -> str:
    spec = SpecText.of(outcome)
    rules = Rules(checks(outcome), [finding.rule for finding in found])
    version = metadata("dosimeter")["Version"]
    driver: dict[str, Any] = {
        "name": "Dosimeter",
        "fullName": f"Dosimeter {version}",
        "version": version,
        "semanticVersion": version,
        **_homepage(),
        "shortDescription": {
            "text": "Measures what a machine-learning model leaks and what protecting it costs."
        },
        "rules": rules.descriptors(),
        "notifications": [
            _descriptor("could-not-complete", "A part of the study could not be completed."),
            _descriptor("left-out", "There are more results than code scanning takes."),
        ],
    }
    taxonomies = rules.taxonomies()
    if taxonomies:
        driver["supportedTaxonomies"] = [
            {"name": taxonomy["name"], "index": number, "guid": taxonomy["guid"]}
            for number, taxonomy in enumerate(taxonomies)
        ]
    category = f"dosimeter/{_path_part(outcome.name)}"
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(outcome, found, left_out)],
        "automationDetails": {
            "id": f"{category}/{_path_part(outcome.run)}",
            "description": {"text": message(outcome.summary or outcome.name, _MOST_MESSAGE)},
            "guid": str(uuid5(NAMESPACE_URL, f"dosimeter:run:{clean_text(outcome.run)}")),
            "correlationGuid": str(uuid5(NAMESPACE_URL, category)),
        },
        "originalUriBaseIds": {
            "%SRCROOT%": {
                "description": {"text": "The root of the repository, or the folder the audit was started in."}
            }
        },
        "artifacts": [_artifact(spec)],
        "results": [_result(outcome, finding, rules, spec) for finding in found],
        **({"taxonomies": taxonomies} if taxonomies else {}),
        "columnKind": "unicodeCodePoints",
        "defaultSourceLanguage": "yaml",
        "properties": {
            "verdict": outcome.verdict,
            "run": clean_text(outcome.run),
            "target": clean_text(outcome.target),
            "queries": outcome.bill.queries,
            "resultsLeftOut": left_out,
        },
    }
    return (
        json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False)
        + "\n"
    )


def _homepage() -> dict[str, str]:
    """The project's address, where its package names one."""
    addresses = dict(line.split(", ", 1) for line in metadata("dosimeter").get_all("Project-URL") or [])
    address = addresses.get("Homepage") or addresses.get("Documentation")
    return {"informationUri": address} if address else {}


def _descriptor(identifier: str, text: str) -> dict[str, Any]:
    described = {"text": text}
    return {"id": identifier, "shortDescription": described, "fullDescription": described, "help": described}


def _invocation(outcome: StudyOutcome, found: Sequence[_Finding], left_out: int) -> dict[str, Any]:
    code = VERDICT_EXIT[outcome.verdict]
    wrong = [finding for finding in found if finding.worst.verdict == "error"]
    notifications = [
        {
            "level": "error",
            "descriptor": {"id": "could-not-complete", "index": 0},
            "message": {"text": message(f"{_where(finding)}: {finding.worst.reason}", _MOST_MESSAGE)},
        }
        for finding in wrong
    ]
    if left_out:
        text = f"{counted(left_out, 'more result')} beyond the limits of code scanning; report.json beside this file has all."
        notifications.append(
            {"level": "warning", "descriptor": {"id": "left-out", "index": 1}, "message": {"text": text}}
        )
    return {
        "commandLine": clean_text(outcome.command),
        "executionSuccessful": outcome.verdict != "error",
        "exitCode": code,
        "exitCodeDescription": _EXIT_WORDS[code],
        **_times(outcome),
        "toolExecutionNotifications": notifications,
    }


def _times(outcome: StudyOutcome) -> dict[str, str]:
    """When it began and ended; nothing where the outcome has no such stamp."""
    try:
        began = datetime.fromisoformat(outcome.started)
        began = began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC)
        ended = began + timedelta(seconds=outcome.bill.seconds or 0.0)
    except (ValueError, OverflowError):
        return {}
    times = {"startTimeUtc": f"{began:%Y-%m-%dT%H:%M:%SZ}"}
    return times if outcome.bill.seconds is None else {**times, "endTimeUtc": f"{ended:%Y-%m-%dT%H:%M:%SZ}"}


def _artifact(spec: SpecText) -> dict[str, Any]:
    """The spec itself, so that its lines can be shown where its file is not at hand."""
    artifact: dict[str, Any] = {
        "location": _location(spec),
        "roles": ["analysisTarget"],
        "sourceLanguage": "yaml",
    }
    if len(spec.text) <= _MOST_SPEC:
        artifact["contents"] = {"text": clean_text(spec.text)}
    return artifact


def _location(spec: SpecText) -> dict[str, Any]:
    return {"uri": quote(clean_text(spec.file)), "uriBaseId": "%SRCROOT%", "index": 0}


def _place(spec: SpecText, line: int, text: str | None = None) -> dict[str, Any]:
    snippet = shortened(one_line(spec.line_text(line)), _MOST_MESSAGE)
    region = {"startLine": line, **({"snippet": {"text": snippet}} if snippet else {})}
    physical = {"artifactLocation": _location(spec), "region": region}
    return {"physicalLocation": physical, **({"message": {"text": text}} if text else {})}


def _result(outcome: StudyOutcome, finding: _Finding, rules: Rules, spec: SpecText) -> dict[str, Any]:
    worst = finding.worst
    kind, level = _KINDS[worst.verdict]
    attack = worst.cell.attack if worst.cell else None
    if worst.finding:
        line = spec.policy_line(finding.rule)
    else:
        line = spec.attack_line(attack) if attack is not None else 1
    related = []
    if worst.finding and attack is not None:
        related.append(_place(spec, spec.attack_line(attack), "the attack"))
    defended = spec.defense_line(finding.defense) if finding.defense else None
    if defended:
        related.append(_place(spec, defended, "the defence"))
    properties: dict[str, Any] = {"verdict": worst.verdict, "seeds": _seeds(finding)}
    if worst.cell:
        properties |= {"attack": clean_text(worst.cell.attack), "defense": clean_text(worst.cell.defense)}
    if worst.finding and worst.finding.measured:
        measured = worst.finding.measured
        properties["measured"] = {name: getattr(measured, name) for name in ("value", "low", "high", "n")}
    identity = _identity(outcome, finding)
    return {
        "ruleId": rules.identifier(finding.rule),
        "ruleIndex": rules.index(finding.rule),
        "kind": kind,
        "level": level,
        "message": {"text": _message(finding)},
        "locations": [_place(spec, line)],
        **({"relatedLocations": related} if related else {}),
        # Code scanning matches alerts by primaryLocationLineHash; computed from the text of the line, as its uploader
        # would, it changes with the bound and is the same for all defences.
        "partialFingerprints": {
            "primaryLocationLineHash": f"{identity[:16]}:1",
            "dosimeterFinding/v1": identity,
        },
        "occurrenceCount": len(finding.checks),
        "properties": properties,
    }


def _identity(outcome: StudyOutcome, finding: _Finding) -> str:
    attack = finding.worst.cell.attack if finding.worst.cell else ""
    return content_hash("dosimeter finding", outcome.name, finding.rule, attack, finding.defense or "")


def _seeds(finding: _Finding) -> list[int]:
    """Those with the worst verdict."""
    return [
        check.cell.seed for check in finding.checks if check.cell and check.verdict == finding.worst.verdict
    ]


def _where(finding: _Finding) -> str:
    if finding.rule == STUDY_RULE or finding.defense is None:
        return "The study"
    defended = "without defence" if finding.defense == "none" else f"behind {finding.defense}"
    return f"{finding.rule} {defended}"


def _message(finding: _Finding) -> str:
    worst = finding.worst
    start = {"undetermined": "Undetermined: ", "error": "Could not be completed: "}.get(worst.verdict, "")
    start = "" if worst.finding else start  # whose text says so itself
    behind = "" if finding.defense in (None, "none") else f" (behind {finding.defense})"
    seeds = _seeds(finding)
    several = (
        f" This is so for {len(seeds)} of {len(finding.checks)} seeds." if len(finding.checks) > 1 else ""
    )
    because = f" Reason: {worst.reason}." if worst.reason else ""
    return message(f"{start}{worst.text.rstrip()}{behind}{because}{several}", _MOST_MESSAGE)


def _path_part(text: str) -> str:
    """A part of a category, without what would divide it."""
    kept = "".join(
        sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "-" for sign in text.lower()
    )
    return kept.strip("-.")[:80] or "study"
