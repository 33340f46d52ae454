"""Hostile and broken text records, tables and YAML documents."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from pathlib import Path
from typing import Any

from dosimeter.selftest.crafting import Case, system_pickle
from dosimeter.selftest.sandbox import CANARY_VARIABLE


def cases() -> list[Case]:
    """Text records, tables, then YAML."""
    return [*_records(), *_tables(), *_yaml()]


def _gzip_bomb(mebibytes: int) -> bytes:
    return gzip.compress(b'{"text": "' + b"a" * (1 << 20) + b'"}\n') * mebibytes


def _records() -> list[Case]:
    line = b'{"text": "sound", "label": 0}\n'
    many_keys = "".join(json.dumps({"text": "a", f"key{i}": 1}) + "\n" for i in range(5000)).encode()
    bad: list[tuple[str, str, Any]] = [
        ("latin.jsonl", "Latin-1 instead of UTF-8", line + '{"text": "caf\xe9"}\n'.encode("latin-1")),
        ("utf16.jsonl", "UTF-16 instead of UTF-8", line.decode().encode("utf-16")),
        ("nul.jsonl", "a NUL byte", line + b'{"text": "a\0b"}\n'),
        ("endless.jsonl", "a line of 100 MB", lambda *_: b'{"text": "' + b"a" * 100_000_000 + b'"}\n'),
        ("deep.jsonl", "JSON 100,000 levels deep", line + b'{"text": ' + b"[" * 100_000),
        ("nan.jsonl", "NaN", line + b'{"text": "a", "label": NaN}\n'),
        ("infinity.jsonl", "infinity", line + b'{"text": "a", "label": -Infinity}\n'),
        ("list.jsonl", "a list instead of an object", line + b'["a", "b"]\n'),
        ("twice.jsonl", "a key twice", b'{"text": "a", "text": "b"}\n'),
        ("surrogate.jsonl", "half of a surrogate pair", line + b'{"text": "\\ud800"}\n'),
        ("digits.jsonl", "a number of 100,000 digits", b'{"text": "a", "label": ' + b"9" * 100_000 + b"}\n"),
        ("keys.jsonl", "5,000 records with a key of their own", many_keys),
        ("number.jsonl", "a number instead of a text", line + b'{"text": 5, "label": 0}\n'),
        ("no-label.jsonl", "a record without label", line + b'{"text": "a"}\n'),
        ("terminal.jsonl", "a key that commands a terminal", b'{"\\u001b[2J\\nx": 5}\n'),
        ("pickle.jsonl", "a pickle that calls os.system", lambda _, canary: system_pickle(canary)),
        ("noise.jsonl", "random bytes", random.Random(3).randbytes(4096)),
        ("blank.jsonl", "blank lines only", b"\n \n\n"),
        ("empty.jsonl", "no bytes", b""),
        ("pipe.jsonl", "a pipe that nobody writes to", lambda path, _: os.mkfifo(path)),
        ("bomb.jsonl.gz", "4 GiB of text in 4 MB", lambda *_: _gzip_bomb(4096)),
        ("cut.jsonl.gz", "cut off", gzip.compress(line * 1000)[:-9]),
        ("noise.jsonl.gz", "random bytes", random.Random(4).randbytes(4096)),
        ("unequal.csv", "rows of unequal length", b"text,label\na,0\nb\n"),
        ("quote.csv", "a quote that is never closed", b'text,label\n"' + b"a,b\n" * 100_000),
        ("columns.csv", "two columns of one name", b"text,text\na,b\n"),
        ("field.csv", "a field of a megabyte", b"text\n" + b"a" * (1 << 20) + b"\n"),
        ("program.txt", "an executable", b"\x7fELF\2\1\1" + bytes(64)),
    ]
    formula = b'text,label\n"=cmd|\'/C calc\'!A0",0\n"@SUM(1+1)",1\n'
    return [
        *(Case(name, what, "text", content) for name, what, content in bad),
        Case("formula.csv", "formulas, which are only text here", "text", formula, "loaded"),
        Case("sound.jsonl", "nothing", "text", line, "loaded"),
        Case("sound.jsonl.gz", "nothing", "text", gzip.compress(line * 1000), "loaded"),
        Case("sound.txt", "nothing", "text", "caf\xe9\n".encode(), "loaded"),
    ]


def _parquet(_: Path, __: Path) -> bytes | None:
    """A sound table, or nothing where pyarrow is missing (the loader then says so before it opens the file)."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return b"PAR1"
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"a": [1.0, 2.0, 3.0], "label": [0, 1, 0]}), buffer)
    return buffer.getvalue()


