"""The whole attack on a small service: what it finds, what it does not, what it costs, what it refuses."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.attack import EncoderStealing
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.core.cache import AnswerCache
from dosimeter.core.errors import BudgetExceeded, CapabilityError, InputError, TargetError
from dosimeter.core.ledger import Ledger
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import SettingsError
from dosimeter.core.result import Result
from dosimeter.core.target import CallableTarget
from dosimeter.data.dataset import Dataset
from dosimeter.data.images import resize
from dosimeter.defenses.features import FeatureNoise
from dosimeter.models.heads import HeadRecipe
from support.services import KEY, client_of, serving
from support.tiny_encoders import CharacterFeatures
from support.tiny_thefts import RECIPE, SIZE, WIDTH, attack, context, encoder, pretender, public, service, task

#: Too few updates to learn anything: for what does not depend on it.
FAST = {
    "recipe": Recipe(steps=2, optimizer="adam", learning_rate=1e-3),
    "heads": HeadRecipe(hidden=(8,), epochs=1),
    "queries": 60,
    "held_out": 20,
}


def few(n=40, seed=0):
    """The task with ``n`` records to train and to test on."""
    whole = task()
    return Task("digits", whole.train.take(range(n)), whole.test.take(range(n)))


def fast(**settings):
    return attack(**{**FAST, "tasks": (few(),), **settings})


def at_random(batch):
    """A vector per input that has nothing to do with it, but is always the same."""
    digests = (hashlib.blake2b(record.tobytes(), digest_size=8).digest() for record in batch)
    return np.stack([np.random.default_rng(int.from_bytes(d, "big")).normal(size=WIDTH) for d in digests])


# What it finds


def test_a_service_that_can_be_stolen_fails(theft):
    _, _, result = theft
    assert result.verdict == "fail" and result.reason is None
    share = result.metric("recovered-share.digits")
    assert share.value > 0.9 and share.low > 0.8 and share.n == len(task().test)
    assert result.metric("accuracy.stolen.digits").value > 0.85
    assert result.metric("cosine").value > 0.9 and result.metric("cka").value > 0.8
    assert result.metric("control.planted").value > 0.6
    assert result.metric("control.permuted.digits").low <= 0.05
    assert result.metric("control.untrained").value < 0.4
    assert "400 calls" in result.summary and "digits" in result.summary


def test_tolerance_decides_where_nothing_else_does():
    lenient = attack(tolerated=1.0, recipe=Recipe(steps=25, optimizer="adam", learning_rate=5e-3))
    result = lenient.run(service(), context=context())
    assert result.verdict in ("pass", "undetermined")
    assert result.metric("recovered-share.digits").low < 1


@pytest.mark.parametrize(
    "target", [FeatureNoise(rho=32).wrap(service()), pretender(at_random)], ids=["noise", "random"]
)
def test_a_service_that_says_nothing_has_nothing_to_steal(target):
    result = attack(recipe=RECIPE.model_copy(update={"steps": 20})).run(target, context=context())
    assert result.verdict == "undetermined"
    assert "nothing to recover" in result.reason and "defence" in result.reason
    assert result.metric("recovered-share.digits").value is None
    assert result.metric("recovered-share.digits").reason
    assert abs(result.metric("centred-cosine").value) < 0.2


def test_nothing_is_bought_from_a_service_that_says_one_thing():
    oracle = Oracle(pretender(lambda batch: np.repeat([[1.0, 2, 3]], len(batch), 0)))
    result = fast().run(oracle, context=context())
    assert result.verdict == "undetermined" and "same vector" in result.reason
    assert result.metric("probe.spread").value == 0
    assert oracle.queries == 10 + 10 + 5


def test_nothing_is_bought_from_a_service_that_answers_at_random():
    generator = np.random.default_rng(0)
    oracle = Oracle(pretender(lambda batch: generator.normal(size=(len(batch), 5))))
    result = fast().run(oracle, context=context())
    assert result.verdict == "undetermined" and "answers at random" in result.reason
    assert oracle.queries == 25


def test_a_service_that_does_not_repeat_itself_is_measured_and_said():
    target = FeatureNoise(rho=0.1, draw="per-query").wrap(service())
    result = fast().run(target, context=context())
    assert result.metric("probe.self-distance").value == pytest.approx(0.1 * np.sqrt(2), rel=0.1)
    measured = f"{result.metric('probe.self-distance').value:.2g}"
    assert any(f"does not repeat itself: two answers to one input are {measured} a" in l for l in result.limits)  # noqa: E741


def test_a_steady_service_has_no_such_limit(theft):
    _, _, result = theft
    assert result.metric("probe.self-distance").value == 0
    assert not any("repeat itself" in limit or "left out" in limit for limit in result.limits)


# What it costs


def test_the_bill_is_exact(theft):
    made, ledger, result = theft
    assert ledger.used == ledger.answered == result.cost.queries
    assert result.cost.money == pytest.approx(0.01 * ledger.used)
    thief = result.metric("queries.thief").value
    evaluation = result.metric("queries.evaluation").value
    assert thief + evaluation == ledger.used
    # 400 bought, 10 probes asked a second time, 5 dimmed; of the probes some are bought anyway.
    assert 415 <= thief <= 425
    judged = {record.tobytes() for part in (task().train, task().test) for record in part.inputs}
    assert 60 + len(judged) - 10 <= evaluation <= 60 + len(judged)
    assert ledger.used <= made.estimate(service(), context()).queries


COMBINATIONS = [
    {},
    {"queries": 20, "probes": 150},
    {"adaptive": False, "probes": 2},
    {"budgets": (10, 30), "stop_gain": 0.0, "selection": "disagreement"},
    {"budgets": (10, 30), "stop_gain": 5.0, "selection": "k-center"},
    {"baselines": ("contrastive", "prototypes", "no-augmentation", "conventional", "from-scratch"), "bought_views": 3},
    {"selection": "k-center", "baselines": ("prototypes",), "tasks": (few(), replace(few(30), name="again"))},
]  # fmt: skip


@pytest.mark.parametrize("noise", [None, 0.05, 0.6], ids=["steady", "little noise", "noise per query"])
@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda s: ",".join(s) or "defaults")
def test_the_estimate_is_an_upper_bound(settings, noise):
    target = service() if noise is None else FeatureNoise(rho=noise, draw="per-query").wrap(service())
    made = fast(**settings)
    estimate = made.estimate(target, context()).queries
    ledger = Ledger(max_queries=estimate)
    result = made.run(Oracle(target, ledger=ledger), context=context())
    assert ledger.used == result.cost.queries <= estimate
    paid = result.metric("queries.thief").value + result.metric("queries.evaluation").value
    assert paid == ledger.used
    if noise == 0.6 and made.stop_gain is None:
        assert result.metric("queries.thief").value >= made.queries * (4 if made.adaptive else 1)


def test_an_estimate_asks_nothing():
    def refuse(batch):
        raise AssertionError("asked")

    assert fast().estimate(pretender(refuse), context()).queries > 0


def test_a_budget_that_is_too_small_stops_it():
    with pytest.raises(BudgetExceeded):
        fast().run(Oracle(service(), max_queries=50), context=context())


def test_a_killed_run_resumes_without_repeating_a_query(tmp_path):
    sent = []

    def answer(batch, left=[90]):  # noqa: B006 - counts down over calls
        left[0] -= len(batch)
        if left[0] < 0:
            raise RuntimeError("killed")
        sent.extend(record.tobytes() for record in batch)
        return service().answer(batch)

    def oracle(function):
        target = pretender(function, batch_size=16, fingerprint="one service")
        ledger = Ledger(tmp_path / "ledger.sqlite")
        return Oracle(target, ledger=ledger, cache=AnswerCache(tmp_path / "answers.sqlite")), ledger

    made, where = fast(budgets=(20,)), context(cache=tmp_path)
    with pytest.raises((RuntimeError, TargetError)):
        made.run(oracle(answer)[0], context=where)
    before = len(sent)
    assert 0 < before <= 90

    def healthy(batch):
        sent.extend(record.tobytes() for record in batch)
        return service().answer(batch)

    asking, ledger = oracle(healthy)
    result = made.run(asking, context=where)
    assert ledger.answered == len(sent) == result.cost.queries, "answers that were paid for were asked again"
    # Probes are asked twice on purpose, everything else once.
    counts = {}
    for record in sent:
        counts[record] = counts.get(record, 0) + 1
    assert sorted(counts.values())[-11:] == [1] + [2] * 10

    asking, ledger = oracle(answer)
    again = made.run(asking, context=where)
    assert ledger.answered == len(sent), "a finished run was paid for again"
    assert again.metrics == result.metrics and again.tables == result.tables

    undisturbed = made.run(Oracle(service()), context=context())
    assert undisturbed.metrics == result.metrics


def test_a_seed_fixes_every_figure():
    runs = [fast().run(service(), context=context(seed=seed)) for seed in (0, 0, 1)]
    assert runs[0].metrics == runs[1].metrics != runs[2].metrics


def test_in_process_and_over_http_the_same_copies_come_out(tmp_path, monkeypatch):
    made, kept = fast(surrogate="small-conv"), []
    target = service(batch_size=16)
    results = []
    with serving(target, tmp_path / "server") as served:
        monkeypatch.setenv(KEY, served.key)
        for name, asked in (("here", target), ("there", client_of(served, target))):
            results.append(made.run(asked, context=context(cache=tmp_path / name)))
            kept.append({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.safetensors")})
        assert served.used() == results[1].cost.queries
    assert len(kept[0]) >= 3 and kept[0] == kept[1], "weights differ between the two ways to ask"
    assert results[0].metrics == results[1].metrics


# What goes in


def test_public_images_that_a_task_tests_on_are_not_bought():
    tested = np.asarray(few().test.inputs)[:9]
    sent = []

    def answer(batch):
        sent.extend(record.tobytes() for record in batch)
        return service().answer(batch)

    given = np.concatenate([tested, public(), public()[:5]])
    made = fast()
    pool, overlap = made.pool(given, made.tasks)
    known = {record.tobytes() for record in tested}
    assert overlap == 9 and len(pool) == len({r.tobytes() for r in public()} - known)
    assert not known & {record.tobytes() for record in pool}
    result = made.run(pretender(answer), context=Context(public=given))
    assert any("9 public inputs were left out, since a task tests on them" in limit for limit in result.limits)


def test_test_images_of_another_size_are_recognised_after_resizing():
    made = fast()
    larger = resize(np.asarray(few().test.inputs), 12)
    given = np.concatenate([larger, resize(public(), 12)])
    _, overlap = made.pool(given, made.tasks)
    assert overlap >= len({record.tobytes() for record in larger})


def test_floats_are_the_same_images():
    made = fast()
    one, two = made.pool(public(), made.tasks), made.pool(public() / 255, made.tasks)
    np.testing.assert_array_equal(one[0], two[0])
    with pytest.raises(InputError, match=r"data.public in 0..1, but got values in 0..255"):
        made.pool(public().astype(float), made.tasks)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, r"data.public holds 0\. Give more, or lower queries"),
        (public()[:70], r"holds 70 \(0 that a task tests on and 0 copies are left out\)"),
        (np.repeat(public()[:30], 3, 0), r"holds 30 \(0 that .* and 60 copies are left out\)"),
    ],
)
def test_too_few_public_inputs(given, said):
    made = fast()
    for call in (made.estimate, lambda target, where: made.run(target, context=where)):
        with pytest.raises(InputError, match=r"needs 80 different public inputs \(60 to buy, 20 to comp.*" + said):  # fmt: skip
            call(service(), Context(public=given))


def test_without_tasks_digits_judge_images():
    made = fast(tasks=())
    assert [t.name for t in made.judged_on("image")] == ["digits"]
    assert made.hyperparameters()["tasks"] == []


def test_what_the_target_takes_must_fit():
    def asked(_):
        raise AssertionError("asked")

    texts = CallableTarget(asked, modality="text", returns="embedding")
    where = Context(public=["a", "b"])
    with pytest.raises(InputError, match="needs labelled texts to judge a copy.*'tasks'.*ag-news"):
        EncoderStealing().estimate(texts, where)
    with pytest.raises(InputError, match="tasks digits do not hold text inputs"):
        EncoderStealing(tasks=(few(),)).run(texts, context=where)
    with pytest.raises(InputError, match="no surrogate 'resnet-20' for text inputs.*there is word-transformer"):  # fmt: skip
        EncoderStealing(surrogate="resnet-20").run(texts, context=where)
    with pytest.raises(InputError, match="no surrogate 'word-transformer' for image inputs.*small-conv, "):
        fast(surrogate="word-transformer").run(pretender(asked), context=context())
    with pytest.raises(InputError, match="baseline contrastive and prototypes buys views of images; the target takes text"):  # fmt: skip
        EncoderStealing(baselines=("contrastive", "prototypes")).run(texts, context=where)
    with pytest.raises(CapabilityError, match="embedding"):
        fast().run(pretender(asked, returns="label"), context=context())


def test_a_surrogate_that_cannot_be_made_is_found_before_anything_is_bought(tmp_path):
    (tmp_path / "mine.py").write_text("def nothing(): return 3\n")
    for settings, message in (
        ({"surrogate": f"{tmp_path}/mine.py:nothing"}, "should return a torch module, but returned int"),
        ({"surrogate": f"{tmp_path}/mine.py:absent"}, "has no 'absent'"),
        ({"match": "pool"}, "reach a width by pooling, not 'small-conv'"),
        ({"surrogate": "resnet-18", "match": "pool"}, "512 channels, which do not divide the width 16"),
    ):
        oracle = Oracle(service())
        with pytest.raises(InputError, match=message):
            fast(**settings).run(oracle, context=context())
        assert oracle.queries == 25, "only the probes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budgets": (30, 20)}, r"budgets of at least 2 queries, rising, but got \[30, 20\]"),
        ({"budgets": (20, 20)}, "rising"),
        ({"budgets": (1, 20)}, "at least 2 queries"),
        ({"budgets": (20, 60)}, r"budgets must be below queries \(60\), but the last is 60"),
        ({"stop_gain": 0.1}, "stop_gain compares one budget with the next, so it needs budgets"),
        ({"selection": "disagreement"}, "disagreement learns from earlier purchases, so it needs budgets"),
        ({"template": "a photo"}, r"template with \{\} for the class"),
        ({"queries": 1}, "queries"),
        ({"held_out": 5}, "held_out"),
        ({"probes": 1}, "probes"),
        ({"size": 4}, "size"),
        ({"tolerated": 1.5}, "tolerated"),
        ({"baselines": ("none",)}, "baselines"),
        ({"tasks": ("digits",)}, "tasks"),
        ({"text_tower": 3}, "text_tower"),
        ({"querys": 10}, "querys"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        fast(**settings)


def test_a_text_tower_takes_text():
    with pytest.raises(ValueError, match="text_tower must turn text into embeddings, but 'digits' turns image into emb"):  # fmt: skip
        fast(text_tower=service())


# From a spec


TOWER = """
import numpy as np
from dosimeter.core.target import CallableTarget

