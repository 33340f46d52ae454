"""The spec of a service: which target, behind which defences, for whom and within which limits.

Written and checked like an audit spec: unknown keys are refused with the nearest valid one, and all problems are
reported together with their lines. Importing this module imports neither a framework nor a web server.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from dosimeter.core.errors import CapabilityError, InputError, MissingExtra, SpecError
from dosimeter.core.method import Defense, wrap_all
from dosimeter.core.method_spec import MethodSpec, make_method, placed, refused_settings
from dosimeter.core.places import by_line, lines_of, located
from dosimeter.core.problems import Problem, validation_problems
from dosimeter.core.target import Target
from dosimeter.targets.spec import TargetSpec, build_target

_MIB = 2**20
_SERVED_INPUTS = ("image", "text", "table")
_SERVED_ANSWERS = ("embedding", "scores", "label", "text")


class ServerSettings(BaseModel):
    """Where a service listens, who may ask it, and how much. Relative paths start at the folder of the spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="address to listen on; loopback unless you say otherwise")
    port: int = Field(8080, ge=0, le=65535, description="0 takes a free one")
    tls_certificate: Path | None = Field(None, description="PEM file; with it the service speaks HTTPS")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key")
    keys: Path | None = Field(
        None, description="SQLite file of keys and usage; '<spec>.keys.sqlite' if not given"
    )
    audit_log: Path | None = Field(
        None, description="JSONL file of who asked how much; '<spec>.audit.jsonl' if not given"
    )
    audit_log_bytes: int | None = Field(
        None, ge=4096, description="size at which the audit log is put aside and begun anew; null never"
    )
    requests_per_minute: int = Field(600, ge=1, le=10**7, description="per key, unless the key has its own")
    burst: int | None = Field(
        None, ge=1, description="requests at once after a pause; a sixth of requests_per_minute if not given"
    )
    quota: int | None = Field(
        10_000, ge=1, description="records per key in all, unless the key has its own; null has no limit"
    )
    max_batch: int = Field(256, ge=1, le=65536, description="records in one request")
    max_body_bytes: int = Field(8 * _MIB, ge=1024, le=1024 * _MIB, description="size of one request")
    max_image_side: int = Field(1024, ge=1, le=8192, description="pixels")
    max_image_pixels: int = Field(
        16 * _MIB, ge=1, description="pixels of all images of one request together, decoded"
    )
    max_text_characters: int = Field(20_000, ge=1, description="of one text")
    max_connections: int = Field(128, ge=1, description="open at once")
    max_waiting: int = Field(4096, ge=1, description="records waiting for the model, of all keys together")
    batch_wait_ms: float = Field(
        0.0, ge=0, le=1000, description="time to wait for company before a pass that is not full"
    )
    body_seconds: float = Field(30.0, gt=0, description="within which a request must have arrived")
    answer_seconds: float = Field(60.0, gt=0, description="within which a client must have taken its answer")
    drain_seconds: float = Field(30.0, gt=0, description="within which requests end after the signal to stop")
    open_metrics: bool = Field(False, description="true: /metrics needs no key")
    docs: bool = Field(
        False, description="true: FastAPI's page at /docs, which loads its scripts from elsewhere"
    )

    @model_validator(mode="after")
    def _tls_has_both(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("give both tls_certificate and tls_key, or neither")
        return self

    @property
    def most_at_once(self) -> int:
        """Requests that a key may send at once after a pause, by default."""
        return self.burst or max(1, self.requests_per_minute // 6)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class ServiceOrigin:
    """Where a spec came from: the ``path`` of its file, its ``text``, and whether to ``trust`` weight files."""

    path: Path
    text: str
    trust: bool = False


class ServiceSpec(BaseModel):
    """A service: one target behind all its defences, each around the one before it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=120, description="also the 'model' that clients name")
    target: TargetSpec
    defenses: tuple[MethodSpec, ...] = Field(
        (), description="all applied; an answer passes them in this order"
    )
    seed: int = Field(0, ge=0, description="of whatever is random in the defences")
    server: ServerSettings = ServerSettings()

    _origin: ServiceOrigin = PrivateAttr(ServiceOrigin(Path("service.yaml"), ""))

    @field_validator("defenses")
    @classmethod
    def _differ(cls, methods: tuple[MethodSpec, ...]) -> tuple[MethodSpec, ...]:
        twice = [label for label, count in Counter(method.label for method in methods).items() if count > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is given twice; all defences of a service are applied together")
        return tuple(method for method in methods if method.slug != "none")

    @property
    def origin(self) -> ServiceOrigin:
        """Where the spec came from; for one made in Python, ``service.yaml`` in the current folder."""
        return self._origin

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self._origin.path.resolve().parent

    @property
    def keys_file(self) -> Path:
        """The SQLite file of keys and usage."""
        return self.folder / (self.server.keys or f"{self._origin.path.stem}.keys.sqlite")

    @property
    def audit_file(self) -> Path:
        """The JSONL file of the audit log."""
        return self.folder / (self.server.audit_log or f"{self._origin.path.stem}.audit.jsonl")


def load_service(path: Path | str, *, trust: bool = False) -> ServiceSpec:
    """The service in the YAML file ``path``.

    Args:
        trust: allow weight files that can run code when they are read.

    Raises:
        SpecError: with every problem and its line.
        InputError: the file cannot be read, or is not YAML.
    """
    from dosimeter.loading.documents import load_yaml

    path = Path(path)
    value = load_yaml(path)
    origin = ServiceOrigin(path, path.read_text(encoding="utf-8-sig"), trust)
    if not isinstance(value, dict):
        raise SpecError(str(path), ["expected keys such as name, target, defenses and server"])
    problems: list[Problem] = []
    try:
        spec = ServiceSpec.model_validate(value)
        spec._origin = origin
    except ValidationError as error:
        problems = validation_problems(error, ServiceSpec, value)
    problems += refused_settings(
        value.get("defenses"), "defenses", Defense, path.resolve().parent, trust=trust
    )
    if problems:
        raise _spec_error(origin, problems)
    return spec


def _spec_error(origin: ServiceOrigin, problems: list[Problem]) -> SpecError:
    lines = lines_of(origin.text)
    return SpecError(str(origin.path), by_line(located(problem, lines) for problem in problems))


def build_service(spec: ServiceSpec) -> Target:
    """The target of ``spec`` behind all its defences.

    Raises:
        SpecError: defences that do not fit the target, or a target that cannot be served.
        InputError: what the target needs is missing or cannot be used.
        MissingExtra: the target or a defence needs a package that is not installed.
    """
    trust = spec.origin.trust
    target = build_target(spec.target, spec.folder, trust=trust)
    problems: list[Problem] = []
    if target.modality not in _SERVED_INPUTS or target.returns not in _SERVED_ANSWERS:
        problems.append(Problem(("target",), _cannot_serve(target)))
    defenses: list[Defense] = []
    for number, method in enumerate(spec.defenses):
        try:
            defense = make_method(method, Defense, spec.folder, trust=trust)  # type: ignore[type-abstract]
            defense.wrap(target, seed=spec.seed)
            defenses.append(defense)
        except MissingExtra:
            raise
        except CapabilityError as error:
            problems.append(Problem(("defenses", number), str(error)))
        except InputError as error:
            problems += placed(error, "defenses", number, method.slug)
    if problems:
        target.close()
        raise _spec_error(spec.origin, problems)
    return wrap_all(target, defenses, seed=spec.seed)


def _cannot_serve(target: Target) -> str:
    return (
        f"a service takes {', '.join(_SERVED_INPUTS)} inputs and gives {', '.join(_SERVED_ANSWERS)} answers, but "
        f"this target takes {target.modality} and gives {target.returns}"
    )
