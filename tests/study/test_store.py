"""Tests of the store of runs."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Timer

import pytest

from dosimeter.core.errors import InputError
from dosimeter.core.result import Metric, Provenance, Result
from dosimeter.study.home import InUse
from dosimeter.study.outcome import Bill, Cell, CellOutcome, StudyOutcome
from dosimeter.study.store import RunRecord, Store, StoreError

RESULT = Result(
    method="m",
    title="t",
    verdict="pass",
    summary="s",
    metrics=[Metric(name="x", value=0.5)],
    provenance=Provenance(seed=0),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/state/store.sqlite")


def begin(store: Store, digest: str = "d", out: Path | None = None) -> RunRecord:
    return store.create(name="n", spec_digest=digest, spec_text="text", threads=1, out=out)


def ended(run: RunRecord) -> StudyOutcome:
    return StudyOutcome(
        run=run.id,
        name="n",
        verdict="pass",
        summary="s",
        target="t",
        target_access="a",
        spec="text",
        command="c",
        started=run.started,
        cells=[CellOutcome(cell=Cell(attack="m"), result=RESULT)],
        bill=Bill(queries=1),
    )


def test_cells_come_back_as_they_were(store: Store):
    run = begin(store)
    store.save(run.id, "a", RESULT, seconds=1.5)
    store.save(run.id, "a", RESULT, seconds=2.5)
    assert store.results(run.id) == {"a": RESULT}
    assert store.find(run.id).seconds == 2.5


def test_unfinished_runs_are_found_by_digest_and_folder(store: Store, tmp_path: Path):
    first, second = begin(store, out=tmp_path / "a"), begin(store, "other")
    assert [run.id for run in store.unfinished("d", None)] == [first.id]
    assert [run.id for run in store.unfinished("d", tmp_path / "a")] == [first.id]
    assert store.unfinished("d", tmp_path / "b") == []
    store.finish(first.id, ended(first))
    assert store.unfinished("d", None) == []
    assert [run.id for run in store.unfinished("other", None)] == [second.id]


def test_the_outcome_comes_back_and_only_of_a_finished_run(store: Store):
    run = begin(store)
    with pytest.raises(InputError, match="has not ended"):
        store.outcome(run.id)
    store.finish(run.id, ended(run))
    assert store.outcome(run.id) == ended(run)
    assert store.find(run.id).verdict == "pass"


def test_runs_are_found_by_the_beginning_of_their_names(store: Store):
    for name in ("x", "last"):
        with pytest.raises(InputError, match=r"no runs in the store .* yet; 'dosimeter audit' makes one"):
            store.find(name)
    run, other = begin(store), begin(store)
    with pytest.raises(InputError, match="no run begins with 'x'"):
        store.find("x")
    assert store.find(run.id).id == run.id
    assert store.find("last").id in (run.id, other.id)
    with pytest.raises(InputError, match="several runs begin"):
        store.find(run.id[:4])


def test_two_stores_on_one_file_see_each_other(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/store.sqlite"
    one, two = Store(url), Store(url)
    run = begin(one)
    two.save(run.id, "a", RESULT, seconds=1)
    assert set(one.results(run.id)) == {"a"}


def test_a_new_file_that_another_process_is_just_setting_up_is_waited_for(tmp_path: Path):
    path = tmp_path / "store.sqlite"
    first = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")
    first.execute("CREATE TABLE something (number INTEGER)")
    ready = Timer(0.2, first.execute, ["COMMIT"])
    ready.start()
    store = Store(f"sqlite:///{path}")
    ready.join()
    assert store.runs() == []
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_new_store_may_be_opened_by_many_at_once(tmp_path: Path):
    together = Barrier(6, timeout=10)

    def open_new(number: int) -> list[RunRecord]:
        together.wait()
        return Store(f"sqlite:///{tmp_path}/{number // 6}.sqlite").runs()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_new, range(30))) == [[]] * 30


def test_a_store_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write into"):
        Store(f"sqlite:///{tmp_path}/file/store.sqlite")
    with pytest.raises(InputError, match="cannot open the store"):
        (tmp_path / "no.sqlite").write_text(
            "this is no database, but it is long enough to look like one" * 20
        )
        Store(f"sqlite:///{tmp_path}/no.sqlite")
    with pytest.raises(InputError, match="Give a URL such as"):
        Store("nonsense")


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch, store: Store):
    store._engine.url = store._engine.url.set(password="hunter2", username="u", host="h")
    with pytest.raises(InputError) as caught:
        store.find("x")
    assert "hunter2" not in str(caught.value)


def test_a_store_that_goes_away_says_so(store: Store):
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE cells")
    with pytest.raises(StoreError, match="failed: no such table"):
        store.results("x")


def test_a_run_is_held_by_one_process_at_a_time(store: Store, tmp_path: Path):
    run = begin(store).id
    other = Store(f"sqlite:///{tmp_path}/state/store.sqlite")  # whatever state folder it is used with
    with store.alone(run):
        with (
            pytest.raises(InUse, match=rf"working on run {run} of the store .*Wait for it to end"),
            other.alone(run),
        ):
            pass
        with other.alone("another"):
            pass
    with other.alone(run):
        pass
    assert [path.name for path in (tmp_path / "state").glob("*.lock")] == []
    in_memory = Store("sqlite://")
    with in_memory.alone("x"), in_memory.alone("x"):
        pass
