"""Attack sets: one candidate's attack samples, made once and used against every service of the modality.

Kept on disk under the hash of everything that determines them: candidate, objectives, settings, copies and seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from dosimeter.attacks.encoder_inference.beam import CharacterBeam, search
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.core.errors import InputError, MissingExtra, TargetError
from dosimeter.core.files import write_atomic
from dosimeter.core.problems import validation_problems
from dosimeter.core.progress import track
from dosimeter.core.records import Batch, content_hash, take
from dosimeter.core.target import RecordedTarget

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dosimeter.attacks.encoder_inference.synthesis import Embed, Gradient, ZerothOrder

    BatchEmbed = Callable[[Batch], np.ndarray]
    Synthesiser = ZerothOrder | Gradient | CharacterBeam | None

# Probes given to a queried candidate in one go: many requests in flight, if it answers over a network.
_PROBES_A_REQUEST = 2048


@dataclass(frozen=True)
class AttackSet:
    """The attack samples of one candidate.

    Attributes:
        samples: m * k records (a batch of the modality), the k copies of an objective side by side.
        losses, start_losses: (m, k) float, mean squared embedding distance to the objective at the end and the start.
        objective_spread: mean squared distance between embeddings of two different objectives: the scale of a loss.
        queries: forward passes of the candidate that the set took: objectives, starts, search and results.
        origin: how the samples were made (``zeroth-order``, ``gradient``, ``beam``, ``pool``).
    """

    samples: Batch
    losses: np.ndarray
    start_losses: np.ndarray
    objective_spread: float
    queries: int
    origin: str

    def save(self, path: Path) -> None:
        """Write as .npz without pickled objects."""
        arrays = {
            "samples": np.asarray(self.samples),
            "losses": self.losses,
            "start_losses": self.start_losses,
            "about": np.asarray(json.dumps([self.objective_spread, self.queries, self.origin])),
        }
        write_atomic(path, lambda file: np.savez_compressed(file, **arrays))

    @classmethod
    def open(cls, path: Path) -> AttackSet:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: not such a file, or a truncated one.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                samples = data["samples"]
                spread, queries, origin = json.loads(str(data["about"]))
                return cls(
                    samples=[str(text) for text in samples] if samples.dtype.kind == "U" else samples,
                    losses=data["losses"],
                    start_losses=data["start_losses"],
                    objective_spread=spread,
                    queries=queries,
                    origin=origin,
                )
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise InputError(
                f"{path} is not a readable attack set ({type(error).__name__}). Delete it to have it made again."
            ) from error
        except Exception as error:  # zipfile and zlib have error classes of their own
            raise InputError(
                f"{path} is a damaged attack set ({error}). Delete it to have it made again."
            ) from error


def make_attack_set(
    candidate: Candidate,
    objectives: Batch,
    copies: int,
    settings: Synthesiser,
    *,
    seed: int,
    cache: Path | None,
) -> AttackSet:
    """The attack set of ``candidate``, from ``cache`` if it was made before with exactly these inputs.

    Raises:
        InputError: a precomputed candidate whose pool lacks an objective or is too small, or what ``check_settings``
            finds.
        TargetError: the candidate fails, or gives embeddings with NaN.
    """
    check_settings(candidate, settings)
    described = settings.model_dump() if settings is not None else "pool"
    key = content_hash("attack-set", candidate.target.fingerprint, objectives, described, copies, seed)
    path = cache / "attack-sets" / f"{key}.npz" if cache is not None else None
    if path is not None and path.exists():
        return AttackSet.open(path)
    made = _make(candidate, objectives, copies, settings, seed, cache)
    if path is not None:
        made.save(path)
    return made


def most_queries(settings: Synthesiser, objectives: int, copies: int) -> int:
    """Upper bound on ``AttackSet.queries``."""
    return 0 if settings is None else objectives * (1 + copies * (settings.queries_per_sample() + 2))


def check_settings(candidate: Candidate, settings: Synthesiser) -> None:
    """Raise :class:`InputError` if ``settings`` cannot make attack samples of ``candidate``."""
    if settings is None:
        return
    wanted = "text" if isinstance(settings, CharacterBeam) else "image"
    if candidate.target.modality != wanted:
        raise InputError(
            f"synthesis '{settings.kind}' makes {wanted} samples, but candidate '{candidate.name}' takes "
            f"{candidate.target.modality}. Leave synthesis at auto."
        )
    if settings.kind == "gradient" and not _is_differentiable(candidate):
        raise InputError(
            f"synthesis 'gradient' needs the weights of candidate '{candidate.name}', which is only queried. "
            "Use zeroth-order, or leave synthesis at auto."
        )


def _is_differentiable(candidate: Candidate) -> bool:
    return candidate.access == "weights" and hasattr(candidate.target, "forward")


def _make(
    candidate: Candidate, objectives: Batch, copies: int, settings: Synthesiser, seed: int, cache: Path | None
) -> AttackSet:
    if settings is None:
        return _nearest_in_pool(candidate, objectives, copies)
    embed = candidate.embedder(cache)
    if isinstance(settings, CharacterBeam):
        return _beam(candidate.name, embed, objectives, copies, settings, seed)
    return _images(candidate, embed, objectives, copies, settings, seed)


def _spread(embeddings: np.ndarray) -> float:
    """Mean over pairs of different rows of the mean squared difference; 0 for a single row."""
    m = len(embeddings)
    return 0.0 if m < 2 else float(2 * embeddings.var(axis=0).mean() * m / (m - 1))


def _beam(
    name: str, embed: BatchEmbed, objectives: Batch, copies: int, settings: CharacterBeam, seed: int
) -> AttackSet:
    goals = embed(objectives)
    with track(f"attack texts for {name}", settings.length) as bar:
        found = search(embed, goals, copies, settings, seed=seed, on_step=bar.advance)
    return AttackSet(
        samples=[text for texts in found.texts for text in texts],
        losses=found.losses,
        start_losses=found.start_losses,
        objective_spread=_spread(goals),
        queries=found.queries + len(goals),
        origin="beam",
    )


def _images(
    candidate: Candidate,
    embed: BatchEmbed,
    objectives: Batch,
    copies: int,
    settings: ZerothOrder | Gradient,
    seed: int,
) -> AttackSet:
    import torch

    from dosimeter.attacks.encoder_inference.synthesis import synthesise

    goals = embed(objectives).astype(np.float32)
    on_device = torch.from_numpy(goals).to(_device(candidate))
    evaluate = _on_float_images(candidate, embed)
    batch = {} if _is_differentiable(candidate) else {"at_once": _PROBES_A_REQUEST}
    with track(f"attack images for {candidate.name}", settings.steps) as bar:
        made = synthesise(evaluate, on_device, copies, settings, seed=seed, bar=bar, **batch)
    return AttackSet(
        samples=made.images.reshape(-1, *made.images.shape[2:]),
        losses=made.losses,
        start_losses=made.start_losses,
        objective_spread=_spread(goals),
        queries=(made.queries + 2) * made.losses.size + len(goals),
        origin=settings.kind,
    )


def _device(candidate: Candidate) -> torch.device:
    """Where the candidate's weights are; the processor for one that is only queried."""
    import torch

    weights = candidate.target.module.parameters() if _is_local_module(candidate) else iter(())
    return next((parameter.device for parameter in weights), torch.device("cpu"))


