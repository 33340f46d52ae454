"""One model in this process and behind ``dosimeter serve``: the same bits, the same bill, through our own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dosimeter.core.errors import TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import wrap_all
from dosimeter.core.oracle import Oracle
from dosimeter.core.registry import load
from dosimeter.targets.huggingface import HuggingFaceTarget
from support.services import KEY, client_of, image_encoder, lengths, serving

IMAGES = np.random.default_rng(3).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
TEXTS = [f"{'red fox ' * (number % 9)}owl {number}" for number in range(40)]
DEFENSES = {
    "none": [],
    "rounding": [("feature-rounding", {"decimals": 2})],
    "noise": [("feature-noise", {"rho": 0.3})],
    "chain": [("feature-top-k", {"k": 5}), ("feature-noise", {"rho": 0.3})],
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTarget:
    """A tiny text model with random weights."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "red", "fox", "owl", *map(str, range(40))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes))
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return HuggingFaceTarget(folder, batch_size=8)


@pytest.mark.parametrize("chain", DEFENSES)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_answers_and_counts_agree(modality, chain, bert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bare = image_encoder() if modality == "image" else bert
    inputs = IMAGES if modality == "image" else TEXTS
    defenses = [load(slug)(**settings) for slug, settings in DEFENSES[chain]]
    here = Oracle(wrap_all(bare, defenses, seed=4))
    ledger = Ledger(max_queries=40)
    with serving(wrap_all(bare, defenses, seed=4), tmp_path, quota=40) as served:
        monkeypatch.setenv(KEY, served.key)
        client = client_of(served, bare, batch_size=3, concurrency=5)
        there = Oracle(client, ledger=ledger)
        for asked in (inputs[:20], inputs[10:], inputs[::-1], [*inputs[:3], *inputs[:3]]):
            batch = np.stack(asked) if modality == "image" else list(asked)
            expected, got = here(batch), there(batch)
            assert expected.dtype == got.dtype == np.float32
            np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))
        client.close()
        assert here.queries == there.queries == ledger.used == ledger.answered == served.used() == 40


def test_our_client_backs_off_when_told_to_and_nothing_is_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serving(lengths(), tmp_path, requests_per_minute=1200, burst=2) as served:
        monkeypatch.setenv(KEY, served.key)
        client = client_of(served, lengths(), batch_size=1, concurrency=6, max_retries=20)
        texts = ["x" * number for number in range(1, 7)]
        answers = Oracle(client)(texts)
        client.close()
        assert [int(answer[0]) for answer in answers] == list(range(1, 7))
        assert served.used() == 6
        assert served.log().count('"status":429') >= 1


def test_a_quota_that_is_used_up_ends_the_asking_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(lengths(), tmp_path, quota=5) as served:
        monkeypatch.setenv(KEY, served.key)
        client = client_of(served, lengths(), batch_size=1, concurrency=1)
        oracle = Oracle(client)
        with pytest.raises(TargetError, match=r"has no quota left for this key .*Ask its operator for more"):
            oracle([f"text {number}" for number in range(9)])
        client.close()
        assert oracle.queries == served.used() == 5
        assert served.log().count("\n") == 6


def test_a_client_that_is_killed_and_comes_back_is_not_charged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dosimeter.core.cache import AnswerCache

    texts = [f"{'y' * number}" for number in range(1, 21)]
    with serving(lengths(0.01, batch_size=1), tmp_path) as served:
        monkeypatch.setenv(KEY, served.key)
        cache = AnswerCache(tmp_path / "answers.sqlite")
        first = client_of(served, lengths(), batch_size=1, concurrency=4)
        stream = first.stream(texts, before_send=lambda n: None)
        for _ in range(3):
            indices, answers = next(stream)
            cache.put([f"k{index}" for index in indices], answers)
        stream.close()
        first.close()
        second = client_of(served, lengths(), batch_size=1, concurrency=4)
        left = [text for index, text in enumerate(texts) if not cache.get([f"k{index}"])]
        assert len(left) < 20
        second.answer(left)
        second.close()
        assert served.used() == 20
