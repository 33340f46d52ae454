"""The ``target`` part of an audit spec, one model per kind, and :func:`build_target` that makes the target.

Importing this module imports neither a framework nor an HTTP client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dosimeter.core.access import Grants, Returns
from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.core.problems import SettingsError, validation_problems
from dosimeter.core.records import Batch
from dosimeter.core.target import RecordedTarget, Target
from dosimeter.targets.http_payload import ImageEncoding, check_template, parse_path, takes_one_record

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)

Preprocess = dict[str, Any]
"""Settings of ``targets.torch.Preprocessing``, checked when the target is made."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    name: str | None = Field(None, description="shown to people; made up from the rest if not given")
    price_per_call: float = Field(0.0, ge=0, description="money per record asked")


class TorchSpec(_Spec):
    """A torch module made by the user's own code."""

    kind: Literal["torch"] = "torch"
    factory: str = Field(
        description="'package.module:function' or 'file.py:function' that returns the module"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the factory")
    weights: Path | None = Field(
        None, description="state_dict as .safetensors, or .pt read with weights_only"
    )
    modality: Literal["image", "table"] = "image"
    returns: Literal["embedding", "scores", "label"]
    grants: Grants = "weights"
    preprocessing: Preprocess | None = None
    batch_size: int = Field(32, ge=1)


class HuggingFaceSpec(_Spec):
    """A Hugging Face model: a folder, or a hub id that is in the local cache or can be downloaded."""

    kind: Literal["huggingface"] = "huggingface"
    model: str
    modality: Literal["image", "text"] = "text"
    returns: Literal["embedding", "scores", "label"] = "embedding"
    pooling: Literal["mean", "pooler", "cls", "tokens"] | None = Field(
        None, description="of embeddings; mean for text, pooler for images if not given"
    )
    max_length: int = Field(128, ge=1, description="tokens; text only")
    grants: Grants = "weights"
    batch_size: int = Field(32, ge=1)


class SentenceTransformersSpec(_Spec):
    """A sentence-transformers model: a folder or hub id, or a package that ships one."""

    kind: Literal["sentence-transformers"] = "sentence-transformers"
    model: str | None = None
    package: str | None = Field(None, description="an installed package with a model folder inside")
    returns: Literal["embedding"] = "embedding"
    grants: Grants = "weights"
    batch_size: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.package is None):
            raise ValueError(
                "give either 'model' (folder or hub id) or 'package' (installed package), not both"
            )
        return self


def _must_be_authorized(value: Any) -> Any:
    if value is not True:
        raise ValueError(
            "authorized must be true: attacks run only against services that their user owns or has permission to test"
        )
    return value


