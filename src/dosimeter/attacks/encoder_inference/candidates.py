"""Candidate encoders: targets that return embeddings, with a name and a family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from dosimeter.core.errors import InputError
from dosimeter.core.target import RecordedTarget, Target

FEWEST_CANDIDATES = 5

Access = Literal["weights", "query", "precomputed"]


@dataclass(frozen=True)
class Candidate:
    """One encoder that the service may be built on.

    Attributes:
        name: shown to people.
        target: returns ``embedding``. Granting ``weights`` allows gradient synthesis; ``query`` is enough for the
            paper's zeroth-order synthesis; a :class:`RecordedTarget` is a pool of inputs with known embeddings.
        family: candidates of one family are near relatives (same backbone, other checkpoint); naming a relative is
            partial information rather than an error. Empty: a family of its own.
        decoy: certainly not the hidden encoder; there to give the scores a scale.
    """

    name: str
    target: Target
    family: str = ""
    decoy: bool = False

    @property
    def access(self) -> Access:
        if isinstance(self.target, RecordedTarget):
            return "precomputed"
        return "weights" if self.target.grants == "weights" else "query"

    @property
    def kin(self) -> str:
        """The family, or the name for a candidate without relatives."""
        return self.family or self.name

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "family": self.family, "decoy": self.decoy, "fingerprint": self.target.fingerprint}


def check_candidates(candidates: Sequence[Candidate], *, allow_unequal_preprocessing: bool) -> None:
    """Raise :class:`InputError` if the decision rule or the synthesis could not work on ``candidates``."""
    if len(candidates) < FEWEST_CANDIDATES:
        raise InputError(
            f"encoder-inference was given {len(candidates)} candidates and needs at least {FEWEST_CANDIDATES}: among fewer, "
            "no score can stand out far enough to name an encoder. Add candidates, or set 'decoys' to fill up with "
            "random encoders."
        )
    twice = [name for name, count in Counter(candidate.name for candidate in candidates).items() if count > 1]
    if twice:
        raise InputError(f"candidate names must differ, but these occur more than once: {', '.join(twice)}.")
    same = [name for name, count in Counter(c.target.fingerprint for c in candidates).items() if count > 1]
    if same:
        names = [c.name for c in candidates if c.target.fingerprint == same[0]]
        raise InputError(f"candidates {' and '.join(names)} are the same encoder; keep one of them.")
    for candidate in candidates:
        if candidate.target.returns != "embedding":
            raise InputError(
                f"candidate '{candidate.name}' returns {candidate.target.returns}; a candidate must return embedding. "
                "Cut its head off, or set returns: embedding."
            )
    modalities = {candidate.target.modality for candidate in candidates}
    if len(modalities) > 1:
        raise InputError(f"candidates take different kinds of input ({', '.join(sorted(modalities))}); they must take one.")
    if not allow_unequal_preprocessing:
        _check_geometry(candidates)


def _check_geometry(candidates: Sequence[Candidate]) -> None:
    """Normalisation belongs to an encoder; how a service resizes usually does not, so it must be stated alike."""
    groups: dict[str, list[str]] = {}
    for candidate in candidates:
        preprocessing = getattr(candidate.target, "preprocessing", None)
        if preprocessing is not None:
            size = preprocessing.size
            geometry = "no resizing" if size is None else f"{size} pixels, {preprocessing.resize}"
            groups.setdefault(geometry, []).append(candidate.name)
    if len(groups) > 1:
        said = "; ".join(f"{geometry}: {', '.join(names)}" for geometry, names in groups.items())
        raise InputError(
            f"candidates have unequal pre-processing ({said}). The service resizes in one way: give all candidates that one, "
            "or set allow_unequal_preprocessing: true if each candidate's own is what the service would use."
        )


def candidates_from_spec(items: Any, folder: Path) -> tuple[Candidate, ...]:
    """Candidates from an audit spec: each item has ``name``, optional ``family`` and ``decoy``, and a target's keys.

    Raises:
        InputError: with every item that is wrong, in one message.
    """
    from dosimeter.targets.spec import TargetSpec, build_target

    if not isinstance(items, list):
        raise InputError("encoder-inference: 'candidates' must be a list of encoders, each with a name and a target's keys.")
    adapter: TypeAdapter[Any] = TypeAdapter(TargetSpec)
    found, problems = [], []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not item.get("name"):
            problems.append(f"candidates[{number}]: needs a 'name'")
            continue
        own = {key: item[key] for key in ("name", "family", "decoy") if key in item}
        rest = {"returns": "embedding", **{key: value for key, value in item.items() if key not in own}}
        try:
            target = build_target(adapter.validate_python(rest), folder)
        except ValidationError as error:
            problems += [
                f"candidates[{number}] ({item['name']}): {'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()
            ]
        except InputError as error:
            problems.append(f"candidates[{number}] ({item['name']}): {error}")
        else:
            found.append(Candidate(target=target, **own))
    if problems:
        raise InputError("encoder-inference: " + "; ".join(problems))
    return tuple(found)
