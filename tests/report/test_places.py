import pytest

from dosimeter.report.places import NO_FILE, SpecText
from dosimeter.study import example

SPEC = """\
name: words
target: {kind: recorded}
attacks:
  - label-skew:
      inputs: 5
  - {slug: encoder-inference}
  - gone-plugin/probe
defenses: [none, {jpeg-inputs: {quality: 30}}]
policy:
  # a remark
  "label-skew.skew": "<= 0.5"
"""


@pytest.fixture
def spec(outcome) -> SpecText:
    return SpecText.of(outcome.model_copy(update={"spec": SPEC, "spec_file": "audits/words.yaml"}))


def test_lines_of_what_a_spec_names(spec):
    assert spec.file == "audits/words.yaml"
    assert spec.policy_line("label-skew.skew") == 11
    assert spec.line_text(11) == '"label-skew.skew": "<= 0.5"'
    assert [spec.attack_line(slug) for slug in ("label-skew", "encoder-inference", "gone-plugin/probe")] == [
        4,
        6,
        7,
    ]
    assert spec.defense_line("jpeg-inputs(quality=30)") == 8
    assert spec.defense_line("none") is None


def test_what_is_not_there_is_on_the_line_of_what_would_hold_it(spec):
    assert spec.policy_line("other.metric") == 9
    assert spec.attack_line("other") == 3
    assert spec.defense_line("other") is None


@pytest.mark.parametrize(
    "text", ["", "a: [", "- 1", "just words", "attacks: 5", "policy: {a: {b: [}", "x: 2026-99-99"]
)
def test_texts_that_are_no_spec_have_a_first_line(outcome, text):
    spec = SpecText.of(outcome.model_copy(update={"spec": text, "spec_file": ""}))
    assert spec.file == NO_FILE
    assert spec.policy_line("a.b") == spec.attack_line("a") == 1
    assert spec.line_text(99) == ""


def test_the_embedded_example_has_its_lines(outcome):
    origin = example.spec().origin
    assert origin.file == "dosimeter/study/example.yaml"
    spec = SpecText.of(outcome.model_copy(update={"spec": origin.text, "spec_file": origin.file}))
    assert "encoder-inference.identified" in spec.line_text(spec.policy_line("encoder-inference.identified"))
    assert spec.line_text(spec.attack_line("encoder-inference")) == "- encoder-inference:"
