"""Keys: hashed at rest, found in constant time, counted without overshooting."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dosimeter.core.errors import InputError
from dosimeter.server.keys import KeyStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.sqlite"


def test_a_key_is_found_and_nothing_else_is(path: Path):
    store = KeyStore(path)
    key, other = store.new("alice", quota=5), store.new("bob")
    assert store.find(key).name == "alice" and store.find(key).quota == 5
    assert store.find(other).name == "bob"
    last = "A" if key[-1] != "A" else "B"
    for wrong in (
        "",
        "alice",
        key[:-1],
        key[:-1] + last,
        key + "x",
        key.upper(),
        f"{other[:17]}{key[17:]}",
        "ä" * 60,
    ):
        assert store.find(wrong) is None


def test_no_file_holds_the_key_or_its_secret(path: Path, tmp_path: Path):
    store = KeyStore(path)
    key = store.new("alice")
    store.reserve(store.find(key), 3, None)
    secret = key.rpartition("-")[2] if "-" not in key[17:] else key[17:]
    found = [file.read_bytes() for file in tmp_path.iterdir()]
    store.close()
    found += [file.read_bytes() for file in tmp_path.iterdir()]
    assert len(found) >= 2
    assert not any(part.encode() in content for content in found for part in (key, secret, secret[:20]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_salts_differ(path: Path):
    store = KeyStore(path)
    store.new("a"), store.new("b")
    salts = {row[0] for row in store._database.execute("SELECT salt FROM keys")}
    assert len(salts) == 2 and all(len(salt) == 16 for salt in salts)


def test_listing_shows_names_and_usage_but_no_key(path: Path):
    store = KeyStore(path)
    key = store.new("alice", quota=9, requests_per_minute=3)
    store.reserve(store.find(key), 4, None)
    [listed] = store.list()
    assert (listed.name, listed.used, listed.quota, listed.requests_per_minute) == ("alice", 4, 9, 3)
    assert key[17:] not in repr(listed)


def test_a_revoked_key_is_known_as_revoked_also_in_another_process(path: Path):
    store, elsewhere = KeyStore(path), KeyStore(path)
    key = store.new("alice")
    assert elsewhere.find(key).revoked_at is None
    store.revoke("alice")
    assert elsewhere.find(key).revoked_at is not None
    again = store.new("alice")
    assert elsewhere.find(again).revoked_at is None
    with pytest.raises(InputError, match="no valid key is called 'bob'; there are alice"):
        store.revoke("bob")


@pytest.mark.parametrize("name", ["", "a b", "-x", "a" * 65, 'a"b', "é", "a\n"])
def test_names_are_plain(path: Path, name: str):
    with pytest.raises(InputError, match="a key cannot be called"):
        KeyStore(path).new(name)


def test_a_name_is_taken_until_its_key_is_revoked(path: Path):
    store = KeyStore(path)
    store.new("alice")
    with pytest.raises(InputError, match=r"already\. Revoke it first, with --revoke alice"):
        store.new("alice")
    with pytest.raises(InputError, match="quota of a key must be at least 1, but 0 was given"):
        store.new("bob", quota=0)


def test_a_quota_is_reserved_whole_or_not_at_all(path: Path):
    store = KeyStore(path)
    key = store.find(store.new("alice", quota=5))
    assert store.reserve(key, 3, None) == 2
    assert store.reserve(key, 3, None) is None
    assert store.used(key) == 3
    assert store.reserve(key, 2, 100) == 0
    store.give_back(key, 1)
    assert store.used(key) == 4
    free = store.find(store.new("bob"))
    assert store.reserve(free, 10**9, None) == -1
    assert store.reserve(free, 1, 10) is None
    store.close()
    assert KeyStore(path).used(key) == 4


def test_threads_and_processes_together_never_overshoot(path: Path):
    store = KeyStore(path)
    key = store.new("alice", quota=300)
    code = (
        "import sys; from pathlib import Path; from dosimeter.server.keys import KeyStore\n"
        "store = KeyStore(Path(sys.argv[1])); key = store.find(sys.argv[2])\n"
        "print(sum(store.reserve(key, 3, None) is not None for _ in range(100)))"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(path), key], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found, counts = store.find(key), []

    def ask() -> None:
        mine = KeyStore(path)
        counts.append(sum(mine.reserve(found, 1, None) is not None for _ in range(150)))
        mine.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reserved = sum(counts) + 3 * sum(int(other.communicate()[0]) for other in others)
    assert reserved == store.used(found) == 300


def test_a_file_that_is_no_database_is_said(tmp_path: Path):
    (tmp_path / "keys").write_text("hello" * 100)
    with pytest.raises(InputError, match="cannot use the database"):
        KeyStore(tmp_path / "keys")
    with pytest.raises(InputError, match=r"cannot use the key file .*server.keys"):
        KeyStore(tmp_path / "keys" / "inside")