class HttpSpec(_Spec):
    """Any JSON service. Secrets are named as ``${NAME}`` in ``headers`` or ``url`` and read from the environment."""

    kind: Literal["http"] = "http"
    url: str
    authorized: Annotated[Literal[True], BeforeValidator(_must_be_authorized)] = Field(
        False, validate_default=True, description="true: the user owns the service or may test it"
    )
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = Field(default_factory=dict, description="may hold ${NAME} of the environment")
    request: Any = Field(description="JSON template with {{inputs}}, {{input}}, or {{text}} and {{images}}")
    response: str = Field(description="where the answers are, as in 'predictions[*].label'")
    modality: Literal["image", "text", "table", "prompt"]
    returns: Literal["label", "scores", "embedding", "text", "mask", "image"]
    encoding: ImageEncoding = Field("png-base64", description="how images are written into the request")
    classes: tuple[str, ...] = Field((), description="names of the labels 0, 1, ...")
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="precision that the service computes in"
    )
    batch_size: int = Field(32, ge=1, description="records per request; 1 if the template has no {{inputs}}")
    concurrency: int = Field(16, ge=1, le=1024, description="most requests in flight")
    timeout_seconds: float = Field(
        60.0, gt=0, description="for one attempt, from connecting to the last byte"
    )
    max_retries: int = Field(
        5, ge=0, description="further attempts after 429, 5xx, lost connections, timeouts"
    )
    version: str = Field("", description="change it when the service changed, to ask afresh")

    @field_validator("url")
    @classmethod
    def _usable_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError("url is not a valid URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must start with http:// or https:// and name a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must not hold a user or password; send them in a header as ${NAME}")
        if "$" in parts.netloc:
            raise ValueError("url may hold ${NAME} only after the host")
        return url

    @field_validator("headers")
    @classmethod
    def _no_literal_secrets(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _SECRET_HEADER.search(name) and not _VARIABLE.search(value):
                raise ValueError(
                    f"header '{name}' looks like a secret, which must not stand in a spec. "
                    "Put it into an environment variable and write ${VARIABLE} here"
                )
        return headers

    @model_validator(mode="after")
    def _template_and_path(self) -> Self:
        try:
            check_template(self.request, self.modality, self.encoding)
            parse_path(self.response)
        except InputError as error:
            raise ValueError(str(error)) from None
        if "batch_size" in self.model_fields_set and self.batch_size > 1 and takes_one_record(self.request):
            raise ValueError(
                f"batch_size {self.batch_size} needs {{{{inputs}}}} in the request template, which sends one record"
            )
        return self

    @property
    def shown_url(self) -> str:
        """The URL without its query, for people."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def records_per_request(self) -> int:
        """Records sent together: ``batch_size``, or one where the template takes a single record."""
        return 1 if takes_one_record(self.request) else self.batch_size


class RecordedSpec(_Spec):
    """Answers collected elsewhere: a file of inputs and a file of answers in the same order."""

    kind: Literal["recorded"] = "recorded"
    inputs: Path = Field(
        description="images (.npz, folder, .zip), text (.jsonl, .csv, .txt) or table (.csv, .parquet)"
    )
    answers: Path = Field(description="array (.npy, .npz), or text (.jsonl, .csv, .txt)")
    modality: Literal["image", "text", "table"]
    returns: Returns


TargetSpec = Annotated[
    TorchSpec | HuggingFaceSpec | SentenceTransformersSpec | HttpSpec | RecordedSpec,
    Field(discriminator="kind"),
]


def build_target(spec: TargetSpec, folder: Path, *, trust: bool = False) -> Target:
    """The target that ``spec`` describes; relative paths start at ``folder``.

    Args:
        spec: any of the kinds.
        folder: where the spec lies.
        trust: allow weight files that can run code when they are read.

    Raises:
        InputError: a file, factory, model, package or variable of the environment that is missing or cannot be used.
        MissingExtra: the kind needs a framework that is not installed.
    """
    return _BUILDERS[spec.kind](spec, folder, trust)


def _build_torch(spec: TorchSpec, folder: Path, trust: bool) -> Target:
    from pydantic import ValidationError

    from dosimeter.loading.factories import call_factory

    try:
        made = call_factory(spec.factory, folder, spec.arguments)
        if isinstance(made, Target):
            return made
        import torch
    except (InputError, ModuleNotFoundError) as error:
        missing = error.__cause__ if isinstance(error, InputError) else error
        if isinstance(missing, ModuleNotFoundError) and missing.name == "torch":
            raise MissingExtra(f"factory '{spec.factory}'", "torch") from error
        raise
    from dosimeter.targets.torch import Preprocessing, TorchTarget

    if not isinstance(made, torch.nn.Module):
        raise InputError(
            f"factory '{spec.factory}' should return a torch module or a Target, but returned {type(made).__name__}."
        )
    if spec.weights is not None:
        _load_state(made, folder / spec.weights, trust)
    preprocessing = None
    if spec.preprocessing is not None:
        try:
            preprocessing = Preprocessing(**spec.preprocessing)
        except ValidationError as error:
            problems = validation_problems(error, Preprocessing, spec.preprocessing)
            raise SettingsError(
                [replace(problem, place=("preprocessing", *problem.place)) for problem in problems]
            ) from None
    return TorchTarget(
        made,
        name=spec.name or spec.factory.rpartition(":")[2],
        modality=spec.modality,
        returns=spec.returns,
        preprocessing=preprocessing,
        batch_size=spec.batch_size,
        grants=spec.grants,
        price_per_call=spec.price_per_call,
    )


def _load_state(module: Any, path: Path, trust: bool) -> None:
    from dosimeter.loading.weights import load_weights

    state = load_weights(path, trust=trust)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        shown = " ".join(reasons)
        raise InputError(
            f"weights {path} do not fit {type(module).__name__}: {shown[:300]}{'...' if len(shown) > 300 else ''} "
            "Give the factory the arguments that the weights were trained with."
        ) from None


def _build_huggingface(spec: HuggingFaceSpec, folder: Path, trust: bool) -> Target:  # noqa: ARG001
    from dosimeter.targets.huggingface import HuggingFaceImageTarget, HuggingFaceTarget

    settings: dict[str, Any] = {
        "name": spec.name,
        "returns": spec.returns,
        "grants": spec.grants,
        "batch_size": spec.batch_size,
        "price_per_call": spec.price_per_call,
    }
    if spec.pooling is not None:
        settings["pooling"] = spec.pooling
    model = _local_or_hub(spec.model, folder)
    if spec.modality == "image":
        return HuggingFaceImageTarget(model, **settings)
    return HuggingFaceTarget(model, max_length=spec.max_length, **settings)


def _build_sentence_transformers(spec: SentenceTransformersSpec, folder: Path, trust: bool) -> Target:  # noqa: ARG001
    from dosimeter.targets.huggingface import SentenceEncoderTarget

    return SentenceEncoderTarget(
        None if spec.model is None else _local_or_hub(spec.model, folder),
        package=spec.package,
        name=spec.name,
        grants=spec.grants,
        batch_size=spec.batch_size,
        price_per_call=spec.price_per_call,
    )


def _local_or_hub(model: str, folder: Path) -> str:
    local = folder / Path(model).expanduser()
    return str(local) if local.exists() else model


def _build_http(spec: HttpSpec, folder: Path, trust: bool) -> Target:  # noqa: ARG001
    from dosimeter.targets.http import HttpTarget
    from dosimeter.targets.http_client import read_secrets

    read_secrets(spec)
    return HttpTarget(spec)


def _build_recorded(spec: RecordedSpec, folder: Path, trust: bool) -> Target:  # noqa: ARG001
    answers_path = folder / spec.answers
    if spec.returns == "text":
        from dosimeter.loading.text import load_text

        answers: Any = load_text(answers_path).texts
    else:
        answers = _only_array(answers_path)
    target = RecordedTarget(
        _recorded_inputs(spec, folder),
        answers,
        modality=spec.modality,
        returns=spec.returns,
        name=spec.name or answers_path.stem,
    )
    target.price_per_call = spec.price_per_call
    return target


def _recorded_inputs(spec: RecordedSpec, folder: Path) -> Batch:
    path = folder / spec.inputs
    if spec.modality == "image":
        from dosimeter.loading.images import load_images

        return load_images(path).images
    if spec.modality == "text":
        from dosimeter.loading.text import load_text

        return load_text(path).texts
    from dosimeter.loading.tables import load_table

    return load_table(path).features


def _only_array(path: Path) -> np.ndarray:
    from dosimeter.loading.arrays import load_arrays

    arrays = load_arrays(path)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if "answers" in arrays:
        return arrays["answers"]
    raise InputError(
        f"{path} holds the arrays {', '.join(arrays) or '(none)'}; name the one with the answers 'answers'."
    )


_BUILDERS: dict[str, Callable[[Any, Path, bool], Target]] = {
    "torch": _build_torch,
    "huggingface": _build_huggingface,
    "sentence-transformers": _build_sentence_transformers,
    "http": _build_http,
    "recorded": _build_recorded,
}
