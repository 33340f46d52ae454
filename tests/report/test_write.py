import pytest

from dosimeter.core.errors import InputError, WriteError
from dosimeter.core.files import write_text
from dosimeter.report import write
from dosimeter.report.write import FORMATS, write_reports


def test_every_format_is_written_whole(outcome, tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = write_reports(outcome, folder)
    assert [path.name for path in paths] == [
        "report.html", "report.json", "report.sarif", "report.junit.xml", "model-card.md", "bom.cdx.json",
    ]  # fmt: skip
    for path, render in zip(paths, FORMATS.values(), strict=True):
        assert path.read_text(encoding="utf-8") == render(outcome)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FORMATS)


def test_a_format_that_cannot_be_made_is_said_and_loses_no_other(outcome, tmp_path, monkeypatch, caplog):
    def broken(outcome):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setitem(FORMATS, "report.sarif", broken)
    (tmp_path / "report.sarif").write_text("of another run")
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        write_reports(outcome, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(FORMATS) - {"report.sarif"})
    assert "report.sarif not written; written were report.html, report.json, report.junit.xml" in caplog.text


def test_files_that_cannot_be_written_are_all_said(outcome, tmp_path, monkeypatch, caplog):
    def full(path, text):
        if path.name in ("report.html", "bom.cdx.json"):
            raise WriteError(f"cannot write {path.name}: no room")
        return write_text(path, text)

    monkeypatch.setattr(write, "write_text", full)
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(WriteError, match=r"report.html: no room"):
        write_reports(outcome, tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(FORMATS) - {"bom.cdx.json"})
    assert "bom.cdx.json was not written: cannot write bom.cdx.json: no room" in caplog.text
    assert "report.html and bom.cdx.json not written" in caplog.text


def test_a_bug_in_one_format_is_shown_rather_than_a_full_disk(outcome, tmp_path, monkeypatch):
    def full(path, text):
        raise WriteError(f"cannot write {path.name}")

    def broken(outcome):
        raise ZeroDivisionError

    monkeypatch.setattr(write, "write_text", full)
    monkeypatch.setitem(FORMATS, "model-card.md", broken)
    with pytest.raises(ZeroDivisionError):
        write_reports(outcome, tmp_path)


def test_hostile_outcomes_can_be_written(hostile, tmp_path):
    assert all(path.stat().st_size > 0 for path in write_reports(hostile, tmp_path))


def test_a_folder_that_is_a_file_is_refused(outcome, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        write_reports(outcome, tmp_path / "file")
