"""What the attack is given: public inputs, tasks, settings, specs; what does not fit is refused before anything is bought."""

from pathlib import Path

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.attack import EncoderStealing
from dosimeter.core.errors import CapabilityError, InputError
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import SettingsError
from dosimeter.core.target import CallableTarget
from dosimeter.data.images import resize
from support.tiny_thefts import SIZE, context, fast, few, pretender, public, service

# Public inputs


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
    assert any(
        "9 public inputs were left out, since a task tests on them" in limit for limit in result.limits
    )


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
    with pytest.raises(InputError, match=r"needs labelled texts to judge a copy.*'tasks'.*ag-news"):
        EncoderStealing().estimate(texts, where)
    with pytest.raises(InputError, match=r"tasks digits do not hold text inputs"):
        EncoderStealing(tasks=(few(),)).run(texts, context=where)
    with pytest.raises(InputError, match=r"no surrogate 'resnet-20' for text inputs.*there is word-transformer"):  # fmt: skip
        EncoderStealing(surrogate="resnet-20").run(texts, context=where)
    with pytest.raises(InputError, match=r"no surrogate 'word-transformer' for image inputs.*small-conv, "):
        fast(surrogate="word-transformer").run(pretender(asked), context=context())
    with pytest.raises(InputError, match=r"baseline contrastive and prototypes buys views of images; the target takes text"):  # fmt: skip
        EncoderStealing(baselines=("contrastive", "prototypes")).run(texts, context=where)
    with pytest.raises(CapabilityError, match=r"embedding"):
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
    with pytest.raises(ValueError, match=r"text_tower must turn text into embeddings, but 'digits' turns image into emb"):  # fmt: skip
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


def test_towers_of_other_widths_are_found_before_anything_is_bought():
    tower = CallableTarget(lambda texts: np.ones((len(texts), 3)), modality="text", returns="embedding")
    oracle = Oracle(service())
    with pytest.raises(InputError, match=r"length 16, the text tower of length 3"):
        fast(text_tower=tower).run(oracle, context=context())
    assert oracle.queries == 25


def test_a_folder_of_a_spec_may_be_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    made = EncoderStealing.from_spec({"surrogate": "mine.py:mine", "tasks": ["own.npz"]}, Path())
    assert made.surrogate == "mine.py:mine"
