"""Text records: one JSON object a line, CSV with a header, or plain lines; each also as ``.gz``."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.loading.labels import encode_labels
from dosimeter.loading.sources import GIB, MIB, open_regular, reason_of, refusing, shown, size_text

_WHAT = "text records"
_FORMATS = (".jsonl", ".csv", ".txt")
_MOST_LINE_BYTES = 16 * MIB
_MOST_CELLS = 50_000_000
_MOST_KEYS = 1000
_MOST_EXPANSION = 50


@dataclass(frozen=True, eq=False)
class LoadedText:
    """Texts with what their file says about them.

    Attributes:
        texts: one per record.
        labels: (n,) int64 positions in ``classes``, or ``None`` where the file has none.
        classes: names of the classes.
        columns: every column of the file, texts and labels included; ``None`` where a record lacks the key.
    """

    texts: list[str]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    columns: dict[str, list[Any]]


def load_text(
    path: Path, *, text: str | None = None, label: str | None = None, max_bytes: int = GIB
) -> LoadedText:
    """The records of a ``.jsonl``, ``.csv`` or ``.txt`` file, plain or ``.gz``, in UTF-8. Blank lines are skipped.

    Args:
        text: column of the texts; without it ``text``, or the only column whose values are all strings.
        label: column of the labels; without it ``label`` where there is one.
        max_bytes: most bytes after decompression.

    Raises:
        InputError: unreadable, not in the format (with the line), no such column, or a text that is not a string.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compressed = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if compressed else suffixes)[-1:] or [""]
    if kind[0] not in _FORMATS:
        open_regular(path, what=_WHAT).close()
        raise InputError(
            f"expected {shown(path)} to be text records ({', '.join(_FORMATS)}, or these with .gz), "
            f"but it ends in '{shown(path.suffix)}'."
        )
    with decoded_lines(path, compressed=compressed, max_bytes=max_bytes) as lines:
        if kind[0] == ".txt":
            columns: dict[str, list[Any]] = {"text": [line for _, line in lines if line.strip()]}
        elif kind[0] == ".jsonl":
            columns = _json_columns(path, lines)
        else:
            columns = csv_columns(path, lines)
    if not columns or not next(iter(columns.values())):
        raise InputError(f"expected {shown(path)} to hold text records, but it holds none.")
    name = _text_column(path, columns, text)
    labels, classes = _labels(path, columns, label)
    return LoadedText(columns[name], labels, classes, columns)


@contextmanager
def decoded_lines(path: Path, *, compressed: bool, max_bytes: int) -> Iterator[Iterator[tuple[int, str]]]:
    """The lines of ``path`` with their numbers from 1, without their ends.

    Raises:
        InputError: on entering or while reading: unreadable, too large, expanding too much, not UTF-8, NUL, endless line.
    """
    with open_regular(path, what=_WHAT, max_bytes=max_bytes) as file:
        size = file.seek(0, 2)
        file.seek(0)
        if compressed:
            # Text shrinks three- to tenfold; a bomb a thousandfold.
            most = min(max_bytes, _MOST_EXPANSION * size + MIB)
            with gzip.GzipFile(fileobj=file) as stream:
                yield _lines(path, stream, most)
        else:
            yield _lines(path, file, max_bytes)


def _lines(path: Path, stream: BinaryIO | gzip.GzipFile, most_bytes: int) -> Iterator[tuple[int, str]]:
    number, total = 0, 0
    while True:
        number += 1
        with refusing(path, _WHAT):
            raw = stream.readline(_MOST_LINE_BYTES + 1)
        if not raw:
            return
        total += len(raw)
        if len(raw) > _MOST_LINE_BYTES:
            _refuse(path, number, f"it is longer than {size_text(_MOST_LINE_BYTES)}. Write one record a line")
        if total > most_bytes:
            raise InputError(
                f"refused {shown(path)}: it expands to more than {size_text(most_bytes)}. Unpack it yourself and split it."
            )
        if b"\0" in raw:
            _refuse(
                path, number, "it contains a NUL byte, so this is not a UTF-8 text file. Convert it to UTF-8"
            )
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            _refuse(path, number, f"byte {raw[error.start]:#04x} is not UTF-8. Convert the file to UTF-8")
        yield number, line


