"""Tests of the audit spec: what is accepted, and how what is wrong is said."""

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dosimeter.core.errors import DosimeterError, InputError, SpecError
from dosimeter.study.spec import Bound, StudySpec, load_spec

MANY_MISTAKES = """\
name: ""
target: {kind: torch, factry: "a:b", returns: scors}
atacks: [label-skew]
attacks:
  - label-skew: {inputs: 0}
  - labelskew
defenses: [none, {jpeg-inputs: {qualty: 3}}]
policy: {"label-skew.skew": 0.5}
budget: {querys: 3, seconds: -1}
seed: 1
seeds: [1, 2]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "audit.yaml"
    path.write_text(text)
    return path


def test_reads_what_is_written(audit_folder: Path):
    spec = load_spec(audit_folder / "audit.yaml")
    assert spec.name == "words"
    assert [method.slug for method in spec.attacks] == ["label-skew"]
    assert [method.label for method in spec.defenses] == ["none"]
    assert spec.all_seeds == (0,)
    assert spec.origin.folder == audit_folder
    assert spec.origin.text == (audit_folder / "audit.yaml").read_text()


def test_all_problems_are_said_at_once_with_their_lines(audit_folder: Path):
    with pytest.raises(SpecError) as caught:
        load_spec(write(audit_folder, MANY_MISTAKES))
    problems = "\n".join(caught.value.problems)
    for expected in (
        "line 1: name: ",
        "line 2: target.factory: is missing",
        "line 2: target.returns: should be 'embedding', 'scores' or 'label'",
        "line 2: target.factry: unknown key; did you mean 'factory'?",
        "line 3: atacks: unknown key; did you mean 'attacks'?",
        "line 5: attacks[0].label-skew.inputs: should be greater than or equal to 1",
        "line 6: attacks[1]: there is no method 'labelskew'",
        "line 7: defenses[1].jpeg-inputs.qualty: unknown key; did you mean 'quality'?",
        "line 8: policy.label-skew.skew: expected a relation and a number",
        "line 9: budget.querys: unknown key; did you mean 'queries'?",
        "line 9: budget.seconds: should be greater than 0",
        "line 11: seeds: give 'seed' or 'seeds', not both",
    ):
        assert expected in problems
    assert len(caught.value.problems) == 12
    numbers = [int(problem.split(":")[0].removeprefix("line ")) for problem in caught.value.problems]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("attacks: [label-skew]", "attacks: []"), "give at least one attack"),
        (("attacks: [label-skew]", "attacks: [none]"), "'none' is a defence"),
        (("attacks: [label-skew]", "attacks: [label-skew, label-skew]"), "'label-skew' is given twice"),
        (
            ("attacks: [label-skew]", "attacks: [{label-skew: 3}]"),
            "expected a slug, or one slug with its settings",
        ),
        (("attacks: [label-skew]", "attacks: [label-skew]\ndefenses: [none, none]"), "'none' is given twice"),
        (("attacks: [label-skew]", "attacks: [label-skew]\nseeds: [1, 1]"), "different whole numbers"),
        (
            ("attacks: [label-skew]", 'attacks: [label-skew]\npolicy: {"x.y": "<= 1"}'),
            "'x.y' is not a metric of an attack",
        ),
        (("kind: recorded", "kind: recoded"), "recorded"),
        (("name: words", "- words"), "line"),
    ],
)
def test_refuses(audit_folder: Path, change: tuple[str, str], message: str):
    text = (audit_folder / "audit.yaml").read_text().replace(*change)
    with pytest.raises(InputError, match=message):
        load_spec(write(audit_folder, text))


def test_a_list_is_no_spec(audit_folder: Path):
    with pytest.raises(SpecError, match="expected keys such as name"):
        load_spec(write(audit_folder, "- a\n- b\n"))


def test_a_secret_is_neither_accepted_nor_repeated(audit_folder: Path, monkeypatch: pytest.MonkeyPatch):
    http = (
        "{kind: http, url: 'http://127.0.0.1:1/x', authorized: true, modality: text, returns: label, "
        "request: {x: '{{inputs}}'}, response: y, headers: {Authorization: 'HEADER'}}"
    )
    text = f"name: x\ntarget: {http}\nattacks: [label-skew]\n"
    with pytest.raises(SpecError, match="looks like a secret") as caught:
        load_spec(write(audit_folder, text.replace("HEADER", "Bearer hunter2")))
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("MY_KEY", "hunter2")
    spec = load_spec(write(audit_folder, text.replace("HEADER", "Bearer ${MY_KEY}")))
    assert "${MY_KEY}" in spec.origin.text
    assert "hunter2" not in spec.origin.text + spec.model_dump_json()


def test_the_digest_follows_text_folder_and_trust(audit_folder: Path):
    path = audit_folder / "audit.yaml"
    first = load_spec(path).digest
    assert load_spec(path).digest == first
    assert load_spec(path, trust=True).digest != first
    (audit_folder / "other").mkdir()
    assert load_spec(write(audit_folder / "other", path.read_text())).digest != first
    assert load_spec(write(audit_folder, path.read_text() + "seed: 1\n")).digest != first


def test_a_spec_made_in_python_shows_itself_as_yaml(audit_folder: Path):
    spec = StudySpec.model_validate(
        {
            "name": "python",
            "target": {
                "kind": "recorded",
                "inputs": "words.txt",
                "answers": "labels.npy",
                "modality": "text",
                "returns": "label",
            },
            "attacks": ["label-skew"],
        }
    )
    again = load_spec(write(audit_folder, spec.origin.text))
    assert again.model_dump() == spec.model_dump()


@pytest.mark.parametrize(
    ("text", "relation", "value"),
    [
        ("<= 0.05", "<=", 0.05),
        ("==0", "==", 0.0),
        (" >  -1e3 ", ">", -1000.0),
        (">=.5", ">=", 0.5),
        ("< 1", "<", 1.0),
    ],
)
def test_bounds(text: str, relation: str, value: float):
    bound = Bound.model_validate(text)
    assert (bound.relation, bound.value) == (relation, value)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=string.ascii_letters + string.digits + " :-{}[]\"'\n.,<=>#&*!|%@", max_size=120))
def test_any_text_is_a_spec_or_a_sentence(audit_folder: Path, text: str):
    try:
        load_spec(write(audit_folder, text))
    except DosimeterError as error:
        assert str(error)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.dictionaries(
        st.sampled_from(
            ["name", "target", "attacks", "defenses", "policy", "budget", "seed", "seeds", "data", "x"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-5, 5) | st.text(string.ascii_letters, max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["kind", "label-skew", "queries"]), inner)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_values_are_a_spec_or_sentences(audit_folder: Path, value: dict):
    import yaml

    try:
        load_spec(write(audit_folder, yaml.safe_dump(value)))
    except DosimeterError as error:
        assert str(error)


def test_reports_name_the_file_from_the_root_of_its_repository(
    audit_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    audits = audit_folder / "project" / "audits"
    audits.mkdir(parents=True)
    path = write(audits, (audit_folder / "audit.yaml").read_text())
    assert load_spec(path).origin.file == "project/audits/audit.yaml"
    monkeypatch.chdir(audits)
    assert load_spec("audit.yaml").origin.file == "audit.yaml"
    (audit_folder / "project" / ".git").mkdir()
    assert load_spec("audit.yaml").origin.file == load_spec(path).origin.file == "audits/audit.yaml"
    assert load_spec(audit_folder / "audit.yaml").origin.file == "audit.yaml"
