import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.loading.tables import load_table

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE))
def test_csv_keeps_every_bit(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    lines = [",".join(f"c{i}" for i in range(table.shape[1]))] + [
        ",".join(map(repr, row)) for row in table.tolist()
    ]
    path.write_text("\n".join(lines))
    loaded = load_table(path)
    np.testing.assert_array_equal(loaded.features, table)
    assert loaded.columns == tuple(f"c{i}" for i in range(table.shape[1]))
    assert loaded.labels is None


def test_labels_are_taken_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,label,b\n1,yes,2.5\n-3e2,no,4\n")
    loaded = load_table(path)
    np.testing.assert_array_equal(loaded.features, [[1, 2.5], [-300, 4]])
    assert loaded.features.dtype == np.float64
    assert loaded.columns == ("a", "b")
    assert (loaded.labels.tolist(), loaded.classes) == ([1, 0], ("no", "yes"))
    path.write_text("a,b\n1,0\n2,1\n")
    assert load_table(path, label="b").labels.tolist() == [0, 1]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    columns = {"a": [1, 2, 3], "b": [True, False, True], "label": ["x", "y", "x"], "c": [0.5, 1.5, 2.5]}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    loaded = load_table(path)
    np.testing.assert_array_equal(loaded.features, [[1, 1, 0.5], [2, 0, 1.5], [3, 1, 2.5]])
    assert loaded.columns == ("a", "b", "c")
    assert (loaded.labels.tolist(), loaded.classes) == ([0, 1, 0], ("x", "y"))
    with pytest.raises(InputError, match="claims 192 bytes of data, more than the limit of 100 bytes"):
        load_table(path, max_bytes=100)
    with pytest.raises(InputError, match=r"expected column 'label' of .* to be numeric, but it is string"):
        load_table(path, label="a")
    parquet.write_table(pyarrow.table({"a": [1.0, None]}), path)
    with pytest.raises(InputError, match=r"'a' of record 2 of .* to be a finite number, but got nan"):
        load_table(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dosimeter\[parquet\]'"):
        load_table(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,x\n", "'b' of record 2 of .* to be a finite number, but got 'x'"),
        ("a,b\n1,\n", "'b' of record 1 of .* but got ''"),
        ("a,b\n1,2\n3,inf\n", r"'b' of record 2 of .* but got inf \(1 such values in all\)"),
        ("a,b\n1\n", "line 2 of .*: it has 1 fields"),
        ("label\n1\n", "features beside 'label'"),
        ("a,b\n", "it holds none"),
    ],
)
def test_mistakes_are_named(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        load_table(tmp_path / "a.csv")


def test_a_missing_label_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="to have a column 'y', but it has a, b"):
        load_table(tmp_path / "a.csv", label="y")
    (tmp_path / "a.xls").write_text("a")
    with pytest.raises(InputError, match=r"a \.csv or \.parquet table, but it ends in '\.xls'"):
        load_table(tmp_path / "a.xls")
