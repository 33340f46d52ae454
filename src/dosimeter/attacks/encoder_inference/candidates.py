"""Candidate encoders: targets that return embeddings, with a name and a family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import InputError
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import Problem, SettingsError
from dosimeter.core.records import Batch
from dosimeter.core.target import RecordedTarget, Target
from dosimeter.targets.encoders import embed, encoder_from_spec

FEWEST_CANDIDATES = 5

Access = Literal["weights", "query", "precomputed"]

_OWN_KEYS = {"name": str, "family": str, "decoy": bool}


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
        """What may be done with the candidate, and so how its attack samples are made; a recording is ``precomputed``."""
        if isinstance(self.target, RecordedTarget):
            return "precomputed"
        return "weights" if self.target.grants == "weights" else "query"

    @property
    def kin(self) -> str:
        """The family, or the name for a candidate without relatives."""
        return self.family or self.name

    def embedder(self, cache: Path | None = None) -> Callable[[Batch], np.ndarray]:
        """The candidate as a function from a batch to (n, d) embeddings.

        A candidate that is only queried (an API, a callable) goes through an oracle, whose answers are kept in
        ``cache``: a search that is killed does not pay for its probes again. Without ``cache``, and for local weights,
        it is simply evaluated: probes of a search never repeat, so keeping them would only take memory.
        """
        if self.access == "query" and cache is not None:
            oracle = Oracle(self.target, cache=AnswerCache(cache / "candidates.sqlite"))
            return lambda batch: np.asarray(oracle(batch))
        return lambda batch: embed(self.target, batch, what=f"candidate '{self.name}'")

    def describe(self) -> dict[str, Any]:
        """What tells candidates apart, as JSON: name, family, decoy, and the fingerprint of the target."""
        return {
            "name": self.name,
            "family": self.family,
            "decoy": self.decoy,
            "fingerprint": self.target.fingerprint,
        }


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
        raise InputError(
            f"candidates take different kinds of input ({', '.join(sorted(modalities))}); they must take one."
        )
    if not modalities <= {"image", "text"}:
        raise InputError(
            f"candidates take {modalities.pop()} as input; encoder inference works on encoders of images or text."
        )
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


def candidates_from_spec(
    items: Any, folder: Path, *, trust: bool, key: str = "candidates"
) -> tuple[Candidate, ...]:
    """Candidates from an audit spec: each item has ``name``, optional ``family`` and ``decoy``, and a target's keys.

    Args:
        key: the setting of the attack that ``items`` are.

    Raises:
        SettingsError: with everything that is wrong with any item.
    """
    if not isinstance(items, list):
        raise SettingsError(
            [Problem((key,), "must be a list of encoders, each with a name and a target's keys")]
        )
    found: list[Candidate] = []
    problems: list[Problem] = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not item.get("name"):
            problems.append(Problem((key, number), "needs a 'name'"))
            continue
        own = {name: item[name] for name in _OWN_KEYS if name in item}
        wrong = [name for name, value in own.items() if not isinstance(value, _OWN_KEYS[name])]
        if wrong:
            problems += [
                Problem(
                    (key, number),
                    f"'{name}' should be {'true or false' if name == 'decoy' else 'text'}, but is {own[name]!r}",
                )
                for name in wrong
            ]
            continue
        rest = {name: value for name, value in item.items() if name not in own}
        try:
            target = encoder_from_spec((key, number), rest, folder, trust=trust, name=item["name"])
        except SettingsError as error:
            problems += error.problems
        else:
            found.append(Candidate(target=target, **own))
    if problems:
        raise SettingsError(problems)
    return tuple(found)
