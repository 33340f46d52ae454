"""Kills an audit with SIGKILL again and again and examines what is left: ``dosimeter selftest kill``.

The audit attacks a loopback service that remembers every word it was asked, in worker processes or on a Ray cluster of
its own, under a budget. It is killed while it starts, while queries are in flight, between cells and while reports are
written; sometimes the command alone, sometimes its workers with it. Then it is left to end, and compared with a run on
this machine that nobody disturbed. No process that it started may outlive it for long.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import DosimeterError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import Context
from dosimeter.core.progress import track
from dosimeter.core.records import content_hash
from dosimeter.loading.documents import load_yaml
from dosimeter.selftest.probe import Probe
from dosimeter.selftest.report import SelftestCase, SelftestReport
from dosimeter.selftest.word_service import WordService
from dosimeter.study.home import Home
from dosimeter.study.identity import code_version
from dosimeter.study.outcome import StudyOutcome, comparable
from dosimeter.study.store import Store
from dosimeter.targets.spec import HttpSpec, build_target

_SEEDS = (0, 1, 2, 3)
_BATCHES, _BATCH_SIZE = 12, 16
_PER_REQUEST, _CONCURRENCY = 8, 2
_QUERIES = len(_SEEDS) * _BATCHES * _BATCH_SIZE
_DELAY_SECONDS = 0.01
_LONGEST_SECONDS = 300.0
_COMMAND = "from dosimeter.cli import main; main()"
_ORPHANS_SECONDS = 15.0


def run(kills: int = 10, seed: int = 0, engine: str = "local") -> SelftestReport:
    """Kill an audit on ``engine`` ``kills`` times at moments drawn from ``seed``; needs no network and no framework.

    Raises:
        DosimeterError: Dosimeter's own sources changed meanwhile, so no run could be resumed.
    """
    sources = code_version.__wrapped__()
    with (
        tempfile.TemporaryDirectory(prefix="dosimeter-kill-") as folder,
        WordService(_DELAY_SECONDS).running() as service,
    ):
        place = Path(folder)
        spec = _write_spec(place, service.port, kills)
        undisturbed = _Audit(place / "undisturbed", spec, place)
        expected = undisturbed.finish()
        audit = _Audit(place / "disturbed", spec, place, engine)
        service.asked.clear()
        seen = _Observations(audit, service, spec)
        rng = random.Random(seed)
        with track("killing", kills) as bar:
            for when in _moments(audit, service, kills, rng):
                if audit.run_until(when, group=rng.random() < 0.5):
                    seen.kills += 1
                    seen.look()
                bar.advance()
        seen.orphans = _processes_in(place, patience_seconds=_ORPHANS_SECONDS)
        outcome = audit.finish()
        seen.look()
        if code_version.__wrapped__() != sources:
            raise DosimeterError(
                "the sources of dosimeter changed while the self-test ran, and other code resumes no run. Run it again."
            )
        return SelftestReport("kill", _judge(expected, outcome, seen, audit, service))


def _write_spec(folder: Path, port: int, kills: int) -> Path:
    """The spec, and the probe as a plug-in that the audit's processes find."""
    metadata = folder / "plugin" / "dosimeter_selftest-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dosimeter-selftest\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        f"[dosimeter.methods]\n{Probe.card.slug} = {Probe.__module__}:{Probe.__name__}\n"
    )
    spec = folder / "audit.yaml"
    spec.write_text(
        f"""
name: kill test
target:
  kind: http
  url: http://127.0.0.1:{port}/label
  authorized: true
  request: {{words: "{{{{inputs}}}}"}}
  response: labels
  modality: text
  returns: label
  batch_size: {_PER_REQUEST}
  concurrency: {_CONCURRENCY}
attacks:
  - {Probe.card.slug}: {{batches: {_BATCHES}, batch_size: {_BATCH_SIZE}}}
policy: {{"{Probe.card.slug}.mean": "<= 6"}}
budget: {{queries: {_QUERIES + kills * _PER_REQUEST * _CONCURRENCY}}}
seeds: {list(_SEEDS)}
"""
    )
    return spec


