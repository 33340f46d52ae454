"""A small classifier, and the encoders that its audit compares it with.

Used by audit.yaml. All of them are made here in a moment, with random weights, so that the example needs no download; put
your model in place of `service`, and encoders that the public can get in place of `encoder`.
"""

import torch
from torch import nn

SIZE, FEATURES, CLASSES = 16, 16, 8


def encoder(number: int) -> nn.Module:
    """Public encoder `number`: (n, 3, 16, 16) in -2..2 -> (n, 16)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, FEATURES),
        ).eval()


def service(hidden: int = 101) -> nn.Module:
    """The classifier that is released: a head on encoder `hidden`, which is no public one unless the spec says so."""
    frozen = encoder(hidden)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, SIZE, SIZE, generator=generator) * 4 - 2
    images = nn.functional.avg_pool2d(images, 4).repeat_interleave(4, 2).repeat_interleave(4, 3) * 2
    with torch.no_grad():
        features = frozen(images)
    head = nn.Linear(FEATURES, CLASSES)
    with torch.no_grad():
        weights = torch.randn(CLASSES, FEATURES, generator=generator) / features.std(0)
        head.weight.copy_(weights)
        head.bias.copy_(-weights @ features.mean(0))
    return nn.Sequential(frozen, head).eval()
