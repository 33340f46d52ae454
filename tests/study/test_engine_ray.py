"""Tests of the Ray engine on a cluster of two nodes with folders of their own; what a kill leaves, is in test_kill."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, InputError, MissingExtra
from dosimeter.core.ledger import Ledger
from dosimeter.core.progress import ProgressEvent, listening
from dosimeter.study import engine_ray, ray_reaper
from dosimeter.study.cell import Bench
from dosimeter.study.engine import engine_named
from dosimeter.study.home import Home
from dosimeter.study.identity import code_version
from dosimeter.study.outcome import StudyOutcome, comparable
from dosimeter.study.ray_books import Desk, Raised
from dosimeter.study.ray_cluster import ClusterError
from dosimeter.study.ray_worker import Ready
from dosimeter.study.run import run_study
from dosimeter.study.spec import load_spec
from dosimeter.study.store import Store

SUPPORT = Path(__file__).parents[1] / "support"
FACTORY = """
import numpy as np
from dosimeter import CallableTarget

def answer(words):
    codes = [[float(ord(letter)) for letter in (word * 8)[:8]] for word in words]
    return np.sin(np.array(codes)).astype(np.float32)

def load():
    kind = {"modality": "text", "returns": "scores"}
    return CallableTarget(answer, **kind, name="mine", fingerprint="mine", batch_size=4)
"""
SPEC = """\
name: words  # reached with ${TRAVELLING_TOKEN}
target: {kind: torch, factory: "my_models.py:load", returns: scores}
data: {public: words.txt}
attacks: [{travelling: SETTINGS}]
budget: {queries: 1000}
seeds: SEEDS
"""
WORDS = 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A cluster of two nodes, each with one CPU and a current folder of its own; their folders, and its address."""
    if find_spec("ray") is None:  # not importorskip: Ray reads its environment when it is first imported
        pytest.skip("the extra 'ray' is not installed")
    folder = tmp_path_factory.mktemp("nodes")
    metadata = folder / "plugin" / "travelling-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: travelling\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text("[dosimeter.methods]\ntravelling = travelling:Travelling\n")
    with pytest.MonkeyPatch.context() as patch:
        added = [str(folder / "plugin"), str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(added))
        if "ray" not in sys.modules:
            os.environ.update(
                RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"
            )
        from dosimeter.study.ray_cluster import import_ray

        import_ray()
        logging.getLogger("ray").setLevel(logging.ERROR)
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        node = {
            "num_cpus": 1,
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
            "include_log_monitor": False,
            "no_monitor": True,
        }
        for name in ("head", "other"):
            (folder / name).mkdir()
            patch.chdir(folder / name)
            environment = {"XDG_CACHE_HOME": str(folder / name / "cache"), "TMPDIR": str(folder / name)}
            # Workers that are started ahead of the copied folder cannot be used.
            environment["RAY_prestart_worker_first_driver"] = "0"
            cluster.add_node(**node, env_vars=environment)
    yield {"head": folder / "head", "other": folder / "other", "address": Path(cluster.address)}
    cluster.shutdown()


