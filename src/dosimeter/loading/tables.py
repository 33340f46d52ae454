"""Tables of numbers with an optional label column: CSV, or Parquet with the extra ``parquet``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.loading.labels import encode_labels
from dosimeter.loading.sources import GIB, check_fits, open_regular, refusing, shown
from dosimeter.loading.text import csv_columns, decoded_lines

_WHAT = "a Parquet table"
_MOST_METADATA_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class LoadedTable:
    """A table of numbers.

    Attributes:
        features: (n, d) float64, finite.
        columns: names of the d features.
        labels: (n,) int64 positions in ``classes``, or ``None`` where the file has none.
        classes: names of the classes.
    """

    features: np.ndarray
    columns: tuple[str, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...]


def load_table(path: Path, *, label: str | None = None, max_bytes: int = 8 * GIB) -> LoadedTable:
    """The table in a ``.csv`` (comma, header line, UTF-8) or ``.parquet`` file.

    Args:
        label: column of the labels; without it ``label`` where there is one.
        max_bytes: most memory the table may take; free memory is a further limit.

    Raises:
        InputError: unreadable, no rows, no such label, or a feature that is missing, NaN, infinite or not a number.
        MissingExtra: a Parquet file without pyarrow.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        columns = _read_csv(path, label)
    elif suffix == ".parquet":
        columns = _read_parquet(path, label, max_bytes)
    else:
        open_regular(path, what="a table").close()
        raise InputError(
            f"expected {shown(path)} to be a .csv or .parquet table, but it ends in '{shown(path.suffix)}'."
        )
    if not columns or len(next(iter(columns.values()))) == 0:
        raise InputError(f"expected {shown(path)} to hold records, but it holds none.")
    wanted = label or "label"
    values = columns.pop(wanted, None)
    if values is None and label is not None:
        raise InputError(
            f"expected {shown(path)} to have a column '{shown(label)}', but it has {shown(', '.join(columns))}. "
            "Name the column of the labels."
        )
    if not columns:
        raise InputError(
            f"expected {shown(path)} to have features beside '{shown(wanted)}', but it has none."
        )
    labels, classes = (None, ()) if values is None else encode_labels(path, values)
    features = np.stack([_finite(path, name, column) for name, column in columns.items()], axis=1)
    return LoadedTable(features, tuple(columns), labels, classes)


def _read_csv(path: Path, label: str | None) -> dict[str, Any]:
    with decoded_lines(path, compressed=False, max_bytes=GIB) as lines:
        columns = csv_columns(path, lines)
    return {
        name: values if name == (label or "label") else _numbers(path, name, values)
        for name, values in columns.items()
    }


def _numbers(path: Path, name: str, values: list[str]) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except ValueError:
        for row, value in enumerate(values):
            try:
                float(value)
            except ValueError:
                _refuse_value(path, name, row, repr(value))
        raise


def _finite(path: Path, name: str, column: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(column))
    if bad.size:
        _refuse_value(path, name, int(bad[0]), f"{column[bad[0]]} ({bad.size} such values in all)")
    return column


def _refuse_value(path: Path, name: str, row: int, value: str) -> NoReturn:
    raise InputError(
        f"expected '{shown(name)}' of record {row + 1} of {shown(path)} to be a finite number, but got {shown(value)}. "
        "Fill it in, encode it as a number, or drop the column."
    )


def _read_parquet(path: Path, label: str | None, max_bytes: int) -> dict[str, Any]:
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise MissingExtra("reading .parquet files", "parquet") from error
    label = label or "label"
    with open_regular(path, what=_WHAT) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        metadata_bytes = int.from_bytes(file.read(4), "little")
        if file.read(4) != b"PAR1" or metadata_bytes > min(size, _MOST_METADATA_BYTES):
            raise InputError(f"expected {shown(path)} to be {_WHAT}, but it is cut off or something else.")
        file.seek(0)
        with refusing(path, _WHAT):
            table_file = parquet.ParquetFile(file, thrift_string_size_limit=_MOST_METADATA_BYTES)
            metadata, schema = table_file.metadata, table_file.schema_arrow
        if metadata.num_rows < 0 or len(set(schema.names)) != len(schema.names):
            raise InputError(
                f"refused {shown(path)}: a negative number of rows, or two columns with one name."
            )
        check_fits(path, 2 * 8 * metadata.num_rows * len(schema.names), max_bytes)
        for field in schema:
            numeric = (
                types.is_integer(field.type) or types.is_floating(field.type) or types.is_boolean(field.type)
            )
            if field.name != label and not numeric:
                raise InputError(
                    f"expected column '{shown(field.name)}' of {shown(path)} to be numeric, but it is "
                    f"{shown(field.type)}. Encode it as a number or drop it."
                )
        with refusing(path, _WHAT):
            return _parquet_columns(table_file, label)


def _parquet_columns(table_file: Any, label: str) -> dict[str, Any]:
    """One column after another, so that at most one is in memory twice. Missing numbers become NaN."""
    columns: dict[str, Any] = {}
    for name in table_file.schema_arrow.names:
        column = table_file.read(columns=[name], use_threads=False).column(0)
        if name == label:
            columns[name] = column.to_pylist()
        else:
            columns[name] = column.cast("float64", safe=False).to_numpy()
    return columns