def tower(width=16):
    def answer(texts):
        return np.stack([np.random.default_rng(len(text)).normal(size=width) for text in texts])
    return CallableTarget(answer, modality="text", returns="embedding", fingerprint="tower")

def mine():
    from dosimeter.models.networks import SmallConvNet
    return SmallConvNet((4,), 7, 8, seed=0)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(TOWER)
    whole = few(60).train
    np.savez(tmp_path / "own.npz", inputs=whole.inputs, labels=whole.labels)
    return tmp_path


def test_a_spec_names_tasks_tower_and_surrogate(folder):
    given = {
        "queries": 60, "held_out": 20, "size": SIZE, "recipe": {"steps": 2}, "heads": {"epochs": 1, "hidden": [8]},
        "tasks": ["own.npz", {"data": "digits", "train_records": 50, "test_records": 50, "name": "d"}],
        "text_tower": {"kind": "torch", "factory": "mine.py:tower"}, "surrogate": "mine.py:mine", "baselines": [],
    }  # fmt: skip
    made = EncoderStealing.from_spec(given, folder)
    assert [t.name for t in made.tasks] == ["own", "d"] and len(made.tasks[1].test) == 50
    assert made.text_tower.modality == "text" and made.surrogate == str(folder / "mine.py:mine")
    described = made.hyperparameters()
    assert described["text_tower"] == "tower" and described["recipe"]["steps"] == 2
    assert described["tasks"][1]["test"] == made.tasks[1].test.digest
    result = made.run(service(), context=context())
    assert {"zero-shot.target.own", "zero-shot.stolen.d"} <= {metric.name for metric in result.metrics}
    assert given["surrogate"] == "mine.py:mine", "the spec itself was changed"