@pytest.fixture
def travelling(
    install: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    install("travelling", {"travelling": "travelling:Travelling"}, SUPPORT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAVELLING_TOKEN", "sesame")
    for name in ("DOSIMETER_HOME", "DOSIMETER_STORE"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    project.mkdir()
    (project / "my_models.py").write_text(FACTORY)
    (project / "words.txt").write_text("\n".join(f"word-{number}" for number in range(WORDS)) + "\n")
    (project / ".gitignore").write_text("words.txt\n")

    def write(settings: str = "{}", seeds: str = "[0, 1, 2]") -> Path:
        path = project / "audit.yaml"
        path.write_text(SPEC.replace("SETTINGS", settings).replace("SEEDS", seeds))
        return path

    return write


def audit(path: Path, where: str, address: Path | None = None, **options) -> StudyOutcome:
    engine = engine_named("local") if address is None else engine_named("ray", address=str(address))
    folder = path.parents[1]
    return run_study(
        load_spec(path), out=folder / where, home=Home(folder / f"home-{where}"), engine=engine, **options
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.txt")}


def test_a_study_on_two_nodes_is_the_study_on_this_machine(
    nodes: dict[str, Path], travelling: Callable[..., Path], caplog: pytest.LogCaptureFixture
):
    path = travelling()
    local = audit(path, "local", jobs=1, threads=1)
    caplog.clear()
    events: list[ProgressEvent] = []
    with listening(events.append):
        remote = audit(path, "remote", nodes["address"], threads=1)
    assert json.dumps(comparable(remote)) == json.dumps(comparable(local))
    assert [cell.result.verdict for cell in remote.cells] == ["pass"] * 3
    # Half of the words is the same for every seed, and both nodes start with them at the same time.
    assert remote.bill.sent == local.bill.sent == WORDS // 2 + 3 * WORDS // 2
    assert remote.bill.lost == 0

    out = path.parents[1] / "remote"
    found = files(out / "artifacts")
    assert found == files(path.parents[1] / "local" / "artifacts")
    assert len(found) == 3
    assert min(map(len, found.values())) > 4 * 2**20  # fetched in several pieces
    places = [json.loads(place.read_text()) for place in out.rglob("place.json")]
    assert len({place["process"] for place in places} | {os.getpid()}) == 3
    assert {place["token"] for place in places} == {"sesame"}
    assert all("working_dir_files" in place["folder"] for place in places)
    caches = {place["cache"] for place in places}
    here = str(path.parents[1] / "home-remote" / "cache")
    assert caches == {here, str(nodes["other"] / "cache" / "dosimeter" / "cache")} or caches == {
        here,
        str(nodes["head"] / "cache" / "dosimeter" / "cache"),
    }
    assert not [*nodes["head"].glob("dosimeter-cell-*"), *nodes["other"].glob("dosimeter-cell-*")]

    tasks = {event.task for event in events}
    assert {f"travelling, seed {seed}: travelling" for seed in range(3)} <= tasks
    ended = {event.task for event in events if event.finished}
    assert {f"travelling, seed {seed}: travelling" for seed in range(3)} <= ended
    assert {f"seed {seed} was here" for seed in range(3)} <= {
        record.getMessage() for record in caplog.records
    }


def test_a_worker_that_dies_costs_one_cell_and_a_desk_that_dies_ends_the_study(
    nodes: dict[str, Path], travelling: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    give = engine_ray._Team._give

    def give_and_kill(team: engine_ray._Team, member: engine_ray._Member, job: object) -> None:
        if job is not None and job.place.cell.seed == 3:
            team._ray.kill(team._desk)
        give(team, member, job)

    monkeypatch.setattr(engine_ray._Team, "_give", give_and_kill)
    path = travelling("{mode: killed}", "[1, 2, 3]")
    with pytest.raises(
        ClusterError, match=r"the Ray actor that keeps answers and bill has ended.*Start the same"
    ):
        audit(path, "out", nodes["address"], jobs=1)
    store = Store(Home(path.parents[1] / "home-out").store_url)
    [run] = store.runs()
    assert run.status == "running"
    [died] = store.results(
        run.id
    ).values()  # what came after it could not be told from what the desk's end did
    reason = str(died.reason)
    assert reason.startswith("the process working on this cell, on node ")
    assert reason.endswith("ended without a result. Most often memory ran out; try fewer --jobs.")

    resumed = audit(path, "out", jobs=1)
    assert resumed.run == run.id
    assert [cell.result.verdict for cell in resumed.cells] == ["error", "pass", "pass"]
    assert (resumed.bill.sent, resumed.bill.lost) == (WORDS // 2 + 2 * WORDS // 2, 0)
    undisturbed = audit(travelling("{mode: killed}", "[2, 3]"), "undisturbed", jobs=1)
    assert comparable(resumed)["cells"][1:] == comparable(undisturbed)["cells"]


def test_an_interrupt_ends_all_work(nodes: dict[str, Path], travelling: Callable[..., Path], tmp_path: Path):
    trace = tmp_path / "trace"
    trace.mkdir()

    def interrupt(event: ProgressEvent) -> None:
        if event.task.endswith("sleeping"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(interrupt):
        audit(travelling(f"{{mode: slow, trace: {trace}}}"), "out", nodes["address"])
    workers = [int(path.name) for path in trace.iterdir()]
    assert workers
    deadline = time.monotonic() + 10
    while any(ray_reaper.started(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


class OneNode:
    """Stands for the module ``ray``, with one node of two CPUs whose workers are ready at once."""

    class exceptions:  # as Ray's module is called
        class RayError(Exception):
            pass

    @staticmethod
    def nodes() -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    @staticmethod
    def get(ready: Ready | Exception) -> Ready:
        if isinstance(ready, Exception):
            raise ready
        return ready


def test_a_node_that_cannot_be_used_is_said():
    team = object.__new__(engine_ray._Team)
    team._ray = OneNode
    member = engine_ray._Member(None, "worker-1", Ready(code="another", host="far"))
    with pytest.raises(
        ClusterError, match=r"node far of the Ray cluster has another dosimeter.*Install the same"
    ):
        team._got_ready(member)
    member.doing = Ready(code=code_version(), host="far")
    assert team._got_ready(member).host == "far"
    member.doing = OneNode.exceptions.RayError("it died\nNo module named 'dosimeter'\n")
    with pytest.raises(
        ClusterError, match=r"no worker could be started .*: No module named 'dosimeter'\. Install the"
    ):
        team._got_ready(member)
    team._bench = Bench(spec=None, home=None, run="", out=None, threads=3)
    with pytest.raises(
        InputError, match=r"computes with 3 threads.*no node .* more than 2 CPUs.*fewer --threads"
    ):
        team._check_size()


def test_addresses_that_cannot_be_used(travelling: Callable[..., Path]):
    if find_spec("ray") is None:
        pytest.skip("the extra 'ray' is not installed")
    path = travelling()
    for address, said in (
        ("ray://10.0.0.1:10001", "so it must be a node of the cluster. Run 'ray start --address"),
        ("here", "expected a Ray address such as 10.0.0.1:6379 or auto, but got 'here'"),
    ):
        with pytest.raises(InputError, match=said):
            audit(path, "out", Path(address) if "//" not in address else address)
    with pytest.raises(
        ClusterError, match=r"no Ray cluster answers at 127.0.0.1:1: .*refused.*'ray start --head'"
    ):
        audit(path, "out", Path("127.0.0.1:1"))
    with pytest.raises(InputError, match="give --engine ray with it"):
        engine_named("local", address="auto")
    with pytest.raises(InputError, match="there is no engine 'sun'"):
        engine_named("sun")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for address in (None, "auto"):
        with pytest.raises(
            MissingExtra, match=r"the engine 'ray' needs the extra 'ray'.*pip install 'dosimeter\[ray\]'"
        ):
            engine_named("ray", address=address)


class TestDesk:
    def test_one_worker_asks_at_a_time_also_beside_other_studies(self, tmp_path: Path):
        home = Home(tmp_path)

        async def work() -> None:
            desk = Desk(home, "run", 5)
            assert await desk.acquire("a", 0.01) == {}
            assert None is await desk.acquire("b", 0.02)
            with pytest.raises(TimeoutError):
                FileLock(AnswerCache.lock_file(home.answers)).acquire(timeout=0)
            await desk.release("b")  # of something it does not hold
            assert None is await desk.acquire("b", 0.02)
            waiting = asyncio.create_task(desk.acquire("b", 5))
            await asyncio.sleep(0.01)
            await desk.release("a")
            assert await waiting == {}

        asyncio.run(work())
        with closing(AnswerCache(home.answers)) as cache, cache.alone():

            async def beside() -> None:
                assert None is await Desk(home, "run", 5).acquire("a", 0.02)

            asyncio.run(beside())

    def test_a_dead_worker_holds_nothing_whenever_its_wish_arrives(self, tmp_path: Path):
        async def work() -> None:
            desk = Desk(Home(tmp_path), "run", 5)
            assert await desk.acquire("a", 1) == {}
            waiting = asyncio.create_task(desk.acquire("b", 5))
            await asyncio.sleep(0.01)
            await desk.forget("b")
            assert None is await waiting
            await desk.forget("a")
            assert None is await desk.acquire("a", 1)
            assert await desk.acquire("c", 1) == {}

        asyncio.run(work())

    def test_answers_come_with_the_lock_which_is_not_kept_where_they_cannot_be_read(self, tmp_path: Path):
        home = Home(tmp_path)

        async def work() -> None:
            desk = Desk(home, "run", 5)
            await desk.ask("answers", "put", ["k"], ["answer"])
            assert await desk.acquire("a", 1, ["k", "x"]) == {"k": "answer"}
            await desk.release("a")
            desk._books["answers"].close()
            assert isinstance(await desk.acquire("a", 1, ["k"]), Raised)
            del desk._books["answers"]
            assert await desk.acquire("b", 0.02, ["k"]) == {"k": "answer"}

        asyncio.run(work())

    def test_errors_are_values_and_the_cap_holds(self, tmp_path: Path):
        home = Home(tmp_path)

        async def work() -> None:
            desk = Desk(home, "run", 5)
            assert await desk.ask("ledger", "reserve", 4, target="t") is None
            refused = await desk.ask("ledger", "reserve", 2, target="t")
            assert isinstance(refused, Raised)
            assert isinstance(refused.error, BudgetExceeded)
            assert await desk.ask("ledger", "remaining") == 1
            await desk.ask("answers", "put", ["k"], ["answer"])
            assert await desk.ask("answers", "get", ["k", "x"]) == {"k": "answer"}

        asyncio.run(work())
        with closing(Ledger(home.ledger("run"))) as ledger, closing(AnswerCache(home.answers)) as cache:
            assert ledger.used == 4
            assert cache.get(["k"]) == {"k": "answer"}

    def test_what_workers_tell_arrives_once_and_in_order(self, tmp_path: Path):
        async def work() -> None:
            desk = Desk(Home(tmp_path), "run", None)
            waiting = asyncio.create_task(desk.told())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await desk.tell(1)
            await desk.tell(2)
            assert await waiting == [1, 2]
            assert await desk.told_by_now() == []

        asyncio.run(work())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the reaper knows processes by /proc")
def test_the_reaper_ends_what_it_was_told_of_and_removes_the_folder(tmp_path: Path):
    folder = tmp_path / "cluster"
    (folder / "deep").mkdir(parents=True)
    left = subprocess.Popen(["sleep", "60"])
    spared = subprocess.Popen(["sleep", "60"])
    reaper = subprocess.Popen(
        [sys.executable, "-I", "-S", ray_reaper.__file__, str(folder)], stdin=subprocess.PIPE, text=True
    )
    assert reaper.stdin is not None
    reaper.stdin.write(f"{left.pid}\n999999999\n")
    reaper.stdin.close()
    assert left.wait(10) == -9
    assert reaper.wait(10) == 0
    assert not folder.exists()
    assert spared.poll() is None
    spared.kill()
    spared.wait()
