from dosimeter.core.result import Table
from dosimeter.report.tables import shown_table


def table(rows: int, columns: int = 2) -> Table:
    return Table(
        name="n",
        title="t",
        columns=[f"c{column}" for column in range(columns)],
        rows=[[row] * columns for row in range(rows)],
    )


def test_tables_up_to_the_limit_are_whole():
    shown = shown_table(table(200))
    assert (len(shown.head), shown.tail, shown.rows_left_out) == (200, [], 0)


def test_longer_tables_show_both_ends_and_count_the_rest():
    shown = shown_table(table(201))
    assert [row[0] for row in shown.head] == list(range(100))
    assert [row[0] for row in shown.tail] == list(range(101, 201))
    assert (shown.rows, shown.rows_left_out) == (201, 1)


def test_wide_tables_show_their_first_columns():
    shown = shown_table(table(3, columns=45))
    assert (len(shown.columns), {len(row) for row in shown.head}, shown.columns_left_out) == (40, {40}, 5)


def test_columns_of_numbers_are_recognised():
    mixed = Table(
        name="n",
        title="t",
        columns=["number", "text", "flag", "empty"],
        rows=[[1, "a", True, None], [None, 2, False, None]],
    )
    assert shown_table(mixed).numeric == [True, False, False, False]


def test_empty_tables():
    assert shown_table(table(0)).numeric == [False, False]
    assert shown_table(Table(name="n", title="t", columns=[], rows=[])).columns == []