def test_every_problem_of_a_spec_is_said_at_once(folder):
    given = {
        "querys": 5,
        "budgets": [9, 3],
        "tasks": ["absent.npz", {"data": "digits", "train_record": 3}],
        "text_tower": {"kind": "torch", "factory": "mine.py:nobody"},
        "recipe": {"steps": 0, "lambda": 3},
    }
    with pytest.raises(SettingsError) as caught:
        EncoderStealing.from_spec(given, folder)
    places = {".".join(map(str, problem.place)) for problem in caught.value.problems}
    assert {"querys", "budgets", "tasks.0", "tasks.1.train_record", "recipe.steps", "recipe.lambda"} <= places
    assert any(place.startswith("text_tower") for place in places)
    assert not any("pydantic" in str(problem) for problem in caught.value.problems)


# Other results


def test_the_result_survives_a_file(theft):
    result = theft[2]
    assert Result.from_json(result.to_json()) == result and result.artifacts == []


def test_two_towers_are_checked_without_training_a_head():
    whole, rows = task(), np.asarray(task().train.inputs)
    centres = np.stack([encoder_vectors(rows[whole.train.labels == c]).mean(0) for c in range(10)])

    def say(texts):
        return np.stack([centres[int(text.removeprefix("the digit "))] for text in texts])

    tower = CallableTarget(say, modality="text", returns="embedding")
    made = attack(text_tower=tower, template="the digit {}", heads=FAST["heads"])
    result = made.run(service(), context=context())
    target, stolen = (result.metric(f"zero-shot.{who}.digits") for who in ("target", "stolen"))
    assert target.value > 0.8 and stolen.value > 0.8 and stolen.low < stolen.value < stolen.high
    assert "chance is 0.1" in stolen.description


