"""Hugging Face image models as targets, differentiable from the pixels on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from dosimeter.core.access import Grants, Returns
from dosimeter.core.errors import InputError
from dosimeter.targets.huggingface_files import load_network, load_pretrained, model_folder
from dosimeter.targets.pooling import Pooling, check_returns, pooled_states
from dosimeter.targets.torch import Preprocessing, TorchTarget

_RESAMPLING: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}


class HuggingFaceImageTarget(TorchTarget):
    """A Hugging Face image model, differentiable including its pre-processing.

    The settings of the model's image processor are expressed as :class:`~dosimeter.targets.torch.Preprocessing`; the
    processor resizes with Pillow and rounds to 8 bits in between, which differs by about one grey level.

    Args:
        model: folder or hub id. CLIP-like models give their vision tower.
        name: shown to people; the last part of ``model`` if not given.
        returns: ``embedding``, or ``label`` or ``scores`` of an image classifier.
        pooling: of embeddings.
        batch_size: images per pass.
        grants: deepest access the attacker is given.
        price_per_call: money per record.

    Raises:
        InputError: the model is missing, incomplete, has no safetensors, or its processor does what cannot be expressed.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        name: str | None = None,
        returns: Returns = "embedding",
        pooling: Pooling = "pooler",
        batch_size: int = 32,
        grants: Grants = "weights",
        price_per_call: float = 0.0,
    ) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

        name = name or Path(model).name
        check_returns(name, returns)
        folder = model_folder(model)
        preprocessing = preprocessing_of(load_pretrained(AutoImageProcessor, folder).to_dict(), folder)
        if returns == "embedding":
            network = load_network(AutoModel, folder, needs_pooler=pooling == "pooler")
            network = getattr(network, "vision_model", network)
        else:
            network = load_network(AutoModelForImageClassification, folder, needs_pooler=True)
        super().__init__(
            _VisionNetwork(network, pooling, name, classifies=returns != "embedding"),
            name=name,
            returns=returns,
            preprocessing=preprocessing,
            batch_size=batch_size,
            grants=grants,
            price_per_call=price_per_call,
        )


class _VisionNetwork(nn.Module):
    """Pixels (n, c, h, w) to pooled states or logits."""

    def __init__(self, network: nn.Module, pooling: Pooling, name: str, *, classifies: bool) -> None:
        super().__init__()
        self.network = network
        self._pooling, self._name, self._classifies = pooling, name, classifies

    def extra_repr(self) -> str:
        return "logits" if self._classifies else self._pooling

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.network(pixel_values=pixels)
        if self._classifies:
            return output.logits
        mask = pixels.new_ones(output.last_hidden_state.shape[:2])
        return pooled_states(output, mask, self._pooling, self._name)


def preprocessing_of(settings: dict[str, Any], folder: Path) -> Preprocessing:
    """The settings of an image processor (``preprocessor_config.json``) as :class:`Preprocessing`.

    Raises:
        InputError: a step that :class:`Preprocessing` does not have; the message names it.
    """

    def refuse(what: str) -> InputError:
        return InputError(
            f"the image processor in {folder} {what}, which cannot be expressed as pre-processing. "
            "Wrap the model in a module of your own and use a torch target."
        )

    for step in ("do_pad", "do_reduce_labels", "do_convert_grayscale", "rescale_offset"):
        if settings.get(step):
            raise refuse(f"sets {step}")
    values: dict[str, Any] = {"order": "bgr" if settings.get("do_flip_channel_order") else "rgb"}
    if settings.get("do_rescale", True):
        values["scale"] = round(255 * float(settings.get("rescale_factor") or 1 / 255), 9)
    else:
        values["scale"] = 255.0
    if settings.get("do_normalize"):
        values["mean"], values["std"] = tuple(settings["image_mean"]), tuple(settings["image_std"])
    if not settings.get("do_resize"):
        if settings.get("do_center_crop"):
            raise refuse("crops without resizing")
        return Preprocessing(**values)
    size = dict(settings["size"])
    resampling = int(settings.get("resample", 2))
    if resampling not in _RESAMPLING:
        raise refuse(f"resizes with Pillow's filter {resampling}")
    values["resize"] = _RESAMPLING[resampling]
    if "shortest_edge" in size:
        values["size"] = values["crop"] = size["shortest_edge"]
        fraction = settings.get("crop_pct")
        if fraction and size["shortest_edge"] < 384:
            values["size"] = int(size["shortest_edge"] / fraction)
        elif fraction:
            values["crop"] = None
        elif not settings.get("do_center_crop"):
            raise refuse("keeps the aspect ratio without cropping")
    elif {"height", "width"} <= set(size) and size["height"] == size["width"]:
        values["size"] = size["height"]
    else:
        raise refuse(f"resizes to {size}")
    if settings.get("do_center_crop") and not settings.get("crop_pct"):
        cut = dict(settings["crop_size"])
        if cut["height"] != cut["width"] or "shortest_edge" not in size:
            raise refuse(f"crops to {cut} after resizing to {size}")
        values["crop"] = cut["height"]
    return Preprocessing(**values)
