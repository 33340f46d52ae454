"""StolenEncoder as an attack of a study: how good a copy of this encoder does a thief get, for how many calls?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, InstanceOf, field_serializer, field_validator, model_validator

from dosimeter.attacks.encoder_stealing.citation import STOLEN_ENCODER
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.selection import Selection
from dosimeter.attacks.encoder_stealing.surrogates import IMAGE_SURROGATES, TEXT_SURROGATES
from dosimeter.attacks.encoder_stealing.tasks import as_large_as, tasks_from_spec
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.attacks.encoder_stealing.zero_shot import TEMPLATE, prompts
from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.errors import InputError
from dosimeter.core.method import Attack, Context, Estimate, Findings
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import SettingsError
from dosimeter.core.records import Batch, check_batch, content_hash, take
from dosimeter.core.target import Target
from dosimeter.models.heads import HeadRecipe

Baseline = Literal["no-augmentation", "conventional", "contrastive", "prototypes", "from-scratch"]
_BUY_VIEWS = ("contrastive", "prototypes")


class EncoderStealing(Attack):
    """Copy an embedding service with one call per input, and judge the copy on tasks beside the original.

    Reached through an :class:`Oracle`, the attack never sees the module behind the service.
    """

    card: ClassVar[Card] = Card(
        slug="encoder-stealing",
        kind="attack",
        title="Encoder stealing (StolenEncoder)",
        purpose="How good a copy of this encoder can be made from its embedding API, and what does it cost?",
        threat_model=(
            "A customer of an embedding API who sends unlabelled inputs of their own, each once, and sees the vectors. They "
            "know neither architecture nor weights, training data or algorithm, and train a network of their choice."
        ),
        needs=Needs(modalities=("image", "text"), returns=("embedding",)),
        paper=STOLEN_ENCODER,
        extras=("torch", "images"),
        tags=("AML.T0024.002", "AML.T0040", "ML05:2023", "NISTAML.031"),
    )

    queries: int = Field(
        2500, ge=2, description="surrogate inputs to buy, from data.public; published: 5 % of pre-training"
    )
    budgets: tuple[int, ...] = Field(
        (),
        description="smaller numbers of queries, rising, for which copies are trained too: the price curve",
    )
    selection: Selection = Field("random", description="which inputs of data.public to buy first")
    stop_gain: float | None = Field(
        None,
        ge=0,
        description="stop buying once the held-out cosine rises by less than this from one budget to the next",
    )
    held_out: int = Field(300, ge=20, description="further inputs of data.public, to compare vectors on")
    probes: int = Field(
        20, ge=2, description="inputs asked twice first, to see whether the service repeats itself"
    )
    surrogate: str | None = Field(
        None,
        description="architecture: small-conv, small-resnet, resnet-20, -18, -34 (published), -50, word-transformer, or "
        "'file.py:function'; by modality if not given",
    )
    match: Literal["linear", "pool"] = Field(
        "linear",
        description="how a ResNet reaches the width of the vectors: a head that stays, or pooling to more cells",
    )
    size: int = Field(
        32,
        ge=8,
        description="side in pixels of the images that the surrogate takes; words of a text, 64 if not given",
    )
    flip: bool = Field(True, description="mirror views; false where left and right mean something")
    crop: bool = Field(False, description="also crop views at random; present and off in the published code")
    recipe: Recipe = Field(Recipe(), description="how the surrogate is trained")
    tasks: tuple[InstanceOf[Task], ...] = Field(
        (), description="labelled data to judge encoders on; digits for images if not given"
    )
    heads: HeadRecipe = Field(HeadRecipe(), description="how downstream heads are trained")
    head_seeds: int = Field(3, ge=1, description="heads per encoder and task")
    baselines: tuple[Baseline, ...] = Field(
        ("no-augmentation",),
        description="further ways to make a copy, at equal numbers of updates; the best one counts",
    )
    bought_views: int = Field(4, ge=2, description="views per input that the contrastive baselines buy")
    adaptive: bool = Field(
        True, description="where a defence shows in the vectors, also train a copy that undoes it"
    )
    text_tower: InstanceOf[Target] | None = Field(
        None, description="the text side of a two-tower model, for the zero-shot check (keys of a target)"
    )
    template: str = Field(TEMPLATE, description="prompt per class for the text tower")
    tolerated: float = Field(
        0.5, ge=0, le=1, description="recovered share above which, without a policy, the service fails"
    )

    @field_validator("budgets")
    @classmethod
    def _rising(cls, budgets: tuple[int, ...]) -> tuple[int, ...]:
        if any(b < 2 for b in budgets) or list(budgets) != sorted(set(budgets)):
            raise ValueError(f"expected budgets of at least 2 queries, rising, but got {list(budgets)}")
        return budgets

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.budgets and self.budgets[-1] >= self.queries:
            raise ValueError(
                f"budgets must be below queries ({self.queries}), but the last is {self.budgets[-1]}"
            )
        if self.stop_gain is not None and not self.budgets:
            raise ValueError("stop_gain compares one budget with the next, so it needs budgets")
        if self.selection == "disagreement" and not self.budgets:
            raise ValueError("selection disagreement learns from earlier purchases, so it needs budgets")
        try:
            prompts([], self.template)
        except InputError as error:
            raise ValueError(str(error)) from None
        tower = self.text_tower
        if tower is not None and (tower.modality, tower.returns) != ("text", "embedding"):
            raise ValueError(
                f"text_tower must turn text into embeddings, but '{tower.name}' turns {tower.modality} into {tower.returns}"
            )
        return self

    @field_serializer("tasks")
    def _describe_tasks(self, tasks: tuple[Task, ...]) -> list[dict[str, Any]]:
        return [
            {"name": task.name, "train": task.train.digest, "test": task.test.digest, "classes": task.classes}
            for task in tasks
        ]

    @field_serializer("text_tower")
    def _describe_tower(self, tower: Target | None) -> str | None:
        return None if tower is None else tower.fingerprint

    @classmethod
    def from_spec(cls, settings: dict[str, Any], folder: Path, *, trust: bool = False) -> Self:
        from dosimeter.targets.encoders import encoder_from_spec

        made, problems = dict(settings), []
        builders = {
            "tasks": lambda given: tasks_from_spec(given, folder),
            "text_tower": lambda given: encoder_from_spec(("text_tower",), given, folder, trust=trust),
        }
        for key, build in builders.items():
            if key in settings:
                try:
                    made[key] = build(settings[key])
                except SettingsError as error:
                    problems += error.problems
                    del made[key]
        name = settings.get("surrogate")
        if isinstance(name, str) and ".py:" in name:
            made["surrogate"] = str(folder / name)
        return cls.checked(made, problems)

    def check_modality(self, modality: str) -> None:
        """Settings that do not fit what the target takes, found before anything is bought.

        Raises:
            InputError: a surrogate of another modality or of no known name, baselines that buy views of texts.
        """
        known = IMAGE_SURROGATES if modality == "image" else TEXT_SURROGATES
        if self.surrogate is not None and ":" not in self.surrogate and self.surrogate not in known:
            raise InputError(
                f"there is no surrogate '{self.surrogate}' for {modality} inputs, which the target takes; there is "
                f"{', '.join(known)}, or name a factory of yours as 'file.py:function'."
            )
        buying = [name for name in self.baselines if name in _BUY_VIEWS]
        if buying and modality != "image":
            raise InputError(
                f"baseline {' and '.join(buying)} buys views of images; the target takes {modality}. Leave it out."
            )

    def judged_on(self, modality: str) -> tuple[Task, ...]:
        """The tasks, or the embedded one for images.

        Raises:
            InputError: no tasks for texts, for which nothing is embedded.
        """
        if self.tasks:
            wrong = [task.name for task in self.tasks if task.train.modality != modality]
            if wrong:
                raise InputError(
                    f"tasks {', '.join(wrong)} do not hold {modality} inputs, which the target takes."
                )
            return self.tasks
        if modality != "image":
            raise InputError(
                "encoder-stealing needs labelled texts to judge a copy of a text encoder on. Give some as 'tasks', a name "
                "such as ag-news or a file."
            )
        return tasks_from_spec(["digits"], Path())

    def pool(self, public: Batch | None, tasks: tuple[Task, ...]) -> tuple[Batch, int]:
        """The inputs of ``data.public`` that may be bought, and how many were left out since a task tests on them.

        Raises:
            InputError: too few are left.
        """
        given: Batch = (
            [] if public is None else check_batch(tasks[0].train.modality, public, what="data.public")
        )
        # At the size of the public images, or a resized copy of a test image would pass for another one.
        tested = {content_hash(record) for task in tasks for record in as_large_as(task, given).test.inputs}
        seen: set[str] = set()
        keep = []
        for row, record in enumerate(given):
            key = content_hash(record)
            if key not in tested and key not in seen:
                keep.append(row)
            seen.add(key)
        overlap = sum(key in tested for key in seen)
        needed = self.queries + self.held_out
        if len(keep) < needed:
            also = (
                f" ({overlap} that a task tests on and {len(given) - len(seen)} copies are left out)"
                if len(given)
                else ""
            )
            raise InputError(
                f"encoder-stealing needs {needed} different public inputs ({self.queries} to buy, {self.held_out} to compare on), "
                f"but data.public holds {len(keep)}{also}. Give more, or lower queries."
            )
        return take(given, keep), overlap

    def estimate(self, target: Target, context: Context) -> Estimate:
        self.check_modality(target.modality)
        tasks = self.judged_on(target.modality)
        self.pool(context.public, tasks)
        judged = sum(len(task.train) + len(task.test) for task in tasks)
        # Probes are asked twice, and need not be among the inputs that are bought.
        probing = 2 * self.probes + (5 if target.modality == "image" else 0)
        contrastive = any(name in _BUY_VIEWS for name in self.baselines)
        repeats = self.queries * 3 if self.adaptive else 0  # undoing.MOST_REPEATS
        views = self.queries * self.bought_views if contrastive else 0
        return Estimate(queries=self.queries + self.held_out + probing + judged + views + repeats)

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        from dosimeter.attacks.encoder_stealing.campaign import Campaign
        from dosimeter.attacks.encoder_stealing.presentation import findings

        self.check_modality(oracle.modality)
        tasks = self.judged_on(oracle.modality)
        pool, overlap = self.pool(context.public, tasks)
        order = context.rng("surrogate").permutation(len(pool))
        held = take(pool, order[: self.held_out])
        rest = take(pool, order[self.held_out :])
        campaign = Campaign(self, oracle, context, tasks, rest, held, overlap)
        return findings(campaign.run())


def default_surrogate(modality: str) -> str:
    """A small surrogate that trains on one processor core."""
    return "small-resnet" if modality == "image" else "word-transformer"


def words_or_pixels(attack: EncoderStealing, modality: str) -> int:
    """The setting ``size``, whose default is 64 words for texts."""
    return 64 if modality == "text" and "size" not in attack.model_fields_set else attack.size
