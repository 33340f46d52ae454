"""Data sets: records of one modality with labels, groups, licence and a digest, and how they are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dosimeter.core.access import Modality
from dosimeter.core.errors import InputError
from dosimeter.core.records import Batch, check_batch, content_hash, take
from dosimeter.core.seeding import rng


@dataclass(frozen=True, eq=False)
class Dataset:
    """Records with what is known about them. Arrays are shared, not copied: do not change them.

    Attributes:
        name: how reports call it.
        modality: kind of ``inputs``.
        inputs: a batch as in ``core.records``; images are (n, height, width, 3) uint8.
        labels: (n,) int64 in ``0..len(classes)-1``, or ``None``.
        classes: name of each label; empty without labels.
        groups: (n,) int64; records with the same number belong together (patient, author, scene) and never end up
            in different parts of a split. ``None``: every record stands alone.
        licence: terms of use of the data, in words.
        source: where the data comes from.

    Raises:
        InputError: no records, inputs that are not a batch of ``modality``, or labels or groups that do not fit.
    """

    name: str
    modality: Modality
    inputs: Batch
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    licence: str = "not stated"
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "inputs", check_batch(self.modality, self.inputs, what=f"data '{self.name}'")
        )
        if len(self.inputs) == 0:
            raise InputError(f"data '{self.name}' holds no records.")
        for field in ("labels", "groups"):
            values = getattr(self, field)
            if values is not None:
                object.__setattr__(self, field, self._whole_numbers(field, values))
        if self.labels is not None:
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.classes):
                raise InputError(
                    f"expected labels of data '{self.name}' in 0..{len(self.classes) - 1} "
                    f"({len(self.classes)} classes), but got {low}..{high}."
                )

    def _whole_numbers(self, field: str, values: np.ndarray) -> np.ndarray:
        array = np.asarray(values)
        if array.shape != (len(self.inputs),) or array.dtype.kind not in "iu":
            raise InputError(
                f"expected {field} of data '{self.name}' to be {len(self.inputs)} whole numbers, "
                f"but got an array of shape {array.shape} and type {array.dtype}."
            )
        return array.astype(np.int64)

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def digest(self) -> str:
        """Content hash of inputs and labels (not of name, groups or licence); computed once."""
        inputs = [self.inputs] if isinstance(self.inputs, np.ndarray) else self.inputs
        return content_hash(self.modality, len(self), *inputs, "labels", self.labels)

    def take(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The records at ``indices``, in that order. Raises ``InputError`` if that leaves none."""
        rows = np.asarray(indices, dtype=np.intp)
        return replace(
            self,
            inputs=take(self.inputs, rows),
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def split(self, fractions: Sequence[float], *, seed: int) -> list[Dataset]:
        """Disjoint random parts holding about ``fractions`` of the records, each in random order.

        Parts are stratified by label: every part has every class. Without groups the number of records of a class in
        a part is off by at most one from its share (more only where a class would be missing from a part otherwise).
        Groups stay whole; they are dealt out largest first, each to the part that lacks most of what it holds, so
        shares are approximate. Fractions that sum to less than 1 leave the rest out.

        Raises:
            InputError: fractions not positive or summing to more than 1, or a class (or the whole set) has too few
                records or groups to be in every part; the message names it.
        """
        shares = np.asarray(fractions, dtype=float)
        if shares.ndim != 1 or not len(shares) or not (shares > 0).all() or shares.sum() > 1 + 1e-9:
            raise InputError(
                f"expected fractions of a split to be positive and to sum to at most 1, but got {list(fractions)}."
            )
        labels = np.zeros(len(self), np.int64) if self.labels is None else self.labels
        present, strata = np.unique(labels, return_inverse=True)
        groups = (
            np.arange(len(self)) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        )
        for stratum, label in enumerate(present):
            units = len(np.unique(groups[strata == stratum]))
            if units < len(shares):
                self._refuse_split(int(label), units, len(shares))
        with_rest = np.append(shares, max(0.0, 1 - shares.sum()))
        generator = rng(seed, "split")
        if self.groups is None:
            part = _deal_records(strata, with_rest, generator)
        else:
            part = _deal_groups(strata, groups, with_rest, generator)
        for number in range(len(shares)):
            missing = np.setdiff1d(np.arange(len(present)), strata[part == number])
            if len(missing):
                label = int(present[missing[0]])
                self._refuse_split(label, len(np.unique(groups[labels == label])), len(shares))
        return [
            self.take(generator.permutation(np.flatnonzero(part == number))) for number in range(len(shares))
        ]

    def _refuse_split(self, label: int, units: int, parts: int) -> None:
        unit = "records" if self.groups is None else "groups"
        whole = f"class '{self.classes[label]}'" if self.labels is not None else "all of it"
        raise InputError(
            f"data '{self.name}' cannot be split into {parts} parts: {whole} has {units} {unit}, which cannot be "
            f"in every part with these fractions{'' if self.groups is None else ' without tearing a group'}. "
            "Ask for fewer or more even parts, or add records."
        )


def _deal_records(strata: np.ndarray, shares: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(n,) part of each record; the last share is what is left out. Rounding errors are carried from class to class."""
    part = np.empty(len(strata), np.int64)
    carried = np.zeros(len(shares))
    for stratum in range(int(strata.max()) + 1):
        rows = generator.permutation(np.flatnonzero(strata == stratum))
        quota = shares * len(rows)
        counts = np.floor(quota + 1e-9).astype(np.int64)
        wanting = np.argsort(np.where(shares > 0, counts - quota - carried, np.inf), kind="stable")
        counts[wanting[: len(rows) - counts.sum()]] += 1
        for number in np.flatnonzero(counts[:-1] == 0):
            counts[counts.argmax()] -= 1
            counts[number] += 1
        carried += quota - counts
        part[rows] = np.repeat(np.arange(len(shares)), counts)
    return part


def _deal_groups(
    strata: np.ndarray, groups: np.ndarray, shares: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(n,) part of each record, the same for all records of a group; the last share is what is left out."""
    members = np.zeros((groups.max() + 1, strata.max() + 1))
    np.add.at(members, (groups, strata), 1)
    open_parts = np.flatnonzero(shares > 0)
    target = shares[open_parts, None] * members.sum(0)
    held = np.zeros_like(target)
    may_lack_classes = open_parts == len(shares) - 1
    part_of_group = np.empty(len(members), np.int64)
    order = generator.permutation(len(members))
    for group in order[np.argsort(-members[order].sum(1), kind="stable")]:
        lack = (target - held) / target + (held == 0) * ~may_lack_classes[:, None]
        choice = int((lack @ members[group]).argmax())
        part_of_group[group] = open_parts[choice]
        held[choice] += members[group]
    return part_of_group[groups]
