"""What a method found: complete, comparable, serialisable.

Does not own: formats (``report``). A figure is a Vega-Lite specification, stored with its data and drawn elsewhere.
"""

from __future__ import annotations

import html
import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dosimeter.core.record_scores import RecordScores

Verdict = Literal["pass", "fail", "undetermined", "error"]
#: Exit code of a verdict.
VERDICT_EXIT: dict[Verdict, int] = {"pass": 0, "fail": 1, "undetermined": 2, "error": 3}
#: From best to worst.
VERDICT_ORDER: tuple[Verdict, ...] = ("pass", "undetermined", "fail", "error")


def worst_verdict(verdicts: list[Verdict]) -> Verdict:
    """The verdict of a whole from those of its parts: a failure outranks a doubt, an error outranks both."""
    return max(verdicts, key=VERDICT_ORDER.index) if verdicts else "undetermined"


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: NumPy values become Python's, tuples lists, what is not finite ``None``.

    Half a surrogate pair, which no file can hold, becomes U+FFFD.

    Raises:
        ValueError: something that JSON has no word for.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int)):
        return value
    raise ValueError(f"expected text, numbers, lists or dictionaries, but got {type(value).__name__}")


Json = Annotated[Any, BeforeValidator(plain)]
Text = Annotated[str, BeforeValidator(lambda value: plain(value) if isinstance(value, str) else value)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Frozen):
    """One figure. ``value`` is ``None`` only together with a ``reason``; NaN is refused."""

    name: Text
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = Field(None, description="size of the sample the figure comes from")
    interval: Text | None = Field(None, description="method and level of [low, high]")
    unit: Text = ""
    higher_is_better: bool | None = Field(
        None, description="for the party that owns the target; None: neither"
    )
    control: bool = False
    description: Text = ""
    reason: Text | None = Field(None, description="why there is no value, or no interval")

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


class Table(_Frozen):
    """Rows under named columns. ``None`` shows as a dash; a cell that is not finite becomes ``None``."""

    name: Text
    title: Text
    columns: list[Text]
    rows: list[list[Json]]
    caption: Text = ""

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

    name: Text
    title: Text
    caption: Text
    spec: Annotated[dict[str, Any], BeforeValidator(plain)]


class Artifact(_Frozen):
    """A file a method leaves behind, relative to the output folder."""

    name: Text
    path: Text
    digest: str
    bytes: int
    description: Text = ""


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
    hyperparameters: Annotated[dict[str, Any], BeforeValidator(plain)] = Field(default_factory=dict)
    target: Text = ""
    target_fingerprint: str = ""
    data_digests: dict[Text, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class Result(_Frozen):
    """Everything a method found about one target."""

    schema_version: Literal[1] = 1
    method: Text
    title: Text
    verdict: Verdict
    summary: Text = Field(description="one sentence a manager understands")
    reason: Text | None = Field(None, description="why undetermined, or what went wrong")
    metrics: list[Metric] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    records: list[RecordScores] = Field(default_factory=list, description="metrics record by record")
    threat_model: Text = ""
    limits: list[Text] = Field(default_factory=list, description="what the figures do not say")
    cost: Cost = Field(default_factory=Cost)
    provenance: Provenance

    @model_validator(mode="after")
    def _doubt_explained(self) -> Result:
        if self.verdict in ("undetermined", "error") and not self.reason:
            raise ValueError(f"the result of '{self.method}' is {self.verdict} without a reason")
        return self

    @model_validator(mode="after")
    def _records_are_of_metrics(self) -> Result:
        names = [name for scores in self.records for name in scores.values]
        if len(set(names)) < len(names):
            raise ValueError(f"the result of '{self.method}' has values per record twice for one metric")
        values = {metric.name: metric.value for metric in self.metrics}
        for scores in self.records:
            for name, column in scores.values.items():
                if name not in values:
                    raise ValueError(f"values per record for '{name}', which is no metric of '{self.method}'")
                value, whole = values[name], column and scores.total == len(column)
                if (
                    value is not None
                    and whole
                    and not math.isclose(math.fsum(column) / len(column), value, rel_tol=1e-6, abs_tol=1e-6)
                ):
                    raise ValueError(
                        f"metric '{name}' is {value:g}, but the mean of its values per record is "
                        f"{math.fsum(column) / len(column):g}"
                    )
        return self

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
        """The result that :meth:`to_json` wrote."""
        return cls.model_validate_json(text)

    def __str__(self) -> str:
        width = max((len(metric.name) for metric in self.metrics), default=0)
        lines = [f"{self.title}: {self.verdict.upper()}", self.summary]
        lines += [f"reason: {self.reason}"] if self.reason else []
        lines += [f"  {metric.name:<{width}}  {metric}" for metric in self.metrics]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        reason = f"<br>reason: {html.escape(self.reason)}" if self.reason else ""
        rows = "".join(
            f"<tr><td>{html.escape(metric.name)}</td><td>{html.escape(str(metric))}</td></tr>"
            for metric in self.metrics
        )
        return (
            f"<p><strong>{html.escape(self.title)}: {self.verdict}</strong><br>{html.escape(self.summary)}{reason}</p>"
            f"<table><thead><tr><th>metric</th><th>value</th></tr></thead><tbody>{rows}</tbody></table>"
        )