def _parquet_bomb(_: Path, __: Path) -> bytes | None:
    """Six hundred million missing values, each group of them a few bytes long."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return b"PAR1"
    buffer = io.BytesIO()
    group = pyarrow.table({"a": pyarrow.nulls(20_000_000, pyarrow.int8())})
    with parquet.ParquetWriter(buffer, group.schema) as writer:
        for _group in range(30):
            writer.write_table(group, row_group_size=20_000_000)
    return buffer.getvalue()


def _parquet_strings(_: Path, __: Path) -> bytes | None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return b"PAR1"
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"a": ["x", "y"], "b": [[1], [2]]}), buffer)
    return buffer.getvalue()


def _parquet_noise(path: Path, canary: Path) -> bytes | None:
    data = bytearray(_parquet(path, canary) or b"")
    noise = random.Random(5)
    for _ in range(len(data) // 20):
        data[noise.randrange(4, max(5, len(data) - 8))] = noise.randrange(256)
    return bytes(data)


def _tables() -> list[Case]:
    bad: list[tuple[str, str, Any]] = [
        ("nan.csv", "NaN among the numbers", b"a,label\n1,0\nnan,1\n"),
        ("infinite.csv", "a number too large for a float", b"a,label\n1,0\n1e999,1\n"),
        ("words.csv", "words among the numbers", b"a,label\n1,0\ntwo,1\n"),
        ("gap.csv", "a missing number", b"a,b\n1,2\n,3\n"),
        ("label-only.csv", "labels without features", b"label\n1\n2\n"),
        ("label-fraction.csv", "a class number below 0", b"a,label\n1,0\n2,-1\n"),
        ("header-only.csv", "no records", b"a,b,label\n"),
        ("numbers.csv.exe", "a suffix of something else", b"a,b\n1,2\n"),
        ("cut.parquet", "cut off", lambda *paths: (_parquet(*paths) or b"")[:-20]),
        ("noise.parquet", "random bytes in the middle", _parquet_noise),
        ("random.parquet", "random bytes", b"PAR1" + random.Random(6).randbytes(2000) + b"\x10\0\0\0PAR1"),
        ("metadata.parquet", "metadata of 4 GB", b"PAR1" + bytes(99) + b"\xff\xff\xff\xffPAR1"),
        ("bomb.parquet", "600 million rows in a few kilobytes", _parquet_bomb),
        ("strings.parquet", "columns of strings and lists", _parquet_strings),
        ("pickle.parquet", "a pickle that calls os.system", lambda _, canary: system_pickle(canary)),
        ("empty.parquet", "no bytes", b""),
    ]
    return [
        *(Case(f"table-{name}", what, "table", content) for name, what, content in bad),
        Case("table-sound.csv", "nothing", "table", b"a,b,label\n1,2.5,x\n3,4,y\n", "loaded"),
        Case("table-sound.parquet", "nothing", "table", _parquet, "loaded"),
    ]


def _yaml() -> list[Case]:
    laughs = "a0: &a0 [ha, ha, ha]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
    )
    merges = "m0: &m0 {k: 1, l: 2}\n" + "".join(
        f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 30)
    )
    blocks = "".join(" " * depth + "a:\n" for depth in range(600))
    environment = f"!!python/object/apply:os.putenv [{CANARY_VARIABLE}, '1']\n"
    bad: list[tuple[str, str, Any]] = [
        (
            "system",
            "calls os.system",
            lambda _, c: f"!!python/object/apply:os.system [\"touch '{c}'\"]\n".encode(),
        ),
        ("environment", "sets an environment variable", environment.encode()),
        ("popen", "starts a process", b"a: !!python/object/new:subprocess.Popen [[touch, canary]]\n"),
        ("name", "names a function", b"a: !!python/name:os.system\n"),
        ("module", "imports a module", b"a: !!python/module:antigravity\n"),
        ("tag", "a tag of its own", b"a: !thing {b: 1}\n"),
        ("laughs", "a billion laughs", laughs.encode()),
        ("merges", "merges that triple 30 times", merges.encode()),
        ("itself", "a list that contains itself", b"a: &a [1, *a]\n"),
        ("deep", "100,000 brackets", b"a: " + b"[" * 100_000),
        ("deep-maps", "maps 600 levels deep", blocks.encode()),
        ("deep-dashes", "lists 10,000 levels deep", b"- " * 10_000),
        ("twice", "a key twice", b"a: 1\nb: 2\na: 3\n"),
        ("tab", "a tab for indentation", b"a:\n\tb: 1\n"),
        ("many", "100,000 values", b"- a\n" * 60_000),
        ("large", "a megabyte", b"a: " + b"x" * (1 << 20)),
        ("digits", "a number of 200,000 digits", b"a: " + b"9" * 200_000),
        ("sexagesimal", "a number of 60,000 digits in base 60", b"a: 1" + b":59" * 60_000),
        ("date", "the 99th of the 99th", b"a: 2001-99-99\n"),
        ("wrong-type", "a word tagged as a number", b"a: !!int word\n"),
        ("binary", "base64 that is not", b"a: !!binary '***'\n"),
        ("list-key", "a list as a key", b"? [a, b]\n: 1\n"),
        ("two", "two documents", b"a: 1\n---\nb: 2\n"),
        ("alias", "an alias to nothing", b"a: *nothing\n"),
        ("open", "a quote that is never closed", b'a: "' + b"x\n" * 1000),
        ("control", "a control character", b"a: \x1b[2J\n"),
        ("latin", "Latin-1 instead of UTF-8", "a: caf\xe9\n".encode("latin-1")),
        ("nothing", "comments only", b"# nothing\n"),
        ("empty", "no bytes", b""),
        ("pipe", "a pipe that nobody writes to", lambda path, _: os.mkfifo(path)),
        ("folder", "a folder", lambda path, _: path.mkdir()),
    ]
    sound = b"base: &base {a: 1}\nname: x\nlist: [1, 2.5, true, null]\nused: {<<: *base, b: 2}\n"
    return [
        *(Case(f"{name}.yaml", what, "yaml", content) for name, what, content in bad),
        Case("sound.yaml", "nothing", "yaml", sound, "loaded"),
    ]
