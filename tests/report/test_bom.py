import json
import re

import pytest
from hypothesis import given, settings

from dosimeter.report.bom import render_bom

from .outcomes import studies

validation = pytest.importorskip("cyclonedx.validation.json")
SchemaVersion = pytest.importorskip("cyclonedx.schema").SchemaVersion
VALIDATOR = validation.JsonStrictValidator(SchemaVersion.V1_6)


def bom_of(outcome):
    text = render_bom(outcome)
    assert VALIDATOR.validate_str(text) is None
    return json.loads(text)


def properties(component) -> dict[str, str]:
    return {item["name"]: item["value"] for item in component.get("properties", [])}


def test_a_realistic_audit(outcome):
    bom = bom_of(outcome)
    target = bom["metadata"]["component"]
    assert (target["type"], target["name"]) == ("machine-learning-model", "digits service")
    assert properties(target)["dosimeter:verdict"] == "fail"
    assert properties(target)["dosimeter:tag:nist-ai-100-2"] == "NISTAML.031 Model Extraction"
    card = target["modelCard"]
    figures = card["quantitativeAnalysis"]["performanceMetrics"]
    measured = [metric for done in outcome.cells for metric in done.result.metrics]
    assert [float(found["value"]) for found in figures] == [metric.value for metric in measured]
    assert figures[1]["confidenceInterval"] == {
        "lowerBound": repr(measured[1].low),
        "upperBound": repr(measured[1].high),
    }
    assert figures[1]["slice"] == "no defence, seed 0, n 40, 95% cluster bootstrap over objectives"
    considered = card["considerations"]
    assert considered["technicalLimitations"] == outcome.cells[0].result.limits
    assert considered["performanceTradeoffs"][1] == (
        "Encoder inference, defence jpeg, seed 0: identified 0, top-score 0.22, top-z "
        f"{measured[len(measured) // 2 + 2].value:.4g}, grubbs-p 0.1874"
    )
    [data] = bom["components"]
    assert (data["type"], data["name"]) == ("data", "objectives")
    assert data["hashes"] == [{"alg": "SHA-256", "content": "0a" * 32}]
    assert card["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert bom["dependencies"][0] == {"ref": "target", "dependsOn": [data["bom-ref"]]}
    tools = {tool["name"]: tool for tool in bom["metadata"]["tools"]["components"]}
    assert list(tools) == ["dosimeter", "python", "numpy", "torch"]
    assert tools["numpy"]["purl"] == "pkg:pypi/numpy@1.26.4"


def test_digests_that_are_no_sha256_stay_properties(outcome):
    done = outcome.cells[0]
    provenance = done.result.provenance.model_copy(update={"data_digests": {"train": "f7" * 16}})
    changed = done.model_copy(update={"result": done.result.model_copy(update={"provenance": provenance})})
    [data] = bom_of(outcome.model_copy(update={"cells": [changed]}))["components"]
    assert "hashes" not in data
    assert properties(data) == {"dosimeter:digest": "f7" * 16}


def test_the_serial_number_is_that_of_the_run(outcome):
    first, again = bom_of(outcome), bom_of(outcome)
    assert first == again
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", first["serialNumber"])
    assert bom_of(outcome.model_copy(update={"run": "other"}))["serialNumber"] != first["serialNumber"]


def test_figures_without_a_value_are_named(hostile):
    card = bom_of(hostile)["metadata"]["component"]["modelCard"]
    assert any("12 records cannot resolve 0.1%" in value for value in properties(card).values())


@settings(max_examples=15, deadline=None)
@given(studies())
def test_any_study_is_a_valid_bom_that_says_its_verdict(outcome):
    bom = bom_of(outcome)
    assert properties(bom["metadata"]["component"])["dosimeter:verdict"] == outcome.verdict


def test_nothing_run(empty):
    bom = bom_of(empty)
    assert bom["components"] == []
    assert "timestamp" not in bom["metadata"]


def test_the_next_edition_of_the_format_accepts_it_too(outcome):
    newer = render_bom(outcome).replace('"specVersion": "1.6"', '"specVersion": "1.7"')
    assert validation.JsonStrictValidator(SchemaVersion.V1_7).validate_str(newer) is None
