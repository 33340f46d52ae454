"""What a surrogate is trained on: inputs as rows of a tensor, plain or as a fresh random view.

Images: horizontal flip (p 0.5), colour jitter (0.4, 0.4, 0.4, 0.1; p 0.8), grey (p 0.2), as in StolenEncoder (arXiv
2201.05889); a random resized crop is there and off. Texts: word dropout and span masking. All views of a batch are
made at once; their randomness is torch's generator, which training seeds.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.core.records import Batch, as_uint8_images
from dosimeter.data.images import resize
from dosimeter.models.word_transformer import encode_words


class Views(Protocol):
    """How the inputs of one modality become what a surrogate takes."""

    def rows(self, batch: Batch) -> Tensor:
        """The whole batch, compact, one row per input; kept in memory."""

    def plain(self, rows: Tensor) -> Tensor:
        """Rows as the surrogate takes them."""

    def augmented(self, rows: Tensor) -> Tensor:
        """Rows as the surrogate takes them, each changed at random."""


class ImageViews:
    """Images resized to ``size`` pixels; plain ones are (n, 3, size, size) float32 in 0..1, not normalised.

    Args:
        crop: also cut out a random part (20 % to all of the area) and enlarge it.
        flip: mirror every second view; leave it out where left and right mean something, as in writing.
    """

    def __init__(self, size: int, *, crop: bool = False, flip: bool = True) -> None:
        import kornia.augmentation as augment

        self.size = size
        steps: list[nn.Module] = []
        if crop:
            steps.append(augment.RandomResizedCrop((size, size), scale=(0.2, 1.0)))
        if flip:
            steps.append(augment.RandomHorizontalFlip(p=0.5))
        steps += [augment.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), augment.RandomGrayscale(p=0.2)]
        self._augment = nn.Sequential(*steps)

    def rows(self, batch: Batch) -> Tensor:
        images = resize(as_uint8_images(batch), self.size)
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def plain(self, rows: Tensor) -> Tensor:
        return rows.float().div_(255)

    @torch.no_grad()
    def augmented(self, rows: Tensor) -> Tensor:
        return cast("Tensor", self._augment(self.plain(rows)))


class TextViews:
    """Texts as hashed words, (n, length) int64, 0 where there is none.

    Args:
        length: words kept of each text.
        dropout: probability of leaving a word out of a view.
        span: share of a text that one masked span covers, in every second view.
    """

    def __init__(self, length: int = 64, *, dropout: float = 0.15, span: float = 0.2) -> None:
        self.length, self.dropout, self.span = length, dropout, span

    def rows(self, batch: Batch) -> Tensor:
        return encode_words(cast("list[str]", batch), self.length)

    def plain(self, rows: Tensor) -> Tensor:
        return rows

    def augmented(self, rows: Tensor) -> Tensor:
        n, length = rows.shape
        lengths = (rows > 0).sum(1, keepdim=True)
        place = torch.arange(length)
        start = (torch.rand(n, 1) * lengths).long()
        width = (lengths * self.span).ceil().long() * (torch.rand(n, 1) < 0.5)
        gone = (torch.rand(n, length) < self.dropout) | ((place >= start) & (place < start + width))
        masked = rows.masked_fill(gone, 0)
        # A text must keep something: where all is gone, the view is the text itself.
        return torch.where((masked > 0).any(1, keepdim=True), masked, rows)


def views_for(modality: str, size: int, *, crop: bool = False, flip: bool = True) -> Views:
    """The views of ``modality``; ``size`` is the side of images in pixels, or the words kept of a text."""
    return (
        ImageViews(size, crop=crop, flip=flip) if modality == "image" else TextViews(max(1, math.ceil(size)))
    )
