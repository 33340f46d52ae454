"""The attack over HTTP: the same copy bit for bit, as many calls as inputs, and none repeated by a run that was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import Purchase, buy
from dosimeter.attacks.encoder_stealing.surrogates import surrogate
from dosimeter.attacks.encoder_stealing.training import Recipe, steal
from dosimeter.core.cache import AnswerCache
from dosimeter.core.claim import Claim
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import ProgressEvent, listening
from dosimeter.core.seeding import derive_seed
from dosimeter.reproductions.encoder_stealing.world import World
from dosimeter.server.greeting import target_snippet
from dosimeter.server.keys import KeyStore
from dosimeter.server.run import Service
from dosimeter.server.spec import ServerSettings
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec

INPUTS, KILLED_AFTER = 320, 96


def claims(place: World, recipe: Recipe, seed: int) -> list[Claim]:
    """Relation 6, on the loopback interface, against the service of ``dosimeter serve``."""
    inputs = place.inside[:INPUTS]
    short = recipe.model_copy(update={"steps": 60})
    in_process = _digest(place, buy(Oracle(place.service), inputs), short, seed)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.sqlite"
        limits = ServerSettings(port=0, requests_per_minute=10**6, quota=None)
        with closing(KeyStore(keys)) as store:
            undisturbed, killed = store.new("undisturbed"), store.new("killed")
        with Service(
            place.service, name="digits encoder", keys_file=keys, settings=limits
        ).running() as address:
            snippet = target_snippet(place.service, address)
            with closing(HttpTarget(_spec(snippet, undisturbed))) as target:
                over_http = _digest(place, buy(Oracle(target), inputs), short, seed)
            first = _killed(snippet, killed, inputs, Path(folder) / "state")
            oracle, bill = _oracle(_spec(snippet, killed), Path(folder) / "state")
            resumed = _digest(place, buy(oracle, inputs), short, seed)
            repeated = bill.used - len(inputs)
            with closing(KeyStore(keys)) as store:
                charged = {key.name: store.used(key) for key in store.list()}
    return [
        Claim(
            "http-same-copy",
            "copies stolen over HTTP, undisturbed and after a kill, that equal the one stolen in process bit for bit, of 2",
            (over_http == in_process) + (resumed == in_process),
            "==",
            2,
        ),
        Claim(
            "http-calls",
            f"records that the service charged for {INPUTS} inputs, undisturbed, minus the inputs",
            charged["undisturbed"] - INPUTS,
            "==",
            0,
        ),
        Claim(
            "resume-repeats",
            f"records charged twice to a run that was killed after {first} of {INPUTS} answers and started again "
            f"({repeated} reserved twice by the client, whose requests carry an idempotency key)",
            charged["killed"] - INPUTS,
            "==",
            0,
        ),
    ]


def _digest(place: World, purchase: Purchase, recipe: Recipe, seed: int) -> str:
    network = surrogate("small-conv", width=purchase.vectors.shape[1], seed=derive_seed(seed, "http"))
    return steal(purchase, network, place.views, recipe, seed=seed, task="stealing over HTTP").digest


def _spec(snippet: dict[str, object], key: str) -> HttpSpec:
    """One request in flight, so that a kill can interrupt a single one."""
    os.environ["DOSIMETER_KEY"] = key
    return HttpSpec.model_validate({**snippet, "concurrency": 1})


def _oracle(spec: HttpSpec, state: Path) -> tuple[Oracle, Ledger]:
    ledger = Ledger(state / "ledger.sqlite")
    return Oracle(HttpTarget(spec), ledger=ledger, cache=AnswerCache(state / "answers.sqlite")), ledger


def _killed(snippet: dict[str, object], key: str, inputs: np.ndarray, state: Path) -> int:
    """Buy in a process of its own, which is killed on the way; gives the number of answers that were stored by then."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_buy_and_die, args=(snippet, key, inputs, state))
    process.start()
    process.join()
    with closing(Ledger(state / "ledger.sqlite")) as ledger:
        return ledger.answered


def _buy_and_die(snippet: dict[str, object], key: str, inputs: np.ndarray, state: Path) -> None:
    def kill(event: ProgressEvent) -> None:
        if event.done >= KILLED_AFTER and not event.finished:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(kill):
        buy(_oracle(_spec(snippet, key), state)[0], inputs)
