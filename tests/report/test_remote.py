"""Tests of keeping the files of a run on an fsspec URL: whole or absent, checked, told of without secrets."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from dosimeter.cli import app
from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.report.remote import MANIFEST, Entry, RemoteFolder, UploadError
from dosimeter.report.write import FORMATS

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryFileSystem]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "artifacts" / "cell").mkdir(parents=True)
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "artifacts" / "cell" / "big.bin").write_bytes(bytes(range(256)) * 40_000)
    return tmp_path


NAMES = ["report.json", "artifacts/cell/big.bin"]


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_files_arrive_whole_with_a_manifest_and_come_back(folder: Path, kind: str, tmp_path_factory):
    base = tmp_path_factory.mktemp("remote")
    url = f"{kind}://{base}/deep/audits/"
    remote = RemoteFolder(url)
    remote.check()
    assert remote.manifest("run") == {}
    remote.put("run", folder, NAMES)
    assert remote.of("run") == f"{kind}://{base}/deep/audits/run"
    system = fsspec.filesystem(kind)
    there = {path.removeprefix(f"{base}/deep/audits/run/") for path in system.find(f"{base}/deep/audits")}
    assert there == {*NAMES, MANIFEST}
    big = (folder / NAMES[1]).read_bytes()
    assert remote.manifest("run")[NAMES[1]] == Entry(hashlib.sha256(big).hexdigest(), len(big))
    back = tmp_path_factory.mktemp("back")
    remote.get("run", NAMES[1], remote.manifest("run")[NAMES[1]], back)
    assert (back / NAMES[1]).read_bytes() == big
    remote.put("run", folder, NAMES[:1])
    assert set(remote.manifest("run")) == set(NAMES)


def test_what_arrives_damaged_is_noticed_and_gets_no_name(
    folder: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    remote = RemoteFolder("memory://audits")
    remote.put("run", folder, NAMES[:1])
    opened = MemoryFileSystem.open

    def damaging(self, path, mode="rb", **options):
        file = opened(self, path, mode, **options)
        if mode == "wb" and "big.bin" in path:
            write = file.write
            file.write = lambda data: write(b"x" + data[1:])
        return file

    monkeypatch.setattr(MemoryFileSystem, "open", damaging)
    with pytest.raises(
        UploadError,
        match=r"cannot write the artifacts of run run at memory://audits/run: .*not what was sent\. The run is kept; "
        r"repeat with 'dosimeter report run --artifacts memory://audits'",
    ):
        remote.put("run", folder, NAMES)
    assert memory.find("/audits") == ["/audits/run/manifest.json", "/audits/run/report.json"]
    assert set(remote.manifest("run")) == {"report.json"}


def test_what_was_changed_there_is_noticed_when_it_is_fetched(folder: Path, memory: MemoryFileSystem):
    remote = RemoteFolder("memory://audits")
    remote.put("run", folder, NAMES)
    memory.pipe_file("/audits/run/artifacts/cell/big.bin", b"other")
    entry = remote.manifest("run")[NAMES[1]]
    with pytest.raises(UploadError, match=r"cannot read the artifacts of run run .*not what was sent"):
        remote.get("run", NAMES[1], entry, folder / "new")
    assert not [path for path in (folder / "new").rglob("*") if path.is_file()]
    with pytest.raises(UploadError, match=r"names the file '\.\./x', which lies outside"):
        remote.get("run", "../x", entry, folder / "new")


def test_no_folder_is_made_where_there_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a mistyped bucket, some object stores would make a new one."""
    monkeypatch.setattr(MemoryFileSystem, "protocol", ("s3", "s3a"))
    monkeypatch.setattr(MemoryFileSystem, "makedirs", lambda *_, **__: pytest.fail("a folder was made"))
    remote = RemoteFolder("memory://audits")
    remote.check()
    remote.put("run", folder, NAMES)
    assert set(remote.manifest("run")) == set(NAMES)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:hunter2@bucket/a", "without user, password.*Give credentials in the environment"),
        ("https://host/a?signature=hunter2", "without user, password"),
        ("simplecache::s3://bucket/a", "one URL, not a chain"),
        (
            "audits",
            "such as s3://bucket/audits, but got 'audits'; a folder of this machine is named with --out",
        ),
        ("memory://", "such as s3://bucket/audits"),
        (
            "nosuch://bucket/a",
            "cannot use the place of the artifacts nosuch://bucket/a: .*protocol such as s3://",
        ),
        ("http://[hunter2", "without user, password"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str):
    with pytest.raises(InputError, match=said) as caught:
        RemoteFolder(url)
    assert "hunter2" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("s3fs", "fsspec.implementations.sftp", "paramiko"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match=r"cannot use the place of the artifacts s3://bucket/a: .*s3fs.*Install the package"
    ):
        RemoteFolder("s3://bucket/a")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dosimeter\[remote\]'"):
        RemoteFolder("memory://a")