def _refuse(path: Path, number: int, reason: str) -> NoReturn:
    raise InputError(f"cannot read line {number} of {shown(path)}: {reason}.")


def _json_columns(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    rows = 0
    for number, line in lines:
        if not line.strip():
            continue
        record = _json_record(path, number, line)
        for key in record:
            if key not in columns:
                columns[key] = [None] * rows
        if len(columns) > _MOST_KEYS:
            _refuse(
                path,
                number,
                f"with it the records have more than {_MOST_KEYS} different keys. Nest or drop some",
            )
        rows += 1
        if rows * len(columns) > _MOST_CELLS:
            _refuse(path, number, f"with it the file has more than {_MOST_CELLS} cells. Split the file")
        for key, values in columns.items():
            values.append(record.get(key))
    return columns


def _json_record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
        if "\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except RecursionError:
        _refuse(path, number, "it is nested too deeply. Flatten the record")
    except MemoryError:
        _refuse(path, number, "it does not fit into memory. Split the file")
    except UnicodeEncodeError:
        _refuse(path, number, "it contains half of a surrogate pair. Repair the text")
    except ValueError as error:
        _refuse(path, number, f"{reason_of(error)}. Write one JSON object a line")
    if not isinstance(record, dict):
        _refuse(
            path,
            number,
            f"it holds a {type(record).__name__}, not a JSON object. Write one JSON object a line",
        )
    return record


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key occurs twice")
    return record


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def csv_columns(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, list[str]]:
    """The columns of a CSV file (RFC 4180, comma) by the names in its first line, all as strings.

    Raises:
        InputError: unnamed or repeated columns, a row of another length, an open quote, or too many cells.
    """
    reader = csv.reader((line + "\n" for _, line in lines), strict=True)
    columns: list[list[str]] = []
    header: list[str] = []
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            _refuse(
                path, reader.line_num, f"{error}. Quote fields as RFC 4180 says, or use .jsonl for long texts"
            )
        if not row:
            continue
        if not header:
            header = [name.strip() for name in row]
            if "" in header or len(set(header)) != len(header):
                _refuse(path, 1, f"its columns need names that differ, but are {shown(', '.join(header))}")
            columns = [[] for _ in header]
            continue
        if len(row) != len(header):
            _refuse(path, reader.line_num, f"it has {len(row)} fields, but the header has {len(header)}")
        for values, value in zip(columns, row):
            values.append(value)
        if len(columns[0]) * len(columns) > _MOST_CELLS:
            _refuse(
                path, reader.line_num, f"with it the file has more than {_MOST_CELLS} cells. Split the file"
            )
    return dict(zip(header, columns))


def _text_column(path: Path, columns: dict[str, list[Any]], name: str | None) -> str:
    if name is None:
        texts = [key for key, values in columns.items() if all(isinstance(value, str) for value in values)]
        name = "text" if "text" in columns else texts[0] if len(texts) == 1 else None
    if name not in columns:
        wanted = "a column 'text'" if name is None else f"a column '{shown(name)}'"
        raise InputError(
            f"expected {shown(path)} to have {wanted}, but it has {shown(', '.join(columns))}. Name the column of the texts."
        )
    for position, value in enumerate(columns[name]):
        if not isinstance(value, str):
            raise InputError(
                f"expected '{shown(name)}' of record {position + 1} of {shown(path)} to be a string, "
                f"but got {shown(repr(value))}."
            )
    return name


def _labels(
    path: Path, columns: dict[str, list[Any]], name: str | None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if name is None and "label" not in columns:
        return None, ()
    values = columns.get(name or "label")
    if values is None:
        raise InputError(
            f"expected {shown(path)} to have a column '{shown(name)}', but it has {shown(', '.join(columns))}. "
            "Name the column of the labels."
        )
    return encode_labels(path, values)
