import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.core.errors import InputError
from dosimeter.loading.text import load_text

TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, ascii=st.booleans(), compressed=st.booleans())
def test_reads_what_json_writes(tmp_path_factory, texts, ascii, compressed):
    lines = "".join(
        json.dumps({"text": text, "n": i}, ensure_ascii=ascii) + "\n" for i, text in enumerate(texts)
    )
    path = tmp_path_factory.mktemp("text") / ("a.jsonl.gz" if compressed else "a.jsonl")
    path.write_bytes(gzip.compress(lines.encode()) if compressed else lines.encode())
    loaded = load_text(path)
    assert loaded.texts == texts
    assert loaded.columns["n"] == list(range(len(texts)))
    assert loaded.labels is None


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.sampled_from([".jsonl", ".csv", ".txt", ".jsonl.gz"]))
def test_noise_is_refused_in_one_line_or_read(tmp_path_factory, noise, suffix):
    path = tmp_path_factory.mktemp("text") / f"a{suffix}"
    path.write_bytes(noise)
    try:
        assert load_text(path).texts
    except InputError as error:
        assert len(str(error).splitlines()) == 1


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_columns_labels_and_missing_keys(tmp_path):
    path = write(
        tmp_path / "a.jsonl", '{"text": "a", "label": "no"}\n\n{"text": "b", "label": "yes", "more": [1]}\n'
    )
    loaded = load_text(path)
    assert loaded.texts == ["a", "b"]
    assert (loaded.labels.tolist(), loaded.classes) == ([0, 1], ("no", "yes"))
    assert loaded.columns == {"text": ["a", "b"], "label": ["no", "yes"], "more": [None, [1]]}
    assert list(loaded.columns) == ["text", "label", "more"]
    assert load_text(path, text="label", label="text").texts == ["no", "yes"]


def test_csv(tmp_path):
    path = write(tmp_path / "a.csv", '\ufefftext,label\r\n"a, ""b""\n\nc",1\r\n\r\nd,0\r\n')
    loaded = load_text(path)
    assert loaded.texts == ['a, "b"\n\nc', "d"]
    assert loaded.labels.tolist() == [1, 0]


def test_plain_lines(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("caf\xe9\r\n \n\u4e2d".encode()))
    assert load_text(path).texts == ["caf\xe9", "\u4e2d"]


def test_the_only_column_of_strings_is_the_text(tmp_path):
    assert load_text(write(tmp_path / "a.jsonl", '{"n": 1, "body": "x"}\n')).texts == ["x"]
    with pytest.raises(InputError, match="to have a column 'text', but it has question, answer"):
        load_text(write(tmp_path / "b.jsonl", '{"question": "x", "answer": "y"}\n'))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": 5}\n', "'text' of record 2 of .* to be a string, but got 5"),
        ("a.jsonl", '{"text": "a"}\n{"text": NaN}\n', "line 2 of .*: NaN is not JSON"),
        ("a.jsonl", '{"text": "a", "text": "b"}', "line 1 of .*: a key occurs twice"),
        ("a.jsonl", '["a"]', "holds a list, not a JSON object"),
        ("a.jsonl", '{"text": "\\ud800"}', "half of a surrogate pair"),
        ("a.jsonl", "[" * 50_000, "nested too deeply"),
        ("a.jsonl", "{'text': 1}", "line 1 of .*: Expecting property name"),
        ("a.jsonl", " \n", "it holds none"),
        ("a.csv", "text,label\na,1\nb\n", "line 3 of .*: it has 1 fields, but the header has 2"),
        ("a.csv", 'text\n"a\n', "line 2 of .*: unexpected end of data"),
        ("a.csv", "text,text\na,b\n", "columns need names that differ, but are text, text"),
        ("a.csv", "text\n", "it holds none"),
        ("a.txt", "a\0b", "NUL byte"),
        ("a.doc", "text", r"it ends in '\.doc'"),
        ("a.gz", "text", r"it ends in '\.gz'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        load_text(write(tmp_path / name, content))


def test_columns_that_are_not_there(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,1\n")
    with pytest.raises(
        InputError, match=r"to have a column 'body', but it has text, label. Name the column of the texts"
    ):
        load_text(path, text="body")
    with pytest.raises(
        InputError, match=r"to have a column 'class', but it has text, label. Name the column of the labels"
    ):
        load_text(path, label="class")


def test_sizes_are_bounded(tmp_path):
    path = write(tmp_path / "a.txt", "a" * 100 + "\n" + "b" * 100)
    with pytest.raises(InputError, match="more than the 150 bytes accepted"):
        load_text(path, max_bytes=150)
    bomb = tmp_path / "b.txt.gz"
    bomb.write_bytes(gzip.compress(b"a" * 999_999 + b"\n") * 200)
    with pytest.raises(InputError, match="it expands to more than"):
        load_text(bomb)
    with pytest.raises(InputError, match=r"line 1 of .*: it is longer than 16 MiB"):
        load_text(write(tmp_path / "c.txt", "a" * (17 << 20)))
