"""Tests of the store on a real PostgreSQL server: many writers, locks that all machines see, a server that goes away."""

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dosimeter.core.errors import InputError
from dosimeter.core.ledger import Ledger
from dosimeter.study.engine import LocalEngine
from dosimeter.study.home import Home, InUse
from dosimeter.study.outcome import comparable
from dosimeter.study.run import run_study
from dosimeter.study.spec import load_spec
from dosimeter.study.store import Store, StoreError
from support.postgres import VARIABLE, PostgresServer, server_or_skip
from support.store_writer import result

pytestmark = pytest.mark.postgres
WRITER = Path(__file__).parents[1] / "support" / "store_writer.py"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    started = server_or_skip()
    yield started
    started.remove()


@pytest.fixture(scope="module")
def base_url(request: pytest.FixtureRequest) -> str:
    return os.environ.get(VARIABLE) or request.getfixturevalue("server").url()


@pytest.fixture
def url(base_url: str) -> Iterator[str]:
    """Of a schema of the test's own."""
    schema = f"dosimeter_test_{secrets.token_hex(6)}"
    execute(base_url, f"CREATE SCHEMA {schema}")
    yield f"{base_url}{'&' if '?' in base_url else '?'}options=-csearch_path%3D{schema}"
    execute(base_url, f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def own_url(server: PostgresServer) -> str:
    """Of an empty database on a server that the test may stop."""
    if not (server.data / "postmaster.pid").exists():
        server.start()
    execute(server.url(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return server.url()


def execute(url: str, *statements: str) -> list[Any]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = [connection.execute(text(statement)) for statement in statements]
        rows = list(found[-1]) if found[-1].returns_rows else []
    engine.dispose()
    return rows


@pytest.fixture
def opened() -> Iterator[Callable[[str], Store]]:
    stores: list[Store] = []

    def open_store(url: str) -> Store:
        stores.append(Store(url))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def begin(store: Store) -> str:
    return store.create(name="n", spec_digest="d", spec_text="text", threads=1, out=None).id


def test_runs_and_cells_come_back(url: str, opened: Callable[[str], Store]):
    store = opened(url.replace("postgresql+psycopg://", "postgresql://"))
    run = begin(store)
    store.save(run, "a", result(1), seconds=1)
    store.save(run, "a", result(2), seconds=2)
    assert opened(url).results(run) == {"a": result(2)}
    assert opened(url).find(run[:18]).seconds == 2
    assert [found.id for found in store.unfinished("d", None)] == [run]


def test_four_processes_open_an_empty_database_and_write_at_once(url: str, opened: Callable[[str], Store]):
    starts = str(time.time() + 1.5)
    shared = "20260101-000000-shared"
    runs, cells = 6, 5
    command = [sys.executable, str(WRITER), "write", url, shared, starts, str(runs), str(cells)]
    store = opened(url)
    store.create(name="n", spec_digest="s", spec_text="t", threads=1, out=None, identifier=shared)
    execute(
        url, "DROP TABLE cells"
    )  # half of the tables is there: what one that was killed in between leaves
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [""] * 4
    written = [run for run in store.runs() if run.spec_digest == "d"]
    assert len(written) == len({run.id for run in written}) == 4 * runs
    expected = {f"cell {number}": result(number) for number in range(cells)}
    assert all(store.results(run.id) == expected for run in [*written, store.find(shared)])
    assert execute(url, "SELECT count(*) FROM cells") == [((4 * runs + 1) * cells,)]


def test_a_run_is_held_by_one_process_and_let_go_by_its_death(url: str, opened: Callable[[str], Store]):
    store = opened(url)
    run = begin(store)
    other = subprocess.Popen([sys.executable, str(WRITER), "hold", url, run], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with (
        pytest.raises(InUse, match=rf"another process is working on run {run} of the store .*Wait for it"),
        store.alone(run),
    ):
        pass
    other.kill()
    other.communicate()
    deadline = time.monotonic() + 10
    while True:
        try:
            with store.alone(run):
                break
        except InUse:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with store.alone(run), store.alone("another"), pytest.raises(InUse), opened(url).alone(run):
        pass


def test_audits_side_by_side_do_not_take_each_others_runs(
    url: str, opened: Callable[[str], Store], trouble: Callable[..., Path]
):
    path = trouble("{mode: interrupt-once}")
    store = opened(url)

    def audit(home: str) -> str:
        folder = Home(path.parent / home)
        return run_study(
            load_spec(path), out=path.parent / home / "out", home=folder, store=store, jobs=1
        ).run

    with pytest.raises(KeyboardInterrupt):
        audit("one")
    [unfinished] = store.runs()
    with pytest.raises(KeyboardInterrupt):
        audit("two")  # another machine: the bill and the answers of the first are not there
    assert len(store.runs()) == 2
    with opened(url).alone(unfinished.id):  # as if by a process that shares the state folder over a network
        assert audit("one") != unfinished.id
    assert audit("one") == unfinished.id
    assert sorted(run.status for run in store.runs()) == ["finished", "finished", "running"]


def test_a_reader_needs_no_right_to_create(url: str, base_url: str, opened: Callable[[str], Store]):
    run = begin(opened(url))
    reader, schema = f"reader_{secrets.token_hex(4)}", url.rpartition("%3D")[2]
    execute(
        base_url,
        f"CREATE ROLE {reader} LOGIN PASSWORD 'x'",
        f"GRANT USAGE ON SCHEMA {schema} TO {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
    )
    try:
        theirs = opened(re.sub(r"//[^@]+@", f"//{reader}:x@", url))
        assert [found.id for found in theirs.runs()] == [run]
        with pytest.raises(StoreError, match="permission denied"):
            begin(theirs)
    finally:
        execute(base_url, f"DROP OWNED BY {reader}", f"DROP ROLE {reader}")


class StopsAfterOneCell(LocalEngine):
    """An engine that calls ``then`` between two cells."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__(1)
        self.then = then

    def run(self, bench: Any, jobs: Any, materials: Any) -> Any:
        for number, done in enumerate(super().run(bench, jobs, materials)):
            if number == 1:
                self.then()
            yield done


def test_a_server_that_goes_away_in_mid_study(
    server: PostgresServer, own_url: str, opened: Callable[[str], Store], trouble: Callable[..., Path]
):
    path = trouble("{}", "seeds: [0, 1, 2]\n")
    store = opened(own_url)
    home, out = Home(path.parent / "home"), path.parent / "out"
    with pytest.raises(StoreError) as caught:
        run_study(
            load_spec(path), out=out, home=home, store=store, engine=lambda *_: StopsAfterOneCell(server.stop)
        )
    said = str(caught.value)
    assert re.fullmatch(
        r"the store postgresql\+psycopg://auditor:\*\*\*@127.*failed: .*what was stored is kept\.", said
    )
    assert server.password not in said
    assert caught.value.exit_code == 3
    with pytest.raises(
        InputError, match=r"cannot open the store .*Connection refused.*Start or repair the database"
    ):
        Store(own_url)
    server.start()
    [run] = store.runs()
    assert len(store.results(run.id)) == 1
    outcome = run_study(load_spec(path), out=out, home=home, store=opened(own_url), jobs=1)
    assert outcome.run == run.id
    assert (outcome.bill.sent, Ledger(home.ledger(run.id)).used) == (
        2,
        2,
    )  # the same two words for every seed
    undisturbed = run_study(load_spec(path), out=out, home=Home(path.parent / "elsewhere"), jobs=1)
    assert comparable(outcome) == comparable(undisturbed)


def test_a_server_that_was_started_again_is_not_noticed(
    server: PostgresServer, own_url: str, opened: Callable[[str], Store]
):
    store = opened(own_url)
    run = begin(store)
    with store.alone(run):
        store.save(run, "a", result(1), seconds=1)
        server.stop()
        server.start()
        store.save(run, "b", result(2), seconds=2)
        with pytest.raises(InUse), opened(own_url).alone(run):
            pass
        server.stop()
        server.start()
        with opened(own_url).alone(run), pytest.raises(StoreError, match="was taken over by another process"):
            store.save(run, "c", result(3), seconds=3)
    assert set(opened(own_url).results(run)) == {"a", "b"}


def test_passwords_are_never_said(server: PostgresServer, own_url: str, opened: Callable[[str], Store]):
    wrong = own_url.replace(server.password, "hunter%402")
    for url in (
        wrong,
        f"{own_url}?sslpassword=hunter%402&sslmode=require",
        own_url.replace(f":{server.password}", "") + "?password=hunter%402",
        f"postgresql+psycopg://u:hunter@2@127.0.0.1:{server.port}x/d",
        "postgresql://u:hun/ter@2@host/d",
        "nonsense://u:hunter%402@host/d",
        "mysql://u:hunter%402@host/d",
    ):
        with pytest.raises(InputError) as caught:
            Store(url)
        assert not re.search(r"hun|ter@2|ter%402", str(caught.value)), caught.value
    with pytest.raises(InputError, match="password authentication failed for user"):
        Store(wrong)
    assert server.password not in repr(opened(own_url)._engine)


def test_options_of_the_url_reach_the_driver(own_url: str):
    with pytest.raises(InputError, match="server does not support SSL, but SSL was required"):
        Store(f"{own_url}?sslmode=require")
    with pytest.raises(InputError, match="invalid sslmode value"):
        Store(f"{own_url}?sslmode=perhaps")
