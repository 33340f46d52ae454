"""Decoys: random encoders that certainly are not behind the service, to fill up a short candidate list."""

from __future__ import annotations

from collections.abc import Sequence

from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.reference import UntrainedFeatures
from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.core.records import content_hash
from dosimeter.core.seeding import derive_seed
from dosimeter.core.target import CallableTarget, Target


def make_decoys(count: int, candidates: Sequence[Candidate], *, seed: int) -> list[Candidate]:
    """``count`` untrained encoders of the candidates' modality, pre-processing like the first candidate's that can be asked.

    Raises:
        InputError: decoys for candidates of which only a pool of embeddings is known.
    """
    if count == 0 or not candidates:
        return []
    model = next((candidate for candidate in candidates if candidate.access != "precomputed"), None)
    if model is None:
        raise InputError(
            "decoys need candidates that can be asked; for precomputed pools add a pool of another encoder."
        )
    make = _image_decoy if model.target.modality == "image" else _text_decoy
    return [
        Candidate(f"decoy-{i + 1}", make(model.target, derive_seed(seed, "decoy", i)), decoy=True)
        for i in range(count)
    ]


def _image_decoy(like: Target, seed: int) -> Target:
    try:
        from dosimeter.models.networks import SmallConvNet
        from dosimeter.targets.torch import Preprocessing, TorchTarget
    except ImportError as error:
        raise MissingExtra("image decoys", "torch") from error
    preprocessing = getattr(like, "preprocessing", None) or Preprocessing(size=32)
    if preprocessing.channels != 3:
        preprocessing = preprocessing.model_copy(update={"channels": 3})
    return TorchTarget(
        SmallConvNet(seed=seed), name="decoy", returns="embedding", preprocessing=preprocessing
    )


def _text_decoy(like: Target, seed: int) -> Target:
    return CallableTarget(
        UntrainedFeatures(seed=seed),
        modality=like.modality,
        returns="embedding",
        name="decoy",
        fingerprint=content_hash("untrained-features", seed),
        batch_size=4096,
    )