class _Audit:
    """One audit with a state folder and an output folder of its own, in processes that may be killed."""

    def __init__(self, folder: Path, spec: Path, plugin: Path, engine: str = "local") -> None:
        self.home, self.out = Home(folder / "home"), folder / "out"
        self._command = [sys.executable, "-c", _COMMAND, "audit", str(spec), "--out", str(self.out)]
        self._command += ["--home", str(self.home.folder), "--engine", engine, "--json"]
        path = [str(plugin / "plugin"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        for name in ("DOSIMETER_STORE", "DOSIMETER_ARTIFACTS"):
            self._environment.pop(name, None)
        self._folder = plugin

    def _start(self, **options: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            env=self._environment,
            text=True,
            start_new_session=True,
            cwd=self._folder,  # by which its processes are known
            stderr=subprocess.DEVNULL,
            **options,
        )

    def run_until(self, moment: Callable[[float], bool], *, group: bool) -> bool:
        """Start, kill when ``moment(seconds since the start)`` is true; ``False`` if the audit ended before."""
        process = self._start(stdout=subprocess.DEVNULL)
        started = time.monotonic()
        while not moment(time.monotonic() - started):
            if process.poll() is not None:
                return False
            time.sleep(0.001)
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return process.returncode == -signal.SIGKILL

    def finish(self) -> StudyOutcome | None:
        """Let it end; ``None`` if it does not end well."""
        process = self._start(stdout=subprocess.PIPE)
        try:
            text, _ = process.communicate(timeout=_LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
        document = json.loads(text)
        return None if "error" in document else Store(self.home.store_url).outcome(document["run"])

    def cells(self) -> int:
        """Cells stored by now, asked without getting in the way of the writer."""
        path = self.home.folder / "store.sqlite"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            try:
                return int(database.execute("SELECT COUNT(*) FROM cells").fetchone()[0])
            except sqlite3.OperationalError:  # the tables are not there yet
                return 0


def _processes_in(folder: Path, *, patience_seconds: float) -> list[int]:
    """Processes at work in ``folder`` that do not end by themselves; none where the system has no ``/proc``."""
    deadline = time.monotonic() + patience_seconds
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                here = (process / "cwd").readlink().is_relative_to(folder)
            except OSError:  # gone, or somebody else's
                continue
            if here:
                found.append(int(process.name))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _moments(
    audit: _Audit, service: WordService, kills: int, rng: random.Random
) -> list[Callable[[float], bool]]:
    """When to kill: while starting, in the middle of queries, between cells, and at last while reporting."""
    early = [_after_seconds(rng.uniform(0.05, 1.0)) for _ in range(max(1, kills // 5))]
    cells = [_after_cells(audit, n) for n in (1, 3)[: max(1, kills // 5)]]
    count = max(1, kills - len(early) - len(cells) - 1)
    queries = [_after_words(service, int(_QUERIES * (n + rng.random()) / count)) for n in range(count)]
    middle = queries[: count // 3] + cells[:1] + queries[count // 3 :] + cells[1:]
    return [*early, *middle, _while_reporting(audit)][:kills]


def _after_seconds(seconds: float) -> Callable[[float], bool]:
    return lambda passed: passed >= seconds


def _after_words(service: WordService, words: int) -> Callable[[float], bool]:
    return lambda _: len(service.asked) >= words


def _after_cells(audit: _Audit, cells: int) -> Callable[[float], bool]:
    return lambda _: audit.cells() >= cells


def _while_reporting(audit: _Audit) -> Callable[[float], bool]:
    return lambda _: any(audit.out.glob(".report.*")) or any(audit.out.glob("report.*"))


class _Observations:
    """What is found after each kill, and the promises it breaks."""

    def __init__(self, audit: _Audit, service: WordService, spec: Path) -> None:
        self.kills = 0
        self.overshot: list[str] = []
        self.unreadable: list[str] = []
        self.torn: list[str] = []
        self.paid_again: list[str] = []
        self.orphans: list[int] = []
        self.used = self.lost = 0
        self._audit, self._service = audit, service
        written = load_yaml(spec)
        self.limit: int = written["budget"]["queries"]
        fingerprint = build_target(HttpSpec(**written["target"]), spec.parent).fingerprint
        probe = Probe(batches=_BATCHES, batch_size=_BATCH_SIZE)
        batches = [batch for seed in _SEEDS for batch in probe.words(Context(seed=seed))]
        self._key = {word: content_hash(fingerprint, word, 0) for batch in batches for word in batch}
        self._stored: set[str] = set()
        self._asked_by_then = 0

    @property
    def words(self) -> set[str]:
        """Every word that the audit has to ask."""
        return set(self._key)

    def look(self) -> None:
        """Examine the state folder between two starts."""
        when = f"after kill {self.kills}"
        self.paid_again += sorted(self._stored & set(self._service.asked[self._asked_by_then :]))
        try:
            self._look_at_state(when)
        except Exception as error:
            self.unreadable.append(f"{when}: {type(error).__name__}: {error}")
        report = self._audit.out / "report.json"
        if report.exists():
            try:
                StudyOutcome.model_validate_json(report.read_text())
            except ValueError as error:
                self.torn.append(f"{when}: {error}")

    def _look_at_state(self, when: str) -> None:
        home = self._audit.home
        if not (home.folder / "store.sqlite").exists():
            return
        store = Store(home.store_url)
        runs = store.runs()
        for run in runs:
            store.results(run.id)
        store.close()
        if len(runs) > 1:
            self.unreadable.append(f"{when}: {len(runs)} runs instead of one that is resumed")
        ledgers = [Ledger(home.ledger(run.id)) for run in runs]
        self.used, self.lost = sum(ledger.used for ledger in ledgers), sum(ledger.lost for ledger in ledgers)
        cache = AnswerCache(home.answers)
        found = cache.get(list(self._key.values()))
        cache.close()
        for ledger in ledgers:
            ledger.close()
        # In this order: what is stored now must not be asked from now on.
        self._stored = {word for word, key in self._key.items() if key in found}
        self._asked_by_then = len(self._service.asked)
        if max(self.used, self._asked_by_then) > self.limit:
            self.overshot.append(
                f"{when}: {self.used} reserved, {self._asked_by_then} sent, {self.limit} allowed"
            )


def _judge(
    expected: StudyOutcome | None,
    outcome: StudyOutcome | None,
    seen: _Observations,
    audit: _Audit,
    service: WordService,
) -> list[SelftestCase]:
    repeated = sum(count - 1 for count in Counter(service.asked).values())
    partials = [
        str(path.relative_to(audit.out)) for path in audit.out.rglob("*") if path.name.startswith(".")
    ]
    same = expected is not None and outcome is not None and comparable(expected) == comparable(outcome)
    never_asked = len(seen.words - set(service.asked))
    in_flight = seen.kills * _PER_REQUEST * _CONCURRENCY
    return [
        _case(
            "resumed",
            "ends after being killed again and again",
            outcome is not None,
            f"{seen.kills} kills landed",
        ),
        _case(
            "same report", "ends as a run that nobody disturbed", same, "" if same else "the outcomes differ"
        ),
        _case(
            "paid once",
            "asks for no answer that had been stored",
            not seen.paid_again and not never_asked,
            f"{len(seen.paid_again)} stored answers asked again, {never_asked} words never asked",
        ),
        _case(
            "in flight",
            "repeats at most what was in flight when killed",
            repeated <= seen.lost <= in_flight,
            f"{repeated} repeated, {seen.lost} counted as lost, at most {in_flight} in flight",
        ),
        _case(
            "budget",
            "never asks or reserves more than the cap",
            not seen.overshot and len(service.asked) <= seen.used,
            "; ".join(seen.overshot)
            or f"{len(service.asked)} asked, {seen.used} reserved, {seen.limit} allowed",
        ),
        _case("store", "stays readable, with one run", not seen.unreadable, "; ".join(seen.unreadable)),
        _case("reports", "are whole or absent", not seen.torn, "; ".join(seen.torn)),
        _case("no remains", "leaves no temporary files", not partials, ", ".join(partials)),
        _case(
            "no orphans",
            "leaves no processes",
            not seen.orphans,
            f"processes {', '.join(map(str, seen.orphans))} go on" if seen.orphans else "",
        ),
    ]


def _case(name: str, what: str, ok: bool, detail: str) -> SelftestCase:
    return SelftestCase(name=name, what=what, outcome="holds" if ok else "broken", ok=ok, detail=detail)
