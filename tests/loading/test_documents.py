import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.core.errors import InputError
from dosimeter.loading.documents import load_yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_reads_what_yaml_writes(tree):
    assert load_yaml(yaml.safe_dump(tree)) == tree


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab1:-&*!<>|%@,[]{}'\"#?\n\t \0\x1b=~"), max_size=40))
def test_noise_is_refused_in_one_line_or_read_as_by_the_safe_loader(text):
    try:
        found = load_yaml(text)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert found == yaml.safe_load(text)


def test_files_and_merges(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        "\ufeffbase: &base {a: 1, b: 2}\nused: {<<: *base, b: 3}\ndate: 2026-01-02\n", encoding="utf-8"
    )
    loaded = load_yaml(path)
    assert loaded["used"] == {"a": 1, "b": 3}
    assert str(loaded["date"]) == "2026-01-02"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the YAML text, line 3, column 1: the key 'a' is there twice"),
        ("a:\n  - b: 1\n    b: 2\n", "line 3, column 5: the key 'b' is there twice"),
        (
            "a:\n\tb: 1\n",
            r"line 2, column 1: .*found character '\\t' that cannot start any token; indent with spaces",
        ),
        ("a: [1, 2\nb: 3\n", "line 2, column 2: while parsing a flow sequence"),
        ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: the tag '.*os.system' is not allowed"),
        ("a: !!binary aGk=", "is not allowed, only plain data is"),
        ("a: &a [*a]", "line 1, column 4: a value contains itself"),
        ("? [a]\n: 1\n", "found unhashable key"),
        ("a: 2001-02-30", r"line 1, column 4: '2001-02-30' is not a valid value \(day is out of range"),
        ("a: 1\n---\nb: 1\n", "expected a single document"),
        ("a: " + "9" * 200, "a number of 200 characters; quote it"),
        ("[" * 41, "nested deeper than 40 levels"),
        ("- a\n" * 20_001, "more than 20000 values"),
        ("a: 'x" + "\n" * 300_000, "longer than 256 KiB"),
        ("a: \x1b", r"line 1: character '\\x1b' is not allowed"),
        ("# nothing\n", "holds no document"),
    ],
)
def test_mistakes_are_named_with_their_place(text, message):
    with pytest.raises(InputError, match=message):
        load_yaml(text)


def test_aliases_count_each_time():
    def laughs(levels):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        return "\n".join(lines + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)])

    assert len(load_yaml(laughs(3))["a2"]) == 9
    with pytest.raises(InputError, match="line 5, column 5: aliases make more than 20000 values"):
        load_yaml(laughs(9))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load_yaml(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InputError, match=r"b\.yaml, line 2: byte 0xff is not UTF-8"):
        load_yaml(tmp_path / "b.yaml")
