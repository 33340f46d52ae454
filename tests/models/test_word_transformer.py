"""Words as numbers, and a transformer to which padding is nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.models.word_transformer import BUCKETS, WordTransformer, encode_words


@pytest.fixture(scope="module")
def network():
    return WordTransformer(width=16, heads=2, length=12, embedding_dim=5, seed=0).eval()


def embedded(network, codes):
    with torch.no_grad():
        return network(codes)


def words(text, length=64):
    return int((encode_words([text], length) > 0).sum())


def test_words_and_marks_are_counted_and_case_is_not():
    assert words("The cat, which sat.") == 6
    assert torch.equal(encode_words(["The CAT"]), encode_words(["the cat"]))
    assert not torch.equal(encode_words(["the cat"]), encode_words(["cat the"]))
    assert words("snake_case x-y") == 6


def test_equal_words_have_equal_codes_anywhere():
    codes = encode_words(["a cat and a dog"], 8)[0]
    assert codes[0] == codes[3] != codes[1] and codes[5:].sum() == 0
    assert len(set(codes[:5].tolist())) == 4


def test_long_texts_are_cut():
    long = " ".join(f"w{n}" for n in range(300))
    assert torch.equal(encode_words([long], 20), encode_words([long[:100]], 20))
    assert words(long, 20) == 20


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b"])
def test_every_text_has_a_position(text):
    assert words(text) == 1


def test_chinese_and_japanese_are_one_word_per_sign():
    assert words("今天天气很好。") == 7
    assert words("カタカナ") == 4
    assert words("GPT模型v2") == 4
    today, tomorrow = encode_words(["今天天气很好", "明天天气很好"])
    assert (today[:6] == tomorrow[:6]).tolist() == [False, True, True, True, True, True]
    assert words("привет мир") == 2 and words("안녕 세상") == 2


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(), max_size=5), length=st.integers(1, 9))
def test_any_text_becomes_a_row_of_codes(texts, length):
    codes = encode_words(texts, length)
    assert codes.shape == (len(texts), length) and codes.dtype == torch.int64
    assert ((codes >= 0) & (codes < BUCKETS)).all()
    there = codes > 0
    assert there.any(1).all() and (there[:, :-1] | ~there[:, 1:]).all(), "padding stands only at the end"
    assert torch.equal(codes, encode_words(texts, length))


def test_half_a_surrogate_pair_is_a_text_too():
    assert words("\ud800 word") == 2


def test_padding_changes_no_embedding(network):
    texts = ["a short one", "a much longer text with very many words in it", "x", "", "今天天气很好"]
    together = embedded(network, encode_words(texts, 12))
    for row, text in enumerate(texts):
        alone = embedded(network, encode_words([text], 12))[0]
        torch.testing.assert_close(together[row], alone, atol=1e-6, rtol=1e-5)
        shorter = embedded(network, encode_words([text], max(1, words(text, 12))))[0]
        torch.testing.assert_close(together[row], shorter, atol=1e-6, rtol=1e-5)
    # and not in training mode either, whose attention is another implementation
    trained = network.train()(encode_words(texts, 12)).detach()
    network.eval()
    torch.testing.assert_close(trained, together, atol=1e-5, rtol=1e-4)


def test_what_stands_behind_a_hole_counts_and_the_hole_does_not(network):
    codes = encode_words(["alpha beta gamma delta"], 12)
    hole = codes.clone()
    hole[0, 1] = 0
    other = hole.clone()
    other[0, 3] = codes[0, 0]
    one, two, three = (embedded(network, c) for c in (codes, hole, other))
    assert torch.isfinite(two).all()
    assert not torch.allclose(one, two) and not torch.allclose(two, three)


def test_order_matters(network):
    one, two = embedded(network, encode_words(["dog bites man", "man bites dog"], 12))
    assert not torch.allclose(one, two, atol=1e-4)


def test_a_seed_fixes_the_weights_and_torchs_generator_stays():
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    made = [WordTransformer(width=8, heads=2, length=4, embedding_dim=3, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, other = (torch.cat([p.flatten() for p in m.parameters()]) for m in made)
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_every_weight_that_a_text_uses_gets_a_gradient():
    network = WordTransformer(width=8, heads=2, length=4, embedding_dim=3, seed=0)
    network(encode_words(["a b c d", "e"], 4)).square().sum().backward()
    lost = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert lost == []
    assert network.words.weight.grad[0].abs().sum() == 0, "padding is not trained"
