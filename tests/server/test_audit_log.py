"""Lines are whole, only appended, and put aside in time."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dosimeter.core.errors import InputError
from dosimeter.server.audit_log import AuditLog


def append(log: AuditLog, **settings: object) -> None:
    line = {
        "key": "a",
        "endpoint": "/embed",
        "status": 200,
        "records": 1,
        "bytes_in": 2,
        "bytes_out": 3,
        "seconds": 0.5,
    }
    log.append(**{**line, **settings})


def test_lines_are_appended_to_what_is_there(tmp_path: Path):
    path = tmp_path / "logs" / "audit.jsonl"
    for number in range(2):
        log = AuditLog(path)
        append(log, records=number)
        log.close()
        log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["records"] for line in lines] == [0, 1]
    assert lines[0]["time"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_file_is_put_aside_and_nothing_is_lost(tmp_path: Path):
    log = AuditLog(tmp_path / "audit.jsonl", most_bytes=4096)
    for number in range(100):
        append(log, records=number)
    log.close()
    files = sorted(tmp_path.iterdir(), key=lambda file: (file.suffix == ".jsonl", file.name))
    assert len(files) >= 3 and all(file.stat().st_size <= 4096 for file in files)
    assert [json.loads(line)["records"] for file in files for line in file.read_text().splitlines()] == list(
        range(100)
    )


def test_a_folder_is_no_log(tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot append to the audit log .*Is a directory"):
        AuditLog(tmp_path)