def encoder_vectors(images):
    import torch

    from dosimeter.models.training import images_to_tensor

    with torch.no_grad():
        vectors = encoder()(images_to_tensor(images)).numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_towers_of_other_widths_are_found_before_anything_is_bought():
    tower = CallableTarget(lambda texts: np.ones((len(texts), 3)), modality="text", returns="embedding")
    oracle = Oracle(service())
    with pytest.raises(InputError, match="length 16, the text tower of length 3"):
        fast(text_tower=tower).run(oracle, context=context())
    assert oracle.queries == 25


def words(n, seed):
    generator = np.random.default_rng(seed)
    kinds = (["sun", "rain", "wind", "snow"], ["goal", "team", "ball", "win"])
    labels = np.arange(n) % 2
    texts = [" ".join(generator.choice(kinds[label], 5)) + f" {generator.integers(10**6)}" for label in labels]  # fmt: skip
    return Dataset("topics", "text", texts, labels, ("weather", "sport"))


def test_a_text_encoder_is_attacked_too():
    made = EncoderStealing(
        **{**FAST, "tasks": (Task("topics", words(60, 1), words(60, 2)),), "baselines": ("no-augmentation", "from-scratch"), "size": 16},
    )  # fmt: skip
    target = CallableTarget(CharacterFeatures(0), modality="text", returns="embedding", batch_size=64)
    where = Context(public=words(100, 3).inputs)
    oracle = Oracle(target)
    result = made.run(oracle, context=where)
    assert oracle.queries <= made.estimate(target, where).queries
    assert result.metric("queries.thief").value >= 60 + 10
    assert "probe.dimmed" not in {metric.name for metric in result.metrics}
    with pytest.raises(InputError, match="data.public holds 50 "):
        made.run(target, context=Context(public=words(100, 3).inputs[:50]))


def test_a_folder_of_a_spec_may_be_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    made = EncoderStealing.from_spec({"surrogate": "mine.py:mine", "tasks": ["own.npz"]}, Path())
    assert made.surrogate == "mine.py:mine"
