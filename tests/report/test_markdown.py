import html

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dosimeter.report.markdown import code, code_block, escaped, one_line, shortened, table

HOSTILE = [
    "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://a/b.png)", "**bold** _it_ ~~no~~ `code`",
    "# heading", "- item", "1. item", "| a | b |", "&lt;", "$x^2$", "@name #12", "https://example.org/x_y_z", "a\\*b", "---",
]  # fmt: skip


@pytest.mark.parametrize("start", ["", "Says: "])
@pytest.mark.parametrize(
    "text", [*HOSTILE, "+ item", "1) item", "- - -", "===", "-", "2024.", "-1.5 and 1.5"]
)
def test_escaped_text_is_shown_as_it_is(text, start):
    page = MarkdownIt("commonmark").render(f"{start}{escaped(text)}").strip()
    assert page.startswith("<p>")
    assert page.count("<") == 2
    assert html.unescape(page.removeprefix("<p>").removesuffix("</p>")) == start + text


def test_plain_sentences_stay_readable():
    assert escaped("A well-known figure: 0.5 (n = 3).") == "A well-known figure: 0.5 (n = 3)."
    assert escaped("encoder-inference.top-score") == "encoder-inference.top-score"
    assert escaped("two\nlines\x00 and \u202e more") == "two lines\ufffd and \ufffd more"


@given(st.text())
def test_escaped_and_code_stay_on_one_line(text):
    for made in (escaped(text), code(text), one_line(text)):
        assert len(made.splitlines()) <= 1


@given(st.text(alphabet="`a |\n", max_size=20))
def test_code_has_no_end_within(text):
    block = code_block(text)
    fence = block.splitlines()[0]
    assert set(fence) == {"`"}
    assert fence not in text
    assert block.endswith(f"\n{fence}")
    assert "|" not in code(text).replace("\\|", "")


def test_tables_and_cut_texts():
    assert table(["a", "b"], [("1", code("x"))]) == "| a | b |\n| --- | --- |\n| 1 | `x` |"
    assert code("a`b") == "``a`b``"
    assert code("") == "` `"
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"
