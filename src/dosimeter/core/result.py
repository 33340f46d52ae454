"""What a method found: complete, comparable, serialisable.

Does not own: formats (``report``). A figure is a Vega-Lite specification, stored with its data and drawn elsewhere.
"""

from __future__ import annotations

import html
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Verdict = Literal["pass", "fail", "undetermined", "error"]
#: Exit code of a verdict, and the order from best to worst.
VERDICT_EXIT: dict[Verdict, int] = {"pass": 0, "fail": 1, "undetermined": 2, "error": 3}


def worst_verdict(verdicts: list[Verdict]) -> Verdict:
    """The verdict of a whole from those of its parts: a failure outranks a doubt, an error outranks both."""
    return max(verdicts, key=VERDICT_EXIT.__getitem__) if verdicts else "undetermined"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Metric(_Frozen):
    """One figure. ``value`` is ``None`` only together with a ``reason``; NaN is refused."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = Field(None, description="size of the sample the figure comes from")
    interval: str | None = Field(None, description="method and level of [low, high]")
    unit: str = ""
    higher_is_better: bool | None = Field(
        None, description="for the party that owns the target; None: neither"
    )
    control: bool = False
    description: str = ""
    reason: str | None = Field(None, description="why there is no value, or no interval")

    @model_validator(mode="after")
    def _finite_or_explained(self) -> Metric:
        for field in ("value", "low", "high"):
            number = getattr(self, field)
            if number is not None and not math.isfinite(number):
                raise ValueError(
                    f"metric '{self.name}' has {field} = {number}; give None and a reason instead"
                )
        if self.value is None and not self.reason:
            raise ValueError(f"metric '{self.name}' has neither a value nor a reason")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"metric '{self.name}' has its interval upside down: [{self.low}, {self.high}]")
        return self

    def __str__(self) -> str:
        if self.value is None:
            return f"unresolved: {self.reason}"
        text = f"{self.value:.4g}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{text} {self.unit}".rstrip()


Cell = Annotated[str | int | float | bool | None, Field(union_mode="left_to_right")]


class Table(_Frozen):
    """Rows under named columns. ``None`` shows as a dash."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]]
    caption: str = ""

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table '{self.name}': row {number} has {len(row)} cells for {len(self.columns)} columns"
                )
        return self


class Figure(_Frozen):
    """A Vega-Lite specification with its data inside, and what it shows in words (also its alternative text)."""

    name: str
    title: str
    caption: str
    spec: dict[str, Any]


class Artifact(_Frozen):
    """A file a method leaves behind, relative to the output folder."""

    name: str
    path: str
    digest: str
    bytes: int
    description: str = ""


class Cost(_Frozen):
    """What it took. ``queries`` are distinct calls of the target; ``candidate_queries`` calls of the attacker's own side."""

    queries: int = 0
    candidate_queries: int = 0
    money: float = 0.0
    seconds: float | None = None
    peak_memory_bytes: int | None = None


class Provenance(_Frozen):
    """Enough to run it again: seed, settings, and the identity of everything that went in."""

    seed: int
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    target: str = ""
    target_fingerprint: str = ""
    data_digests: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class Result(_Frozen):
    """Everything a method found about one target."""

    schema_version: Literal[1] = 1
    method: str
    title: str
    verdict: Verdict
    summary: str = Field(description="one sentence a manager understands")
    reason: str | None = Field(None, description="why undetermined, or what went wrong")
    metrics: list[Metric] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    threat_model: str = ""
    limits: list[str] = Field(default_factory=list, description="what the figures do not say")
    cost: Cost = Field(default_factory=Cost)
    provenance: Provenance

    def metric(self, name: str) -> Metric:
        """The metric called ``name``; ``KeyError`` lists the names there are."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no metric '{name}'; there are: {', '.join(metric.name for metric in self.metrics)}")

    def to_json(self) -> str:
        """The whole result as JSON; :meth:`from_json` gives it back unchanged."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Result:
        return cls.model_validate_json(text)

    def __str__(self) -> str:
        width = max((len(metric.name) for metric in self.metrics), default=0)
        lines = [f"{self.title}: {self.verdict.upper()}", self.summary]
        lines += [f"  {metric.name:<{width}}  {metric}" for metric in self.metrics]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(metric.name)}</td><td>{html.escape(str(metric))}</td></tr>"
            for metric in self.metrics
        )
        return (
            f"<p><strong>{html.escape(self.title)}: {self.verdict}</strong><br>{html.escape(self.summary)}</p>"
            f"<table><thead><tr><th>metric</th><th>value</th></tr></thead><tbody>{rows}</tbody></table>"
        )
