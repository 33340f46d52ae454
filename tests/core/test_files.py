import errno
import os
import stat

import pytest

from dosimeter.core.errors import InputError, WriteError
from dosimeter.core.files import ensure_writable_folder, remove_partials, write_atomic, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "report.html"
    assert write_text(path, "één") == path
    assert path.read_bytes() == "één".encode()
    write_text(path, "two")
    assert path.read_text() == "two"
    assert names(path.parent) == ["report.html"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = write_text(tmp_path / "report.html", "old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(path, write)
    assert names(tmp_path) == ["report.html"]
    assert path.read_text() == "old"


def test_the_file_is_absent_until_it_is_whole(tmp_path):
    path = tmp_path / "report.html"

    def write(file):
        file.write(b"x" * 100_000)
        assert not path.exists()

    write_atomic(path, write)
    assert path.stat().st_size == 100_000


def test_a_name_that_is_a_folder_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(WriteError, match=r"cannot write .*taken: Is a directory\. .*choose another folder"):
        write_text(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_a_full_disk_keeps_the_old_file_and_is_one_sentence(tmp_path):
    path = write_text(tmp_path / "report.html", "old")

    def write(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError, match=r"cannot write .*report\.html: No space left on device\. Make room"):
        write_atomic(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["report.html"]


def test_the_hint_names_the_flag_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"it is a file\. Choose another folder, for example with --home\."):
        ensure_writable_folder(tmp_path / "file", flag="--home")
    with pytest.raises(InputError, match=r"it is a file\. Choose another folder\.$"):
        ensure_writable_folder(tmp_path / "file", flag=None)


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        path = write_text(tmp_path / "report.html", "for all")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_partials_of_killed_writers_are_removed_and_only_they(tmp_path):
    inside = tmp_path / "artifacts"
    write_text(inside / "kept.npz", "x")
    left = []

    def write(file):
        left.extend(inside.glob(".*"))
        os.link(left[0], inside / ".copy.npz.0.partial")

    write_atomic(inside / "copy.npz", write)
    remove_partials(tmp_path, older_than_seconds=3600)
    assert (inside / ".copy.npz.0.partial").exists()
    remove_partials(tmp_path)
    assert names(inside) == ["copy.npz", "kept.npz"]


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = ensure_writable_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert names(folder) == []


@pytest.mark.parametrize("below", [".", "out", "deep/er"])
def test_a_folder_at_or_under_a_file_is_refused(tmp_path, below):
    file = tmp_path / "report.html"
    file.touch()
    with pytest.raises(
        InputError, match=r"cannot write into .*report\.html.* Choose another folder, .*--out"
    ):
        ensure_writable_folder(file / below)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"Permission denied\. Choose another folder"):
        ensure_writable_folder(tmp_path)
