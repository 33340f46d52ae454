"""Residual networks for 32x32 images whose pretrained weights the zoo reads.

Sources: He et al. 2016 (ResNet for CIFAR-10), MLPerf Tiny (ResNet-8), depthwise separable variant of ResNet-110.
All map pre-processed images (n, 3, h, w) to globally averaged features (n, 64); tensor names are those of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STAGES = ((16, 1), (32, 2), (64, 2))


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: an odd pixel of padding goes to the right and the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        padding = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding) if any(padding) else input)


class _PadShortcut(nn.Module):
    """Every second pixel, with as many zero channels before as after: a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = _PadShortcut(inputs, outputs, stride) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inside)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-(6 ``blocks`` + 2) with shortcuts without parameters."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for number, (outputs, stride) in enumerate(_STAGES, start=1):
            stage = [_Block(inputs, outputs, stride)]
            stage += [_Block(outputs, outputs, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            inputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


class _DepthwiseSeparable(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dynamic_pool = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.dynamic_pool(x))


class _DepthwiseBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _DepthwiseSeparable(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _DepthwiseSeparable(outputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inside)) + self.downsample(x))


class DepthwiseResNet(nn.Module):
    """ResNet-(6 ``blocks`` + 2) whose 3x3 convolutions are depthwise 3x3 followed by pointwise 1x1."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        layers, inputs = [], 16
        for outputs, stride in _STAGES:
            layers.append(_DepthwiseBlock(inputs, outputs, stride))
            layers += [_DepthwiseBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(torch.relu(self.bn1(self.conv1(x)))).mean((2, 3))


class _TinyStage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.conv2 = SameConv2d(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.shortcut = SameConv2d(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inside)) + self.shortcut(x))


class TinyResNet(nn.Module):
    """The ResNet-8 of MLPerf Tiny: convolutions with bias, SAME padding, one block a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SameConv2d(3, 16, 3)
        self.bn1 = nn.BatchNorm2d(16, eps=1e-3)
        self.layer1 = _TinyStage(16, 16, 1)
        self.layer2 = _TinyStage(16, 32, 2)
        self.layer3 = _TinyStage(32, 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))
