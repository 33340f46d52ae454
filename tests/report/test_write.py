import pytest

from dosimeter.core.errors import InputError
from dosimeter.report.html import render_html
from dosimeter.report.json import render_json
from dosimeter.report.write import write_reports


def test_both_files_are_written_whole(outcome, tmp_path):
    folder = tmp_path / "new" / "folder"
    paths = write_reports(outcome, folder)
    assert [path.name for path in paths] == ["report.html", "report.json"]
    assert paths[0].read_text(encoding="utf-8") == render_html(outcome)
    assert paths[1].read_text(encoding="utf-8") == render_json(outcome)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]


def test_hostile_outcomes_can_be_written(hostile, tmp_path):
    assert all(path.stat().st_size > 0 for path in write_reports(hostile, tmp_path))


def test_a_folder_that_is_a_file_is_refused(outcome, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into"):
        write_reports(outcome, tmp_path / "file")
