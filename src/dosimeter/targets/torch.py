"""A torch module with its pre-processing as a target.

Answers do not depend on the company they are computed in: every batch is padded to one fixed size, so the same record
gives the same bits alone, among others, in this process and behind HTTP (on one machine with one number of threads;
another BLAS may round differently).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from dosimeter.core.access import Grants, Modality, Returns
from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.records import Batch, content_hash
from dosimeter.core.target import Target

_LUMA = (0.299, 0.587, 0.114)
# Images up to this side are resized by two dense products: two to eight times as fast as the sparse filter for the
# small canvases of attacks, slower from about 200 pixels on.
_DENSE_SIDE = 128


class Preprocessing(BaseModel):
    """What happens to an image between the target's border and its module; differentiable.

    In order: resize, crop, grey, colour order, ``(x * scale - mean) / std``. The defaults change nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int | None = Field(None, ge=1, description="side in pixels after resizing; None keeps the size")
    resize: Literal["bilinear", "bicubic"] = Field("bilinear", description="always antialiased")
    crop: int | None = Field(
        None,
        ge=1,
        description="side of the centre cut out after the *shorter* side was resized to ``size``; None: resize to size x size",
    )
    scale: float = Field(1.0, gt=0, description="largest value before mean and std: 1, or 255 for raw pixels")
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: Literal[1, 3] = Field(3, description="1: grey by ITU-R 601 luma")
    order: Literal["rgb", "bgr"] = "rgb"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels) and len(set(values)) != 1:
                raise ValueError(f"{name} needs 1 or {self.channels} values, but has {len(values)}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, but is {self.std}")
        if self.crop is not None and (self.size is None or self.crop > self.size):
            raise ValueError(f"crop {self.crop} needs a size at least as large, but size is {self.size}")
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w), float in 0..1, as the module's input (n, ``channels``, side, side), same dtype."""
        if self.size is not None:
            images = self._resized(images, self.size)
        if self.crop is not None:
            top, left = (images.shape[-2] - self.crop) // 2, (images.shape[-1] - self.crop) // 2
            images = images[..., top : top + self.crop, left : left + self.crop]
        if self.channels == 1:
            images = (images * _column(_LUMA, images)).sum(dim=1, keepdim=True)
        elif self.order == "bgr":
            images = images.flip(1)
        if self.scale == 1 and not any(self.mean) and set(self.std) == {1.0}:
            return images
        return (images * self.scale - _column(self._per_channel(self.mean), images)) / _column(
            self._per_channel(self.std), images
        )

    def _per_channel(self, values: tuple[float, ...]) -> tuple[float, ...]:
        return values if len(values) == self.channels else values[:1]

    def _resized(self, images: Tensor, size: int) -> Tensor:
        height, width = images.shape[-2:]
        if self.crop is None:
            wanted = (size, size)
        else:
            shorter = min(height, width)
            wanted = (size * height // shorter, size * width // shorter)
        if wanted == (height, width):
            return images
        if max(height, width) <= _DENSE_SIDE:
            rows, columns = (
                _filter(side, goal, self.resize, images.dtype, images.device)
                for side, goal in zip((height, width), wanted)
            )
            resized = torch.matmul(rows, nn.functional.linear(images, columns))
        else:
            resized = _interpolated(images, wanted, self.resize)
        return resized.clamp(0, 1) if self.resize == "bicubic" else resized


def _interpolated(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return nn.functional.interpolate(images, size=size, mode=mode, antialias=True, align_corners=False)


@lru_cache(maxsize=64)
def _filter(side: int, wanted: int, mode: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(wanted, side): what resizing one axis does, as a matrix."""
    # Made outside inference mode, so that a later backward pass may use it.
    with torch.inference_mode(False):
        basis = torch.eye(side, dtype=dtype, device=device)[None, None]
        return _interpolated(basis, (wanted, side), mode)[0, 0]


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def state_hash(module: nn.Module, *extra: Any) -> str:
    """Content hash of a module: its structure (``repr``), every entry of its ``state_dict`` and ``extra`` JSON values."""
    structure = re.sub(r"0x[0-9a-f]+", "", repr(module))
    parts: list[Any] = [type(module).__qualname__, structure]
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            parts += [name, str(value.dtype), list(value.shape), raw]
        else:
            parts += [name, repr(value)]
    return content_hash(*parts, *extra)


def answers_from(outputs: Tensor, returns: Returns) -> np.ndarray:
    """Embeddings or logits (n, d) as answers: (n,) int64 labels, (n, d) probabilities, or the embeddings themselves.

    A row with NaN in it has no label; labels are then floats, and that one is NaN.
    """
    if returns == "label":
        labels = outputs.argmax(dim=1).cpu().numpy()
        undefined = outputs.isnan().any(dim=1).cpu().numpy()
        return np.where(undefined, np.nan, labels) if undefined.any() else labels
    if outputs.dtype in (torch.bfloat16, torch.float16):
        outputs = outputs.float()
    if returns == "scores":
        outputs = outputs.softmax(dim=1)
    return outputs.cpu().numpy()


class TorchTarget(Target):
    """A module that maps images or table rows to embeddings or logits.

    Args:
        module: maps (n, c, h, w) images, pre-processed, or (n, features) rows to (n, d) or (n, ...) outputs, flattened
            to (n, d). It is put into eval mode and its parameters stop requiring gradients; it is not copied, and
            changing its weights afterwards is noticed and refused.
        name: shown to people.
        modality: ``image`` or ``table``.
        returns: ``embedding`` (flattened output), ``scores`` (softmax of it) or ``label`` (arg-max of it).
        preprocessing: applied to images inside the target.
        batch_size: records per pass; smaller batches are padded to it.
        grants: deepest access the attacker is given.
        fingerprint: identity of the answers; the content hash of the weights, structure, pre-processing and kind of
            answer if not given.
        price_per_call: money per record.

    Raises:
        InputError: a modality or kind of answer that a module cannot have.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        modality: Modality = "image",
        returns: Returns,
        preprocessing: Preprocessing | None = None,
        batch_size: int = 32,
        grants: Grants = "weights",
        fingerprint: str | None = None,
        price_per_call: float = 0.0,
    ) -> None:
        if modality not in ("image", "table"):
            raise InputError(
                f"torch target '{name}' cannot take {modality}; it takes image or table. "
                "For text use a huggingface or sentence-transformers target, or a callable."
            )
        if returns not in ("embedding", "scores", "label"):
            raise InputError(
                f"torch target '{name}' cannot return {returns}; it returns embedding, scores or label."
            )
        if modality == "table" and preprocessing is not None:
            raise InputError(
                f"torch target '{name}' takes tables, which have no pre-processing. Remove 'preprocessing'."
            )
        if batch_size < 1:
            raise InputError(f"torch target '{name}' needs a batch_size of at least 1, but got {batch_size}.")
        self.preprocessing = preprocessing or Preprocessing()
        self.module = module.eval().requires_grad_(False)
        super().__init__(
            name=name,
            modality=modality,
            returns=returns,
            fingerprint=fingerprint
            or state_hash(module, self.preprocessing.model_dump(mode="json"), modality, returns),
        )
        self.batch_size = batch_size
        self.grants = grants
        self.price_per_call = price_per_call
        self._state = self._weights_state()

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, or logits where the target returns label or scores: (n, d), differentiable in ``x``.

        ``x`` is float (n, 3, h, w) in 0..1, or (n, features) for tables, on the module's device.
        """
        outputs = self.module(self.preprocessing(x) if self.modality == "image" else x)
        if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
            raise InputError(
                f"the module of target '{self.name}' should return one tensor row per input, but returned "
                f"{_describe(outputs)} for {len(x)} inputs. Wrap it in a module that returns only that tensor."
            )
        return outputs.flatten(start_dim=1) if outputs.ndim > 1 else outputs[:, None]

    def answer(self, batch: Batch) -> np.ndarray:
        """Answers to uint8 images (n, h, w, 3) or float rows (n, features)."""
        if self._weights_state() != self._state:
            raise InputError(
                f"the weights of target '{self.name}' changed after it was made, so earlier answers no longer hold. "
                "Make a new target from the module."
            )
        records = np.asarray(batch)
        parts = [
            self._answer_padded(records[start : start + self.batch_size])
            for start in range(0, len(records), self.batch_size)
        ]
        return np.concatenate(parts)

    def _answer_padded(self, records: np.ndarray) -> np.ndarray:
        padded = np.zeros((self.batch_size, *records.shape[1:]), dtype=records.dtype)
        padded[: len(records)] = records
        x = torch.from_numpy(padded)
        if self.modality == "image":
            x = x.permute(0, 3, 1, 2)
        parameter = next(self.module.parameters(), torch.empty(0))
        x = x.to(device=parameter.device, dtype=parameter.dtype)
        if self.modality == "image":
            x = x / 255
        try:
            with torch.no_grad():
                outputs = self.forward(x)
        except (RuntimeError, ValueError, IndexError) as error:
            raise TargetError(
                f"target '{self.name}' failed on inputs of shape {tuple(records.shape)}: {str(error).splitlines()[0]}. "
                "Check the input shape and the target's pre-processing."
            ) from error
        return answers_from(outputs, self.returns)[: len(records)]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # In another process the same weights lie elsewhere.
        self.__dict__.update(state)
        self._state = self._weights_state()

    def _weights_state(self) -> tuple[tuple[int, int], ...]:
        """Address and version of everything in the ``state_dict``, which itself takes ten times as long to make."""
        state = []
        for part in self.module.modules():
            if part.training:
                self.module.eval()
            kept = [
                *part._parameters.values(),
                *(
                    buffer
                    for name, buffer in part._buffers.items()
                    if name not in part._non_persistent_buffers_set
                ),
            ]
            state += [(tensor.data_ptr(), tensor._version) for tensor in kept if tensor is not None]
        return tuple(state)


def _describe(outputs: Any) -> str:
    return (
        f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
    )
