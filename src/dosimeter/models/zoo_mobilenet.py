"""MobileNets whose pretrained weights the zoo reads; TensorFlow's SAME padding throughout.

Sources: Howard et al. 2017 (V1), Sandler et al. 2018 (V2). Both map pre-processed images (n, 3, h, w) to globally
averaged features; tensor names are those of the weights (V2: those of torchvision).
"""

from __future__ import annotations

from torch import Tensor, nn

from dosimeter.models.zoo_resnet import SameConv2d

# (stride, output channels at width 1.0) of the 13 blocks of V1.
_V1_BLOCKS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512),) * 5,
    *((2, 1024), (1, 1024)),
)
# (expansion, output channels, blocks, stride of the first) of the stages of V2.
_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _norm(channels: int, folded: bool) -> nn.Module:
    return nn.Identity() if folded else nn.BatchNorm2d(channels, eps=1e-3)


class _V1Block(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: nn.Module, *, folded: bool
    ) -> None:
        super().__init__()
        self.dw = SameConv2d(inputs, inputs, 3, stride, groups=inputs)
        self.dw_bn = _norm(inputs, folded)
        self.pw = SameConv2d(inputs, outputs, 1)
        self.pw_bn = _norm(outputs, folded)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.dw_bn(self.dw(x)))
        return self.activation(self.pw_bn(self.pw(x)))


class MobileNetV1(nn.Module):
    """MobileNetV1 of a given width.

    Args:
        width: multiplier of the channel numbers.
        folded: batch norm is folded into the convolutions, and the activation is ReLU6; otherwise batch norm and ReLU.
    """

    def __init__(self, *, width: float, folded: bool) -> None:
        super().__init__()
        self.activation = nn.ReLU6() if folded else nn.ReLU()
        inputs = round(32 * width)
        self.conv1 = SameConv2d(3, inputs, 3, 2)
        self.bn1 = _norm(inputs, folded)
        blocks = []
        for stride, full in _V1_BLOCKS:
            outputs = round(full * width)
            blocks.append(_V1Block(inputs, outputs, stride, self.activation, folded=folded))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.activation(self.bn1(self.conv1(x)))).mean((2, 3))


def _v2_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _V2Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_v2_conv(inputs, inner, 1)]
        layers += [
            _v2_conv(inner, inner, 3, stride, groups=inner),
            SameConv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.0."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_v2_conv(3, 32, 3, 2)]
        inputs = 32
        for expansion, outputs, blocks, stride in _V2_STAGES:
            for number in range(blocks):
                layers.append(_V2Block(inputs, outputs, stride if number == 0 else 1, expansion))
                inputs = outputs
        layers.append(_v2_conv(inputs, 1280, 1))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean((2, 3))
