"""Makes ``support`` importable; one thread, as tiny tensors are slower with more."""

import sys
from collections.abc import Iterator
from pathlib import Path

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
def prepared():
    """Attack samples and controls of the tiny image encoders, made once."""
    from support.tiny_attacks import CONTEXT, attack

    return attack().prepare(CONTEXT)


@pytest.fixture(scope="session")
def prepared_texts():
    """The same of the tiny text encoders."""
    from support.tiny_attacks import CONTEXT, text_attack

    return text_attack().prepare(CONTEXT)
