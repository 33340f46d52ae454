"""One of several processes that share a ledger and a cache: ``oracle_worker.py FOLDER FIRST LAST CAP [DIE_AT]``.

Waits for the file ``go``, asks for the texts FIRST..LAST in small portions, notes every text that the target saw in
``sent``, and prints what it was told as JSON. Kills itself, as ``kill -9`` would, when the target sees DIE_AT.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget

PORTION = 5
folder, first, last, cap = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
die_at = sys.argv[5] if len(sys.argv) > 5 else None


def square(batch):
    with (folder / "sent").open("a") as file:
        file.write("".join(f"{text}\n" for text in batch))
    if die_at in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.002)
    return np.array([int(text) ** 2 for text in batch])


while not (folder / "go").exists():
    time.sleep(0.005)
oracle = Oracle(
    CallableTarget(square, modality="text", returns="label", fingerprint="squares", batch_size=3),
    ledger=Ledger(folder / "ledger.sqlite", max_queries=cap),
    cache=AnswerCache(folder / "answers.sqlite"),
)
told: dict[str, int] = {}
refused = False
for start in range(first, last, PORTION):
    texts = [str(number) for number in range(start, min(start + PORTION, last))]
    try:
        told.update(zip(texts, oracle(texts).tolist()))
    except BudgetExceeded:
        refused = True
        break
json.dump({"told": told, "refused": refused, "queries": oracle.queries}, sys.stdout)
