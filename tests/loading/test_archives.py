import zipfile

import pytest

from dosimeter.core.errors import InputError
from dosimeter.loading import archives
from dosimeter.loading.archives import Archive
from dosimeter.selftest.crafting import Member, zip_bytes


def write(path, *members, **claims):
    path.write_bytes(zip_bytes(members, **claims))
    return path


def test_reads_what_zipfile_writes(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("folder")
        file.writestr("folder/a.txt", "text " * 1000)
        file.writestr("b.txt", b"", zipfile.ZIP_STORED)
        file.comment = b"a comment after the end"
    with Archive(path, what="an archive") as archive:
        assert list(archive.members) == ["folder/a.txt", "b.txt"]
        assert archive.read("folder/a.txt", max_bytes=5000) == b"text " * 1000
        assert archive.read("b.txt", max_bytes=0) == b""
        with pytest.raises(InputError, match=r"is 4\.883 KiB, more than the 100 bytes accepted here"):
            archive.read("folder/a.txt", max_bytes=100)


def test_reads_the_zip64_form(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file, file.open("a", "w", force_zip64=True) as member:
        member.write(b"data")
    with Archive(path, what="an archive") as archive:
        assert archive.read("a", max_bytes=10) == b"data"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Member("../a", b"x"), r"member '\.\./a' has a path that leads out"),
        (Member("/a", b"x"), "leads out"),
        (Member("a\\b", b"x"), "leads out"),
        (Member("C:a", b"x"), "leads out"),
        (Member("a\0b", b"x"), r"member 'a\\x00b' has a path"),
        (Member("a", b"x", mode=0o120777), "symbolic link"),
        (Member("a", b"x", flags=1), "encrypted"),
        (Member("a", b"x", method=12), "neither stored nor deflated"),
        (Member("a", b"x", size=2), "lies about its size"),
        (Member("a", b"xx", method=8, size=1 << 20), "claims 1 MiB, more than its 2 bytes can hold"),
    ],
)
def test_refuses_dishonest_members(tmp_path, member, message):
    with pytest.raises(InputError, match=message):
        Archive(write(tmp_path / "a.zip", Member("sound", b"x"), member), what="an archive")


def test_refuses_doubled_and_overlapping_members(tmp_path):
    with pytest.raises(InputError, match="is in it twice"):
        Archive(write(tmp_path / "a.zip", Member("a", b"x"), Member("a", b"y")), what="an archive")
    members = [Member(f"{i}", b"x" * 999, offset=0 if i else None) for i in range(9)]
    with pytest.raises(InputError, match="members overlap"):
        Archive(write(tmp_path / "b.zip", *members), what="an archive")


def test_refuses_what_is_damaged(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="not a whole ZIP archive"):
        Archive(_cut(write(tmp_path / "a.zip", Member("a", b"x"))), what="an archive")
    with (
        Archive(write(tmp_path / "b.zip", Member("a", b"x", crc=5)), what="an archive") as archive,
        pytest.raises(InputError, match="Bad CRC-32"),
    ):
        archive.read("a", max_bytes=9)
    with pytest.raises(InputError, match="table of contents"):
        Archive(write(tmp_path / "c.zip", Member("a", b"x"), directory_bytes=1 << 31), what="an archive")


def test_the_zip64_table_of_contents_is_limited_too(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(path, "w") as file:
        for name in "abc":
            file.writestr(name, b"x")
    monkeypatch.setattr(archives, "_MOST_DIRECTORY_BYTES", 140)
    with pytest.raises(InputError, match="table of contents"):
        Archive(path, what="an archive")


def _cut(path):
    path.write_bytes(path.read_bytes()[:-5])
    return path
