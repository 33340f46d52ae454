"""Pretrained image encoders in folders of ``config.json`` and ``model.safetensors``.

Known architectures: ResNet-8 of MLPerf Tiny, ResNet-20/32/56 for CIFAR-10, the depthwise ResNet-110, MobileNetV1
and MobileNetV2. ``config.json`` names architecture, input size and normalisation. Weights of any float type are read
as float32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dosimeter.core.errors import InputError
from dosimeter.loading.weights import load_weights
from dosimeter.models.networks import initial_weights
from dosimeter.models.zoo_mobilenet import MobileNetV1, MobileNetV2
from dosimeter.models.zoo_resnet import CifarResNet, DepthwiseResNet, TinyResNet
from dosimeter.targets.torch import Preprocessing

_HEADS = ("linear", "fc", "classifier.1")


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained encoder, in evaluation mode.

    Attributes:
        name: the name of its folder.
        module: pre-processed images (n, 3, size, size) -> pooled features (n, embedding_dim).
        preprocessing: from images in 0..1 of any size to what ``module`` takes.
        embedding_dim: length of the features.
        family: shared by encoders of one architecture and origin that differ in depth or training.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    embedding_dim: int
    family: str


@dataclass(frozen=True, eq=False)
class PretrainedClassifier:
    """A pretrained classifier: ``module`` gives logits (n, classes); class c of the data set is logit c + ``label_offset``."""

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    classes: int
    label_offset: int
    family: str


def load_encoder(folder: Path | str) -> Encoder:
    """The encoder in ``folder``, without its head.

    Raises:
        InputError: no such folder, an architecture that is not known here, or weights that do not fit it.
    """
    folder = Path(folder)
    config = _read_config(folder)
    family, module = _build(folder, config)
    _head(folder, config, _fill(folder, module))
    return Encoder(
        folder.name, module.eval(), _preprocessing(folder, config), config["embedding_dim"], family
    )


def load_classifier(folder: Path | str) -> PretrainedClassifier:
    """The encoder in ``folder`` with its head. Raises ``InputError`` as :func:`load_encoder`."""
    folder = Path(folder)
    config = _read_config(folder)
    family, encoder = _build(folder, config)
    module = nn.Sequential(encoder, _head(folder, config, _fill(folder, encoder))).eval()
    return PretrainedClassifier(
        folder.name,
        module,
        _preprocessing(folder, config),
        config["num_classes"],
        config.get("label_offset", 0),
        family,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}. An encoder is a folder with config.json and model.safetensors."
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    missing = [
        key
        for key in ("architecture", "input", "input_size", "num_classes", "embedding_dim")
        if not isinstance(config, dict) or key not in config
    ]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}.")
    return config


def _cifar_resnet(match: re.Match[str]) -> tuple[str, nn.Module]:
    return "cifar-resnet", CifarResNet((int(match[1]) - 2) // 6)


def _depthwise_resnet(match: re.Match[str]) -> tuple[str, nn.Module]:
    return "depthwise-resnet", DepthwiseResNet((int(match[1]) - 2) // 6)


def _tiny_resnet(_: re.Match[str]) -> tuple[str, nn.Module]:
    return "mlperf-resnet", TinyResNet()


def _mobilenet_v1(match: re.Match[str]) -> tuple[str, nn.Module]:
    return "mobilenet-v1", MobileNetV1(width=0.25, folded="folded" in match.string)


def _mobilenet_v2(_: re.Match[str]) -> tuple[str, nn.Module]:
    return "mobilenet-v2", MobileNetV2()


_ARCHITECTURES: tuple[tuple[str, Callable[[re.Match[str]], tuple[str, nn.Module]]], ...] = (
    (r"ResNet-(\d+) for CIFAR .*depthwise", _depthwise_resnet),
    (r"ResNet-(\d+) for CIFAR .*parameter-free shortcut", _cifar_resnet),
    (r"ResNet-8 ", _tiny_resnet),
    (r"MobileNetV1\b", _mobilenet_v1),
    (r"MobileNetV2 width 1\.0", _mobilenet_v2),
)


def _build(folder: Path, config: dict[str, Any]) -> tuple[str, nn.Module]:
    for pattern, build in _ARCHITECTURES:
        if match := re.match(pattern, str(config["architecture"])):
            with initial_weights(0, "zoo"):
                return build(match)
    raise InputError(
        f"{folder / 'config.json'} names an architecture that is not known here: {str(config['architecture'])[:60]!r}. "
        "Known: ResNet for CIFAR, ResNet-8, MobileNetV1, MobileNetV2 width 1.0. For others use a torch target with a factory."
    )


def _fill(folder: Path, module: nn.Module) -> dict[str, torch.Tensor]:
    """Load the weights of ``folder`` into ``module`` and return those of the head."""
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in load_weights(folder / "model.safetensors").items()
    }
    head = {name: weights.pop(name) for name in list(weights) if name.rpartition(".")[0] in _HEADS}
    missing, unexpected = [], []
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    except RuntimeError as error:
        raise InputError(
            f"the weights in {folder} do not fit the architecture in its config.json: {str(error).splitlines()[1].strip()}"
        ) from error
    if missing or unexpected:
        raise InputError(
            f"the weights in {folder} do not fit the architecture in its config.json: "
            f"{len(missing)} tensors missing {missing[:3]}, {len(unexpected)} not known {unexpected[:3]}."
        )
    return head


def _head(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> nn.Linear:
    with initial_weights(0, "zoo"):
        head = nn.Linear(config["embedding_dim"], config["num_classes"])
    found = {name.rpartition(".")[2]: tensor for name, tensor in weights.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    if shapes != wanted:
        raise InputError(f"expected a head with tensors {wanted} in {folder}, but got {shapes}.")
    head.load_state_dict(found)
    return head


def _preprocessing(folder: Path, config: dict[str, Any]) -> Preprocessing:
    size, described = config["input_size"], config["input"]
    if "raw 0..255" in described:
        return Preprocessing(size=size, scale=255.0)
    if "x/127.5-1" in described:
        return Preprocessing(size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    if "mean and std" in described and "mean" in config and "std" in config:
        return Preprocessing(size=size, mean=tuple(config["mean"]), std=tuple(config["std"]))
    if "x/255" in described:
        return Preprocessing(size=size)
    raise InputError(
        f"{folder / 'config.json'} describes an input that is not known here: {described[:80]!r}. "
        "Known: raw 0..255, x/255, x/127.5-1, and 0..1 with mean and std."
    )
