"""Tests of what a database URL is taken for, and of what is said of it. Servers are in test_store_postgres."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL
from sqlalchemy.engine import make_url

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.study.database import lock_key, open_engine, sentence, shown

PASSWORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=4, max_size=20)


@given(password=PASSWORDS, other=PASSWORDS)
def test_passwords_are_hidden_wherever_they_stand(password: str, other: str):
    url = URL.create("postgresql+psycopg", "u", f"<{password}>", "h", 1, "d", {"sslpassword": f"<{other}>"})
    said = shown(url)
    assert f"<{password}>" not in said
    assert f"<{other}>" not in said
    assert said == "postgresql+psycopg://u:***@h:1/d?sslpassword=%2A%2A%2A"
    error = ValueError(f"no <{password}> and no <{other}>.\nmore")
    assert sentence(error, url) == "no *** and no ***"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_means_psycopg(scheme: str):
    engine = open_engine(f"{scheme}://u@h/d")
    assert engine.url.drivername == "postgresql+psycopg"
    assert engine.pool._pre_ping


def test_urls_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch):
    for url in ("nonsense", "", "postgresql://h:port/d", "://"):
        with pytest.raises(
            InputError, match=r"not a database URL\. Give a URL such as sqlite:///.*%40 for @"
        ):
            open_engine(url)
    with pytest.raises(InputError, match=r"cannot use the store nosuch://h/d: .*Give a URL such as"):
        open_engine("nosuch://h/d")
    with pytest.raises(InputError, match=r"the store mysql://h/d needs the Python package 'MySQLdb'"):
        open_engine("mysql://h/d")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'dosimeter[postgres]'")):
        open_engine("postgresql://h/d")


def test_locks_have_numbers_that_postgresql_takes():
    keys = {lock_key(f"run {number}") for number in range(1000)}
    assert len(keys) == 1000
    assert all(-(2**63) <= key < 2**63 for key in keys)
    assert min(keys) < 0 < max(keys)
    assert lock_key("dosimeter run a") == -3700307681603829625  # the same in every version


def test_a_url_without_secrets_is_shown_as_it_is():
    assert shown(make_url("sqlite:////a/b.sqlite")) == "sqlite:////a/b.sqlite"
