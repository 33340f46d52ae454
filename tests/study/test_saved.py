import pytest

from dosimeter.core.errors import InputError
from dosimeter.study.saved import read_report, saved_outcome
from dosimeter.study.store import Store
from support.outcomes import measured, outcome


@pytest.fixture
def store(tmp_path):
    return Store(f"sqlite:///{tmp_path}/store.sqlite")


def test_a_run_a_file_and_a_folder_name_the_same_outcome(store, tmp_path):
    run = store.create(name="words", spec_digest="d", spec_text="", threads=1, out=tmp_path)
    ended = outcome(measured(records={"leak": [0, 1, 1]}), run=run.id)
    store.finish(run.id, ended)
    (tmp_path / "report.json").write_text(ended.to_json())
    names = [run.id, run.id[:12], "last", str(tmp_path / "report.json"), str(tmp_path)]
    assert [saved_outcome(name, lambda: store) for name in names] == [ended] * 5


def test_a_run_that_has_not_ended_is_refused(store):
    run = store.create(name="words", spec_digest="d", spec_text="", threads=1, out=None)
    with pytest.raises(InputError, match=f"run {run.id} has not ended"):
        saved_outcome("last", lambda: store)


@pytest.mark.parametrize("name", ["gone/report.json", "gone.json"])
def test_a_report_that_is_not_there_is_named(store, name):
    with pytest.raises(InputError, match=f"there is no report {name}"):
        saved_outcome(name, lambda: store)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "Invalid JSON"), ('{"run": 3}', "run: "), ("[]", "Input should")]
)
def test_something_else_than_a_report_is_refused(tmp_path, text, said):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no report of this version of Dosimeter") as refused:
        read_report(path)
    assert said in str(refused.value)
