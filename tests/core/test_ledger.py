import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.core.errors import BudgetExceeded
from dosimeter.core.ledger import Ledger

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle"]),
        st.integers(0, 40),
        st.sampled_from([0.0, 0.01, 2.5]),
        st.sampled_from(["a", "b"]),
    ),
    max_size=25,
)


def entries(path):
    with sqlite3.connect(path) as connection:
        return connection.execute(
            "SELECT event, target, scope, queries, price FROM entries ORDER BY id"
        ).fetchall()


@given(OPERATIONS, st.one_of(st.none(), st.integers(0, 200)))
@settings(max_examples=60)
def test_totals_are_the_sums_of_the_entries_and_the_cap_holds(tmp_path_factory, operations, cap):
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    ledger = Ledger(path, max_queries=cap)
    for event, queries, price, target in operations:
        used = ledger.used
        if event == "settle":
            ledger.settle(queries, target=target, price_per_call=price)
        elif cap is None or used + queries <= cap:
            ledger.reserve(queries, target=target, price_per_call=price)
        else:
            with pytest.raises(BudgetExceeded) as caught:
                ledger.reserve(queries, target=target, price_per_call=price)
            error = caught.value
            assert (error.kind, error.used, error.limit, error.wanted) == ("queries", used, cap, queries)
            assert ledger.used == used
    written = entries(path)
    reserved = [entry for entry in written if entry[0] == "reserve"]
    settled = sum(entry[3] for entry in written if entry[0] == "settle")
    assert ledger.used == sum(entry[3] for entry in reserved)
    assert ledger.answered == settled
    assert ledger.lost == ledger.used - settled
    assert ledger.money == pytest.approx(sum(entry[4] for entry in reserved))
    assert ledger.remaining == (None if cap is None else cap - ledger.used)
    ledger.close()


def test_an_entry_says_who_asked_whom_at_what_price(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.reserve(3, target="f00d", scope="an attack, seed 0", price_per_call=0.5)
    ledger.settle(2, target="f00d", scope="an attack, seed 0", price_per_call=0.5)
    assert entries(tmp_path / "ledger.sqlite") == [
        ("reserve", "f00d", "an attack, seed 0", 3, 1.5),
        ("settle", "f00d", "an attack, seed 0", 2, 1.0),
    ]
    assert (ledger.used, ledger.answered, ledger.lost, ledger.money) == (3, 2, 1, 1.5)


@pytest.mark.parametrize("statement", ["UPDATE entries SET queries = 0", "DELETE FROM entries"])
def test_entries_can_only_be_added(tmp_path, statement):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.reserve(3, target="t")
    with (
        sqlite3.connect(tmp_path / "ledger.sqlite") as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(statement)
    assert entries(tmp_path / "ledger.sqlite") == [("reserve", "t", "", 3, 0.0)]


def test_the_cap_is_over_the_life_of_the_file(tmp_path):
    first = Ledger(tmp_path / "ledger.sqlite", max_queries=10)
    first.reserve(8, target="t")
    first.close()
    first.close()
    again = Ledger(tmp_path / "ledger.sqlite", max_queries=10)
    assert (again.used, again.remaining, again.lost) == (8, 2, 8)
    again.require(2)
    with pytest.raises(BudgetExceeded, match="budget of 10 queries reached: 8 used, 3 more wanted"):
        again.require(3)
    lower = Ledger(tmp_path / "ledger.sqlite", max_queries=5)
    assert lower.remaining == 0
    with pytest.raises(BudgetExceeded):
        lower.reserve(1, target="t")


@pytest.mark.parametrize("number", [np.int64(4), np.uint8(4), np.array(4)])
def test_numpy_numbers_are_counted_like_others(number):
    ledger = Ledger(max_queries=5)
    ledger.reserve(number, target="t", price_per_call=np.float32(0.5))
    assert (ledger.used, ledger.money, ledger.remaining) == (4, 2.0, 1)


@pytest.mark.parametrize(("queries", "error"), [(-1, sqlite3.IntegrityError), (1.5, TypeError)])
def test_queries_cannot_be_given_back_or_split(queries, error):
    ledger = Ledger(max_queries=5)
    ledger.reserve(3, target="t")
    with pytest.raises(error):
        ledger.reserve(queries, target="t")
    assert ledger.used == 3
    ledger.reserve(2, target="t")
