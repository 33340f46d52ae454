import sqlite3
from threading import Timer

import pytest

from dosimeter.core.database import open_database, transaction
from dosimeter.core.errors import InputError, WriteError

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER UNIQUE);"


def numbers(connection):
    return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY number")]


def test_a_transaction_happens_whole_or_not_at_all(tmp_path):
    connection = open_database(tmp_path / "a.sqlite", SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO numbers VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.execute("INSERT INTO numbers VALUES (2)")
        connection.execute("INSERT INTO numbers VALUES (1)")
    assert numbers(connection) == [1]
    with transaction(connection):
        connection.execute("INSERT INTO numbers VALUES (3)")
    assert numbers(open_database(tmp_path / "a.sqlite", SCHEMA)) == [1, 3]


def test_a_full_disk_is_one_sentence_that_names_the_file(tmp_path):
    connection = open_database(tmp_path / "a.sqlite", "CREATE TABLE texts (text TEXT);")
    connection.execute("PRAGMA max_page_count = 3")
    with (
        pytest.raises(WriteError, match=r"cannot write .*a\.sqlite: database or disk is full\. Make room"),
        transaction(connection),
    ):
        connection.execute("INSERT INTO texts VALUES (?)", ("x" * 100_000,))
    assert connection.execute("SELECT count(*) FROM texts").fetchone() == (0,)


def test_readers_are_not_held_up_by_a_writer(tmp_path):
    writer, reader = (open_database(tmp_path / "a.sqlite", SCHEMA) for _ in range(2))
    with transaction(writer):
        writer.execute("INSERT INTO numbers VALUES (1)")
        assert numbers(reader) == []
    assert numbers(reader) == [1]


def test_a_new_file_that_another_process_is_just_setting_up_is_waited_for(tmp_path):
    path = tmp_path / "new.sqlite"
    first = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")
    first.execute(SCHEMA)
    ready = Timer(0.2, first.execute, ["COMMIT"])
    ready.start()
    assert numbers(open_database(path, SCHEMA)) == []
    ready.join()


def test_without_a_path_every_database_is_its_own():
    one, other = open_database(None, SCHEMA), open_database(None, SCHEMA)
    one.execute("INSERT INTO numbers VALUES (1)")
    assert numbers(other) == []


@pytest.mark.parametrize("below", ["state.sqlite", "deep/state.sqlite"])
def test_a_folder_that_is_a_file_is_refused(tmp_path, below):
    (tmp_path / "taken").touch()
    with pytest.raises(
        InputError, match=r"cannot use the database .*taken/.*Name a folder that can be written to"
    ):
        open_database(tmp_path / "taken" / below, SCHEMA)