def _is_local_module(candidate: Candidate) -> bool:
    return _is_differentiable(candidate) and hasattr(candidate.target, "module")


def _on_float_images(candidate: Candidate, embed: BatchEmbed) -> Embed:
    """The candidate on float images: its own differentiable pass where it grants weights, else 8-bit queries."""
    import torch

    if not _is_differentiable(candidate):

        def ask(images: Tensor) -> Tensor:
            pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
            return torch.from_numpy(embed(pixels).astype(np.float32))

        return ask

    forward = candidate.target.forward  # type: ignore[attr-defined]
    weights = candidate.target.module.parameters() if _is_local_module(candidate) else iter(())
    precision = next((parameter.dtype for parameter in weights), torch.float32)

    def evaluate(images: Tensor) -> Tensor:
        try:
            embeddings: Tensor = forward(images.to(precision))
        except (RuntimeError, ValueError, IndexError) as error:
            raise TargetError(
                f"candidate '{candidate.name}' failed on images of shape {tuple(images.shape)}: "
                f"{str(error).splitlines()[0]} Set the size of its pre-processing, or the canvas of synthesis."
            ) from error
        return embeddings.float()

    return evaluate


def _nearest_in_pool(candidate: Candidate, objectives: Batch, copies: int) -> AttackSet:
    """The k inputs of a precomputed pool whose embeddings are nearest to each objective's, the objective excluded."""
    target = candidate.target
    if not isinstance(target, RecordedTarget):
        raise InputError(
            f"candidate '{candidate.name}' has no pool of known embeddings; give recorded inputs and answers."
        )
    try:
        goals, pool = np.asarray(target.answer(objectives)), np.asarray(target.answers)
    except TargetError as error:
        raise InputError(
            f"candidate '{candidate.name}': {error} Objectives come from data.public; every pool must hold them."
        ) from error
    distances = np.stack([np.square(pool - goal).mean(axis=1) for goal in goals])
    own = np.array([content_hash(record) for record in target.inputs])
    for row, record in enumerate(objectives):
        distances[row, own == content_hash(record)] = np.inf
    least = int(np.isfinite(distances).sum(axis=1).min())
    if least < copies:
        raise InputError(
            f"the pool of candidate '{candidate.name}' holds {len(pool)} inputs, which leaves {least} beside an objective; "
            f"{copies} nearest neighbours are needed. Enlarge the pool or lower copies."
        )
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :copies]
    # Without optimisation the start is the typical member of the pool.
    finite = np.where(np.isfinite(distances), distances, np.nan)
    return AttackSet(
        samples=take(target.inputs, nearest.ravel()),
        losses=np.take_along_axis(distances, nearest, axis=1),
        start_losses=np.repeat(np.nanmean(finite, axis=1)[:, None], copies, axis=1),
        objective_spread=_spread(goals),
        queries=0,
        origin="pool",
    )


