"""Tests of the state folder."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from dosimeter.study.home import Home, InUse


def test_a_folder_is_known_by_its_identity_whoever_makes_it_first(tmp_path: Path):
    together = Barrier(8, timeout=10)

    def ask(number: int) -> str:
        together.wait()
        return Home(tmp_path / str(number // 8)).identity()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(32)))
    assert [len(set(found[start : start + 8])) for start in range(0, 32, 8)] == [1] * 4
    assert len(set(found)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{32}", identity) for identity in found)
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["identity"]
    assert Home(tmp_path / "0").identity() == found[0]


def test_a_lock_is_held_by_one(tmp_path: Path):
    home = Home(tmp_path)
    with (
        home.alone("x"),
        home.alone("y"),
        pytest.raises(InUse, match="another process is working on x"),
        home.alone("x"),
    ):
        pass
    with home.alone("x"):
        pass
