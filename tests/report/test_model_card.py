import json

import pytest
import yaml
from hypothesis import given, settings
from markdown_it import MarkdownIt

from dosimeter.report.model_card import render_model_card

from .outcomes import VERDICTS, studies


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("huggingface_hub")


def test_the_hub_reads_the_figures(outcome, hub):
    card = hub.ModelCard(render_model_card(outcome), ignore_metadata_errors=False)
    assert card.data.model_name == "digits service"
    assert card.data.get("license") is None
    assert {"dosimeter", "AML.T0014", "NISTAML.031"} <= set(card.data.tags)
    measured = [
        (f"{done.cell.attack}.{metric.name}", metric.value, metric.low, done.cell.defense)
        for done in outcome.cells
        for metric in done.result.metrics
    ]
    read = [
        (found.metric_type, found.metric_value, found.metric_args.get("low"), found.metric_args["defense"])
        for found in card.data.eval_results
    ]
    assert read == measured
    first = card.data.eval_results[0]
    assert (first.dataset_name, first.dataset_revision) == ("objectives", "sha256:" + "0a" * 32)
    assert (first.task_type, first.task_name) == ("other", "security audit")
    assert first.metric_name == "Encoder inference: identified (no defence, seed 0)"
    again = hub.ModelCardData(**{**card.data.to_dict(), "model_name": None})
    assert again.eval_results == card.data.eval_results


def test_what_a_person_reads(outcome):
    text = render_model_card(outcome)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Audit of digits service",
        "## What was tested",
        "## Findings",
        "### Encoder inference, no defence, seed 0",
        "### Encoder inference, behind jpeg, seed 0",
        "## Limits",
        "## Standard tags",
        "## How to run it again",
    ]
    assert "**✕ Fail.** The policy does not hold." in text
    assert (
        "| ✕ Fail | `encoder-inference.top-score <= 0.25` | 0.86 \\[0.7988, 0.9087\\] (n = 40, 95% cluster"
        in text
    )
    assert "[AML.T0014 Discover AI Model Family](https://atlas.mitre.org/techniques/AML.T0014)" in text
    assert f"```console\n{outcome.command}\n```" in text
    assert f"```yaml\n{outcome.spec}```" in text
    assert "| `planted` (control) | 1 (n = 1) |" in text


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_is_said_in_words(outcome, verdict):
    text = render_model_card(outcome.model_copy(update={"verdict": verdict, "findings": []}))
    assert f" {verdict.capitalize()}.**" in text


def test_hostile_texts_make_no_markup_and_break_no_metadata(hostile, hub):
    text = render_model_card(hostile)
    card = hub.ModelCard(text, ignore_metadata_errors=False)
    assert len(card.data.eval_results) == sum(
        metric.value is not None for done in hostile.cells for metric in done.result.metrics
    )
    page = MarkdownIt("commonmark").enable("table").render(card.text)
    assert "<script" not in page
    assert "<img" not in page
    assert "javascript:" not in [part.partition('"')[0] for part in page.split('href="')[1:]]
    assert not set(text) & set(map(chr, [*range(9), 11, 12, *range(14, 32), 0x7F, 0x202E]))


@settings(max_examples=40, deadline=None)
@given(studies())
def test_any_study_has_metadata(outcome):
    text = render_model_card(outcome)
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert body.startswith("\n# Audit of ")
    json.dumps(metadata, allow_nan=False)
    measured = sum(bool(done.result.metrics) for done in outcome.cells)
    assert len(metadata.get("model-index", [{"results": []}])[0]["results"]) == measured


def test_nothing_run(empty, hub):
    card = hub.ModelCard(render_model_card(empty), ignore_metadata_errors=False)
    assert card.data.eval_results is None
    assert "Nothing was run" in card.text
