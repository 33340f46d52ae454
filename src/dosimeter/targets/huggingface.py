"""Hugging Face and sentence-transformers text models as targets.

Weights come from safetensors only and no code of a model repository is ever run. A hub id that is in the local cache
needs no network.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dosimeter.core.access import Grants, Returns
from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.core.records import content_hash
from dosimeter.targets.huggingface_files import (
    folder_in_package,
    load_network,
    load_pretrained,
    model_folder,
    quiet,
)
from dosimeter.targets.huggingface_images import HuggingFaceImageTarget
from dosimeter.targets.pooling import Pooling, check_returns, pooled_states
from dosimeter.targets.tokenized import TokenizedTarget
from dosimeter.targets.torch import state_hash

__all__ = ["HuggingFaceImageTarget", "HuggingFaceTarget", "SentenceEncoderTarget"]


class HuggingFaceTarget(TokenizedTarget):
    """A Hugging Face text model.

    Args:
        model: folder or hub id. Encoder-decoders give their encoder, CLIP-like models their text tower.
        name: shown to people; the last part of ``model`` if not given.
        returns: ``embedding``, or ``label`` or ``scores`` of a sequence classifier.
        pooling: of embeddings.
        max_length: tokens, at most what the model has positions for.
        batch_size: texts per pass.
        grants: deepest access the attacker is given.
        price_per_call: money per record.

    Raises:
        InputError: the model is missing, incomplete, has no safetensors, or cannot answer in that way.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        name: str | None = None,
        returns: Returns = "embedding",
        pooling: Pooling = "mean",
        max_length: int = 128,
        batch_size: int = 32,
        grants: Grants = "weights",
        price_per_call: float = 0.0,
    ) -> None:
        from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

        name = name or Path(model).name
        check_returns(name, returns)
        folder = model_folder(model)
        tokenizer = load_pretrained(AutoTokenizer, folder, padding_side="right")
        if returns == "embedding":
            network = load_network(AutoModel, folder, needs_pooler=pooling == "pooler")
            network = getattr(network, "text_model", network)
            if network.config.is_encoder_decoder:
                network = network.get_encoder()
        else:
            network = load_network(AutoModelForSequenceClassification, folder, needs_pooler=True)
        positions = getattr(network.config, "max_position_embeddings", None) or max_length
        self._network, self._pooling = network, pooling
        super().__init__(
            name=name,
            returns=returns,
            fingerprint=content_hash(
                state_hash(network), _tokenizer_state(tokenizer), pooling, max_length, returns
            ),
            tokenizer=tokenizer,
            max_length=min(max_length, positions, tokenizer.model_max_length),
            batch_size=batch_size,
            fixed_length=returns == "embedding" and pooling == "tokens",
        )
        self.grants = grants
        self.price_per_call = price_per_call

    def compute(self, features: dict[str, Tensor]) -> Tensor:
        output = self._network(**features)
        if self.returns != "embedding":
            return output.logits
        return pooled_states(output, features["attention_mask"], self._pooling, self.name)


class SentenceEncoderTarget(TokenizedTarget):
    """A sentence-transformers model; the same embeddings as its ``encode``, up to rounding.

    Args:
        model: folder or hub id.
        package: name of an installed package that ships a model folder, instead of ``model``.
        name: shown to people; made from ``model`` or ``package`` if not given.
        batch_size: texts per pass.
        grants: deepest access the attacker is given.
        price_per_call: money per record.

    Raises:
        InputError: not exactly one of ``model`` and ``package``, or one that is missing or cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        package: str | None = None,
        name: str | None = None,
        batch_size: int = 32,
        grants: Grants = "weights",
        price_per_call: float = 0.0,
    ) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtra("sentence-transformers targets", "text")
        from sentence_transformers import SentenceTransformer

        if model is not None and package is None:
            folder = model_folder(model)
        elif package is not None and model is None:
            folder = model_folder(folder_in_package(package))
        else:
            raise InputError(
                "a sentence encoder needs either 'model' (folder or hub id) or 'package', not both."
            )
        with quiet():
            try:
                encoder = SentenceTransformer(
                    str(folder),
                    device="cpu",
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True, "dtype": torch.float32},
                )
            except Exception as error:
                raise InputError(
                    f"cannot load {folder} with sentence-transformers: {str(error).splitlines()[0][:200]}. "
                    "Check that the folder is complete and that the model needs no code of its own."
                ) from error
        self._encoder = encoder.eval().requires_grad_(False)
        self._prompt = encoder.prompts.get(encoder.default_prompt_name or "", "")
        super().__init__(
            name=name or str(package or Path(str(model)).name),
            returns="embedding",
            fingerprint=content_hash(
                state_hash(encoder), _tokenizer_state(encoder.tokenizer), self._prompt, "sentence"
            ),
            tokenizer=encoder.tokenizer,
            max_length=encoder.max_seq_length or encoder.tokenizer.model_max_length,
            batch_size=batch_size,
        )
        self.grants = grants
        self.price_per_call = price_per_call

    def answer(self, batch: Any) -> Any:
        """Embeddings (n, d) of a list of texts, in order, with the model's default prompt before each."""
        return super().answer([self._prompt + text for text in batch])

    def compute(self, features: dict[str, Tensor]) -> Tensor:
        return self._encoder({**features, "modality": "text"})["sentence_embedding"]


def _tokenizer_state(tokenizer: Any) -> str:
    """The tokenizer as text, without the truncation and padding of its last use."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return repr(sorted(tokenizer.get_vocab().items()))
    return json.dumps(json.loads(backend.to_str()) | {"truncation": None, "padding": None}, sort_keys=True)