def test_secrets_of_the_environment_are_not_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    remote = RemoteFolder("memory://audits")

    def fail(*_, **__):
        raise PermissionError("the key hunter2hunter2 is not valid\nmore")

    monkeypatch.setattr(MemoryFileSystem, "open", fail)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    for act in (remote.check, lambda: remote.put("run", folder, NAMES)):
        with pytest.raises(
            (InputError, UploadError), match=r"PermissionError: the key \*\*\* is not valid\."
        ) as caught:
            act()
        assert "hunter2" not in str(caught.value)


class TestCommands:
    @pytest.fixture
    def spec(self, install: Callable[..., None], audit_folder: Path) -> str:
        install("selftest", {"selftest-probe": "dosimeter.selftest.probe:Probe"}, SUPPORT)
        text = (
            (audit_folder / "audit.yaml")
            .read_text()
            .replace("answers: labels.npy, ", "answers: labels.npy, ")
        )
        words = "import json\nfrom dosimeter import CallableTarget\n\ndef load():\n    return CallableTarget("
        (audit_folder / "mine.py").write_text(
            words + "lambda words: [len(w) % 3 for w in words], modality='text', returns='label', name='m', "
            "fingerprint='m')\n"
        )
        target = text[text.index("target:") : text.index("data:")]
        text = text.replace(target, 'target: {kind: torch, factory: "mine.py:load", returns: label}\n')
        text = text.replace("[label-skew]", "[{selftest-probe: {batches: 2}}]")
        (audit_folder / "audit.yaml").write_text(text)
        return "audit.yaml"

    def run(self, *arguments: str) -> dict:
        done = CliRunner().invoke(app, [*arguments, "--json"])
        return {**json.loads(done.stdout), "code": done.exit_code}

    def test_a_run_is_kept_there_and_comes_back_elsewhere(
        self, spec: str, audit_folder: Path, memory: MemoryFileSystem
    ):
        said = self.run("audit", spec, "--out", "out", "--artifacts", "memory://audits")
        assert (said["code"], said["artifacts"]) == (0, f"memory://audits/{said['run']}")
        listed = {path.removeprefix(f"/audits/{said['run']}/") for path in memory.find("/audits")}
        [labels] = [name for name in listed if name.endswith("/labels.txt")]
        assert listed == {*FORMATS, labels, MANIFEST}
        assert labels == said["cells"][0]["result"]["artifacts"][0]["path"]
        again = self.run("report", "last", "--out", "elsewhere", "--artifacts", "memory://audits")
        assert again["code"] == 0
        assert (audit_folder / "elsewhere" / labels).read_bytes() == (
            audit_folder / "out" / labels
        ).read_bytes()
        assert str(Path("elsewhere") / labels) in again["files"]

        lost = self.run("report", "last", "--out", "empty", "--artifacts", "memory://other")
        assert lost["code"] == 3
        assert (
            f"the file {labels} of run {said['run']} is neither in empty nor at memory://other/"
            in lost["error"]
        )
        assert self.run("report", "last", "--out", "without")["code"] == 0

    def test_a_failed_upload_keeps_the_run_and_can_be_repeated(
        self, spec: str, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                MemoryFileSystem, "mv", lambda *_, **__: (_ for _ in ()).throw(OSError("the disk is full"))
            )
            said = self.run("audit", spec, "--out", "out", "--artifacts", "memory://audits")
        assert said["code"] == 3
        assert "at memory://audits/" in said["error"]
        assert "OSError: the disk is full. The run is kept; repeat with 'dosimeter report " in said["error"]
        assert memory.find("/audits") == []
        repeated = self.run("report", "last", "--artifacts", "memory://audits")
        assert (repeated["code"], repeated["verdict"]) == (0, "pass")
        assert len(memory.find("/audits")) == len(FORMATS) + 2

    def test_a_place_that_cannot_be_written_is_said_before_any_work(self, spec: str, audit_folder: Path):
        (audit_folder / "file").write_text("x")
        said = self.run("audit", spec, "--artifacts", f"file://{audit_folder}/file")
        assert said["code"] == 4
        assert "nothing has run" in said["error"]
        assert not (audit_folder / "dosimeter-runs").exists()
