"""Tests of planning: what would run, what cannot, and what fits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dosimeter.core.errors import InputError, SpecError
from dosimeter.study.plan import plan
from dosimeter.study.spec import load_spec


def change(folder: Path, *changes: tuple[str, str], more: str = "") -> Path:
    text = (folder / "audit.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "changed.yaml"
    path.write_text(text + more)
    return path


def test_everything_runs_and_is_added_up(audit_folder: Path):
    planned = plan(load_spec(change(audit_folder, more="seeds: [0, 1]\ndefenses: [none, character-flips]\n")))
    assert [(cell.cell.defense, cell.cell.seed) for cell in planned.cells] == [
        ("none", 0), ("none", 1), ("character-flips", 0), ("character-flips", 1),
    ]  # fmt: skip
    assert planned.queries == 240
    assert planned.seconds == pytest.approx(0.24)
    assert planned.exit_code == 0
    assert planned.target_access == "takes text, returns label, grants query"


def test_cells_are_admitted_in_order_as_long_as_they_fit(audit_folder: Path, trouble: Callable[..., Path]):
    path = change(
        audit_folder,
        ("[label-skew]", "[trouble, label-skew]"),
        more="seeds: [0, 1]\nbudget: {queries: 65}\n",
    )
    planned = plan(load_spec(path))
    assert [cell.status for cell in planned.cells] == ["run", "run", "run", "over budget"]
    assert planned.cells[3].reason == (
        "budget too small: it may need 60 queries and 1 of 65 are left. "
        "Raise budget.queries by 59, or choose a smaller attack."
    )
    assert planned.queries == 64
    assert planned.exit_code == 2


def test_a_cell_that_cannot_run_says_why_and_the_others_go_on(audit_folder: Path):
    planned = plan(load_spec(change(audit_folder, more="defenses: [none, jpeg-inputs]\n")))
    assert [cell.status for cell in planned.cells] == ["run", "cannot run"]
    assert "jpeg-inputs cannot run on target 'labels'" in str(planned.cells[1].reason)
    assert planned.exit_code == 4


def test_a_missing_extra_concerns_its_cell_alone(audit_folder: Path, monkeypatch: pytest.MonkeyPatch):
    import dosimeter.core.method_spec as method_spec

    real = method_spec.load

    def without_torch(name: str):
        if name == "encoder-inference":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name)

    monkeypatch.setattr(method_spec, "load", without_torch)
    path = change(audit_folder, ("[label-skew]", "[label-skew, encoder-inference]"))
    planned = plan(load_spec(path))
    assert [cell.status for cell in planned.cells] == ["run", "cannot run"]
    assert "pip install 'dosimeter[torch]'" in str(planned.cells[1].reason)


def test_settings_that_methods_refuse_are_collected(audit_folder: Path):
    path = change(
        audit_folder,
        ("[label-skew]", "[{label-skew: {inputs: 0}}]"),
        more="defenses: [none, {character-flips: {rate: 7}}, label-skew]\n",
    )
    with pytest.raises(SpecError) as caught:
        plan(load_spec(path))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["line 4", "line 5", "line 5"]
    assert "'label-skew' is of kind attack, not defense" in caught.value.problems[2]


def test_data_of_another_kind_is_refused(audit_folder: Path):
    with pytest.raises(
        InputError, match=r"data.public 'digits' holds image inputs, but target 'labels' takes text"
    ):
        plan(load_spec(change(audit_folder, ("public: words.txt", "public: digits"))))


def test_what_has_no_effect_is_noted(audit_folder: Path):
    path = change(
        audit_folder,
        ("public: words.txt", "public: words.txt, members: m.npz"),
        more="budget: {seconds: 0.001}\n",
    )
    notes = plan(load_spec(path)).notes
    assert notes[0] == "data.members is not used by any attack of this spec."
    assert "budget.seconds is 0.001" in notes[1]


def test_a_secret_that_is_not_set_is_missed_before_anything_is_sent(audit_folder: Path):
    recorded = "{kind: recorded, inputs: words.txt, answers: labels.npy, modality: text, returns: label}"
    http = (
        "{kind: http, url: 'http://127.0.0.1:1/x', authorized: true, modality: text, returns: label, "
        "request: {x: '{{inputs}}'}, response: y, headers: {Authorization: 'Bearer ${NO_SUCH_VARIABLE}'}}"
    )
    with pytest.raises(InputError, match="NO_SUCH_VARIABLE"):
        plan(load_spec(change(audit_folder, (recorded, http))))
