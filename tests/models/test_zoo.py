import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dosimeter import data
from dosimeter.core.errors import InputError
from dosimeter.data.public import read_zip_images
from dosimeter.models.training import images_to_tensor, single_thread
from dosimeter.models.zoo import load_classifier, load_encoder
from dosimeter.models.zoo_mobilenet import MobileNetV1
from dosimeter.models.zoo_resnet import CifarResNet, SameConv2d, TinyResNet

real_data = [
    pytest.mark.real_data,
    pytest.mark.skipif("DOSIMETER_DATA" not in os.environ, reason="DOSIMETER_DATA is not set"),
]
CIFAR_CONFIG = {
    "architecture": "ResNet-8 for CIFAR (16-32-64, 3 x 1 basic blocks, parameter-free shortcut)",
    "input_size": 32,
    "input": "RGB in 0..1, normalised with the mean and std below, NCHW",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "num_classes": 10,
    "embedding_dim": 64,
}


def write(folder: Path, encoder, config, *, dtype=torch.float32, **extra):
    """An encoder folder with the state of ``encoder`` and a head of constant rows."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in encoder.state_dict().items()}
    head = torch.arange(10.0)[:, None].expand(10, 64).contiguous()
    save_file(
        {**state, "linear.weight": head, "linear.bias": torch.zeros(10), **extra},
        folder / "model.safetensors",
    )
    return folder


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


@pytest.mark.parametrize("size", [1, 7, 8, 13])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_that_of_tensorflow(size, kernel, stride):
    """Reference: out = ceil(in / stride); window i covers in-positions from i * stride - total // 2, zero outside."""
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    x = torch.rand(1, 1, size, size + 2)
    out = conv(x)[0, 0]
    expected = torch.zeros(-(-size // stride), -(-(size + 2) // stride))
    offsets = [
        max((n_out - 1) * stride + kernel - n_in, 0) // 2
        for n_in, n_out in zip((size, size + 2), expected.shape)
    ]
    for row in range(expected.shape[0]):
        for column in range(expected.shape[1]):
            for i in range(kernel):
                for j in range(kernel):
                    r, c = row * stride - offsets[0] + i, column * stride - offsets[1] + j
                    if 0 <= r < size and 0 <= c < size + 2:
                        expected[row, column] += x[0, 0, r, c] * conv.weight[0, 0, i, j]
    torch.testing.assert_close(out, expected)


def test_shortcut_without_parameters_slices_and_pads():
    shortcut = CifarResNet(1).layer2[0].shortcut
    x = torch.rand(2, 16, 4, 4)
    out = shortcut(x)
    assert out.shape == (2, 32, 2, 2)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any() and not out[:, 24:].any()


def test_round_trip_with_half_precision_weights(tmp_path):
    original = seeded(lambda: CifarResNet(1))
    state = torch.random.get_rng_state()
    encoder = load_encoder(write(tmp_path / "mine", original, CIFAR_CONFIG, dtype=torch.float16))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (encoder.name, encoder.family, encoder.embedding_dim) == ("mine", "cifar-resnet", 64)
    assert not encoder.module.training
    assert all(p.dtype == torch.float32 for p in encoder.module.parameters())
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(CIFAR_CONFIG[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = original((x - mean) / std)
        found = encoder.module(encoder.preprocessing(x))
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=5e-3)
        classifier = load_classifier(tmp_path / "mine")
        logits = classifier.module(classifier.preprocessing(x))
    torch.testing.assert_close(logits, found.sum(1, keepdim=True) * torch.arange(10.0))
    assert (classifier.classes, classifier.label_offset) == (10, 0)


@pytest.mark.parametrize(
    ("described", "pixel", "expected"),
    [
        ("RGB, raw 0..255 (no normalisation), NCHW", 1.0, 255.0),
        ("RGB, x/127.5-1, NCHW", 0.0, -1.0),
        ("RGB, x/127.5-1, NCHW", 1.0, 1.0),
        ("RGB, x/255, NCHW", 0.5, 0.5),
    ],
)
def test_input_descriptions_become_preprocessing(tmp_path, described, pixel, expected):
    config = CIFAR_CONFIG | {
        "architecture": "ResNet-8 (16-32-64), convolutions with bias",
        "input": described,
    }
    encoder = load_encoder(write(tmp_path / "tiny", seeded(TinyResNet), config))
    x = encoder.preprocessing(torch.full((1, 3, 40, 40), pixel))
    assert x.shape == (1, 3, 32, 32)
    torch.testing.assert_close(x, torch.full_like(x, expected))


@pytest.mark.parametrize(
    ("change", "extra", "message"),
    [
        ({"architecture": "VGG-16"}, {}, "architecture that is not known here: 'VGG-16'"),
        ({"architecture": CIFAR_CONFIG["architecture"].replace("-8", "-14")}, {}, "30 tensors missing"),
        ({"architecture": "ResNet-8 (16-32-64)"}, {}, "do not fit the architecture"),
        ({"input": "grey"}, {}, "an input that is not known here: 'grey'"),
        ({"num_classes": 7}, {}, r"expected a head with tensors .*\(7, 64\).*got .*\(10, 64\)"),
        ({}, {"extra.weight": torch.zeros(1)}, r"1 not known \['extra.weight'\]"),
        ({}, {"conv1.weight": torch.zeros(4, 3, 3, 3)}, "do not fit.*size mismatch for conv1.weight"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, change, extra, message):
    folder = write(tmp_path / "bad", CifarResNet(1), CIFAR_CONFIG | change, **extra)
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


def test_broken_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*config.json: No such file"):
        load_encoder(tmp_path / "absent")
    folder = write(tmp_path / "bad", CifarResNet(1), CIFAR_CONFIG)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"config.json is not valid JSON"):
        load_encoder(folder)
    (folder / "config.json").write_text('{"architecture": "ResNet-8 "}', encoding="utf-8")
    with pytest.raises(InputError, match=r"config.json lacks input, input_size, num_classes, embedding_dim"):
        load_encoder(folder)
    (folder / "config.json").write_text(json.dumps(CIFAR_CONFIG), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"\x80\x02pickle")
    with pytest.raises(InputError):
        load_encoder(folder)


def test_folded_batch_norm_gives_the_same_features():
    """A V1 with batch norm equals the one whose batch norm was folded into weight and bias by hand."""
    plain = seeded(lambda: MobileNetV1(width=0.25, folded=False))
    folded = MobileNetV1(width=0.25, folded=True).eval()
    with torch.no_grad():
        pairs = [(plain.conv1, plain.bn1, folded.conv1)]
        for block, target in zip(plain.blocks, folded.blocks):
            pairs += [(block.dw, block.dw_bn, target.dw), (block.pw, block.pw_bn, target.pw)]
        for number, (conv, norm, target) in enumerate(pairs):
            norm.running_mean.fill_(0.01 * number)
            factor = norm.weight / (norm.running_var + 1e-3).sqrt()
            target.weight.copy_(conv.weight * factor.view(-1, 1, 1, 1))
            target.bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
        x = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(plain(x), folded(x), atol=1e-5, rtol=1e-4)


def folder_of(name):
    return Path(os.environ["DOSIMETER_DATA"]) / "models/image_encoders" / name


@pytest.fixture(scope="module")
def cifar_test():
    return data.load("cifar10", split="test").split([0.1], seed=0)[0]


@pytest.mark.parametrize(
    ("name", "stated", "n"),
    [
        pytest.param(*case, marks=real_data, id=case[0])
        for case in (
            ("resnet8_cifar10_mlperf_tiny", 0.77, 400),
            ("resnet20_cifar10", 0.821, 400),
            ("resnet32_cifar10", 0.840, 400),
            ("resnet56_cifar10", 0.850, 200),
            ("dwresnet110_cifar10", 0.71, 200),
        )
    ],
)
def test_cifar_encoders_reach_their_stated_accuracy(cifar_test, name, stated, n):
    """Within 2.6 standard errors of the stated accuracy on JPEG test images; the lossless samples nearly all right."""
    part = cifar_test.take(range(n))
    samples = data.load("image-samples", set="cifar10")
    found, encoder = load_classifier(folder_of(name)), load_encoder(folder_of(name))
    with single_thread(), torch.no_grad():
        predicted = found.module(found.preprocessing(images_to_tensor(part.inputs))).argmax(1).numpy()
        x = images_to_tensor(samples.inputs)
        sure = found.module(found.preprocessing(x)).argmax(1).numpy()
        embedding = encoder.module(encoder.preprocessing(x))
    assert abs((predicted == part.labels).mean() - stated) < 2.6 * np.sqrt(stated * (1 - stated) / n)
    assert (sure == samples.labels).sum() >= 18
    assert embedding.shape == (20, encoder.embedding_dim)


@pytest.mark.parametrize(
    ("name", "top1", "top5"),
    [
        pytest.param("mobilenet_v2_1.0_224_imagenet", 18, 20, marks=real_data),
        pytest.param("mobilenet_v1_0.25_128_imagenet", 7, 15, marks=real_data),
    ],
)
def test_imagenet_encoders_know_the_samples(name, top1, top5):
    """V1 is stated as 8 and 15 of 20; which filter reduces the samples to 128 pixels moves one of them."""
    samples = data.load("image-samples", set="imagenet")
    found, encoder = load_classifier(folder_of(name)), load_encoder(folder_of(name))
    with single_thread(), torch.no_grad():
        embedding = encoder.module(encoder.preprocessing(images_to_tensor(samples.inputs)))
        best = found.module[1](embedding).topk(5, dim=1).indices.numpy() - found.label_offset
    assert (best[:, 0] == samples.labels).sum() >= top1
    assert (best == samples.labels[:, None]).any(1).sum() >= top5
    assert embedding.shape == (20, encoder.embedding_dim) and (embedding >= 0).all()


@pytest.mark.parametrize("name", [pytest.param("mobilenet_v1_0.25_96_vww", marks=real_data)])
def test_the_person_detector_agrees_with_captions(name):
    """COCO images with a person in no caption, or in four or more; stated as 81 % of 58 images."""
    folder = Path(os.environ["DOSIMETER_DATA"]) / "captions"
    members, images = read_zip_images(folder / "images_128.zip", "coco/", ".jpg")
    person = re.compile(
        r"\b(man|men|woman|women|person|people|boy|girl|child|children|player|skier|surfer)s?\b", re.I
    )
    mentions = {}
    for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        mentions[row["image"]] = sum(bool(person.search(caption)) for caption in row["captions"])
    counts = np.array([mentions.get(member, 1) for member in members])
    clear = (counts == 0) | (counts >= 4)
    found = load_classifier(folder_of(name))
    with single_thread(), torch.no_grad():
        predicted = found.module(found.preprocessing(images_to_tensor(images[clear]))).argmax(1).numpy()
    assert clear.sum() > 50 and found.classes == 2
    assert (predicted == (counts[clear] > 0)).mean() > 0.75