def default_settings(candidate: Candidate) -> Synthesiser:
    """What suits the candidate's modality and access: beam, pool, gradient or zeroth order.

    The canvas is the candidate's input, at most the published 64 pixels; half of a small input for zeroth-order
    search, whose estimate gets worse with every pixel.
    """
    if candidate.access == "precomputed":
        return None
    if candidate.target.modality == "text":
        return CharacterBeam()
    image_settings = _image_settings()
    size = getattr(getattr(candidate.target, "preprocessing", None), "size", None)
    largest = 64 if size is None else min(64, size)
    if _is_differentiable(candidate):
        return image_settings["gradient"](canvas=largest)
    return image_settings["zeroth-order"](
        canvas=max(8, largest // 2) if size is not None and size <= 64 else largest
    )


def _image_settings() -> dict[str, Any]:
    try:
        from dosimeter.attacks.encoder_inference.synthesis import Gradient, ZerothOrder
    except ImportError as error:
        raise MissingExtra("making attack images", "torch") from error
    return {"gradient": Gradient, "zeroth-order": ZerothOrder}


def settings_from_spec(value: Any) -> Any:
    """The settings named by a spec: a kind (``gradient``), or a mapping with ``kind`` and its fields.

    Raises:
        ValueError: no such kind, or settings that it does not take.
    """
    if value == "auto" or isinstance(value, BaseModel):
        return value
    given = {"kind": value} if isinstance(value, str) else value
    kind = given.get("kind") if isinstance(given, dict) else None
    if kind not in ("beam", "gradient", "zeroth-order"):
        raise ValueError(f"synthesis should be auto, gradient, zeroth-order or beam, but is {value!r}")
    make = CharacterBeam if kind == "beam" else _image_settings()[kind]
    try:
        return make(**given)
    except ValidationError as error:
        raise ValueError("; ".join(map(str, validation_problems(error, make, given)))) from error
