"""Makes ``support`` importable; one thread, as tiny tensors are slower with more."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(40, 8, 8, 3) random ones, all different."""
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def theft():
    """An undisturbed attack on the tiny service with all its findings: (attack, oracle, result)."""
    from dosimeter.core.ledger import Ledger
    from dosimeter.core.oracle import Oracle
    from support.tiny_thefts import attack, context, service

    ledger = Ledger()
    oracle = Oracle(service(price_per_call=0.01), ledger=ledger)
    made = attack(budgets=(100,), baselines=("no-augmentation",), head_seeds=2)
    return made, ledger, made.run(oracle, context=context())
