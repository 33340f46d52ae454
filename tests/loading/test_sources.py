import os

import pytest

from dosimeter.core.errors import InputError
from dosimeter.loading import sources
from dosimeter.loading.sources import check_fits, open_regular, refusing, shown, size_text


def test_shown_is_one_printable_line_of_bounded_length():
    assert shown("a\n\x1b[2J\u202e") == "a\\n\\x1b[2J\\u202e"
    assert shown("x" * 1000).startswith("xxx") and len(shown("x" * 1000)) <= 165
    assert shown("caf\xe9 \u4e2d") == "caf\xe9 \u4e2d"


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 bytes"), (1536, "1.5 KiB"), (8 << 30, "8 GiB"), (1 << 50, "1 PiB")]
)
def test_sizes_have_a_unit(nbytes, text):
    assert size_text(nbytes) == text
    assert size_text(1 << 5000)


def test_opens_regular_files_only(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"data")
    with open_regular(file, what="a thing") as stream:
        assert stream.read() == b"data"
    with pytest.raises(InputError, match="more than the 3 bytes accepted for a thing"):
        open_regular(file, what="a thing", max_bytes=3)
    with pytest.raises(InputError, match=r"expected .* to be a thing, but it is a folder"):
        open_regular(tmp_path, what="a thing")
    with pytest.raises(InputError, match="there is no file"):
        open_regular(tmp_path / "b", what="a thing")
    with pytest.raises(InputError, match=r"cannot open .*null byte"):
        open_regular(tmp_path / "a\0b", what="a thing")
    (tmp_path / "c").touch()
    with pytest.raises(InputError, match="it is empty"):
        open_regular(tmp_path / "c", what="a thing")
    os.mkfifo(tmp_path / "d")
    with pytest.raises(InputError, match="pipe, socket or device"):
        open_regular(tmp_path / "d", what="a thing")


def test_refusing_keeps_our_errors_and_shortens_others():
    with pytest.raises(InputError, match=r"^ours$"), refusing("f", "a thing"):
        raise InputError("ours")
    with (
        pytest.raises(InputError, match=r"^cannot read f as a thing: first\. Make or download it again\.$"),
        refusing("f", "a thing"),
    ):
        raise DecoderError("first\nsecond")
    with pytest.raises(InputError, match="DecoderError"), refusing("f", "a thing"):
        raise DecoderError
    with pytest.raises(InputError, match="does not fit into memory"), refusing("f", "a thing"):
        raise MemoryError
    with pytest.raises(InputError, match="nested too deeply"), refusing("f", "a thing"):
        raise RecursionError
    with pytest.raises(KeyboardInterrupt), refusing("f", "a thing"):
        raise KeyboardInterrupt


class DecoderError(Exception):
    pass


def test_what_does_not_fit_is_refused(monkeypatch):
    check_fits("f", 100)
    with pytest.raises(InputError, match="claims 2 KiB of data, more than the limit of 1 KiB"):
        check_fits("f", 2048, 1024)
    monkeypatch.setattr(sources, "available_memory", lambda: 1024)
    with pytest.raises(InputError, match="unpacks to 2 KiB, but only 1 KiB of memory are free"):
        check_fits("f", 2048)
    monkeypatch.setattr(sources, "available_memory", lambda: None)
    check_fits("f", 2048)
