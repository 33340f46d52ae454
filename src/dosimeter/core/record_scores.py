"""Metrics record by record, so that two runs can be compared on the same records.

For authors of attacks: hand ``Findings(..., records=[RecordScores.of(held_out, {"agreement": hits})])`` to the base
class. ``held_out`` are the records themselves (images, texts, prompts; or strings that name them), ``hits`` one value per
record in the same order: 0 or 1 for a proportion, any finite number for a mean. Two rules make the comparison valid:

- The metric of that name is the mean of its values. ``Result`` refuses anything else.
- Records are the independent units. Where several answers belong to one record, as the copies of one objective or the
  heads of several seeds, give their mean; do not repeat the record.

Does not own: the tests (``stats.paired``), who is compared with whom (``study.comparison``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from dosimeter.core.records import content_hash

#: Of more records than this, those with the smallest keys are kept: the same ones in every run.
MOST_RECORDS = 20_000
_KEY_DIGITS = 12


class RecordScores(BaseModel):
    """One or more metrics on each record of one set.

    Stored compactly, each column as one text; keys are content hashes, so a report names records without showing them.
    Whoever has a record can find out from its key that it was used.

    Attributes:
        keys: one per record, all different; the order carries no meaning.
        values: name of a metric to its value on each record, in the order of ``keys``.
        total: number of records the metrics come from; more than there are keys where the rest was left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[str, ...]
    values: dict[str, tuple[float, ...]]
    total: int = Field(ge=0)

    @classmethod
    def of(cls, records: Iterable[Any], values: Mapping[str, Any], *, most: int = MOST_RECORDS) -> Self:
        """Scores of ``records``, each named by its content; equal records are told apart by their order.

        Args:
            records: what :func:`core.records.content_hash` takes, one by one: a batch, or names.
            values: name of a metric to (n,) finite numbers or truth values.
            most: records kept.

        Raises:
            ValueError: a column is not as long as ``records``, or holds what is not finite.
        """
        seen: Counter[str] = Counter()
        keys = []
        for record in records:
            key = content_hash(record)
            keys.append((content_hash(key, seen[key]) if seen[key] else key)[:_KEY_DIGITS])
            seen[key] += 1
        order = sorted(range(len(keys)), key=keys.__getitem__)[:most]
        columns = {name: np.asarray(column, dtype=float) for name, column in values.items()}
        for name, column in columns.items():
            if column.shape != (len(keys),):
                raise ValueError(
                    f"metric '{name}' has values of shape {column.shape} for {len(keys)} records"
                )
        return cls(
            keys=tuple(keys[place] for place in order),
            values={name: tuple(column[order].tolist()) for name, column in columns.items()},
            total=len(keys),
        )

    @field_validator("keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    @field_validator("values", mode="before")
    @classmethod
    def _split_values(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: column.split() if isinstance(column, str) else column for name, column in value.items()}

    @model_validator(mode="after")
    def _one_finite_value_each(self) -> Self:
        if len(set(self.keys)) < len(self.keys) or self.total < len(self.keys):
            raise ValueError("keys of records must differ, and be no more than the records there were")
        for name, column in self.values.items():
            if len(column) != len(self.keys):
                raise ValueError(f"metric '{name}' has {len(column)} values for {len(self.keys)} records")
            if not all(map(math.isfinite, column)):
                raise ValueError(f"metric '{name}' has values per record that are not finite")
        return self

    @field_serializer("keys", when_used="json")
    def _join_keys(self, keys: tuple[str, ...]) -> str:
        return " ".join(keys)

    @field_serializer("values", when_used="json")
    def _join_values(self, values: dict[str, tuple[float, ...]]) -> dict[str, str]:
        return {name: " ".join(map(_shortest, column)) for name, column in values.items()}


def _shortest(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
