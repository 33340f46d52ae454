import numpy as np
import pytest

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.records import Prompt
from dosimeter.core.target import CallableTarget, RecordedTarget, Target, closing

TEXTS = ["a", "b", "c"]


def lengths(batch):
    return np.array([len(text) for text in batch])


def target(function=lengths, **settings):
    return CallableTarget(function, **{"modality": "text", "returns": "label", **settings})


class TestTarget:
    def test_it_says_what_it_is(self):
        assert repr(target()) == "CallableTarget('lengths', text -> label, grants query)"

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"modality": "images"},
                "expected modality of target 'lengths' to be one of image, text, table, prompt",
            ),
            (
                {"returns": "logits"},
                "expected returns of target 'lengths' to be one of label, scores,.* 'logits'",
            ),
            ({"batch_size": 0}, "target 'lengths' needs a batch_size of at least 1, but got 0"),
        ],
    )
    def test_what_it_cannot_be_is_refused_when_it_is_made(self, settings, message):
        with pytest.raises(InputError, match=message):
            target(**settings)

    def test_a_stream_asks_in_batches_and_says_so_before_each(self):
        events = []

        def remember(batch):
            events.append(list(batch))
            return lengths(batch)

        stream = target(remember, batch_size=2).stream(TEXTS, before_send=events.append)
        found = [(indices.tolist(), answers.tolist()) for indices, answers in stream]
        assert found == [([0, 1], [1, 1]), ([2], [1])]
        assert events == [2, ["a", "b"], 1, ["c"]]

    def test_nothing_is_sent_after_a_refusal(self):
        asked = []

        def refuse(n):
            raise PermissionError

        with pytest.raises(PermissionError):
            list(target(asked.append).stream(TEXTS, before_send=refuse))
        assert asked == []

    def test_an_identity_is_shared_only_on_purpose(self):
        assert target().fingerprint != target().fingerprint
        assert target(fingerprint="same").fingerprint == target(fingerprint="same").fingerprint

    def test_closing_ends_a_stream_that_an_error_left_half_way(self):
        ended = []

        def generate():
            try:
                yield from range(10)
            finally:
                ended.append(True)

        with pytest.raises(ZeroDivisionError) as caught, closing(generate()) as stream:
            next(stream)
            1 / 0  # noqa: B018
        assert ended == [True]
        assert caught.value.__traceback__ is not None
        with closing(iter([])):
            pass

    def test_a_target_must_answer(self):
        with pytest.raises(TypeError, match="abstract"):
            Target(name="t", modality="text", returns="label", fingerprint="f")  # type: ignore[abstract]


class TestRecordedTarget:
    @pytest.mark.parametrize(
        ("inputs", "answers", "modality", "returns", "asked", "expected"),
        [
            (TEXTS, [3, 1, 2], "text", "label", ["c", "a", "c"], [2, 3, 2]),
            (TEXTS, ["x", "y", "z"], "text", "text", ["b"], ["y"]),
            ([[1, 2], [3, 4]], [[0.1, 0.9], [0.8, 0.2]], "table", "scores", [[3.0, 4.0]], [[0.8, 0.2]]),
            ([Prompt("a"), Prompt("b")], ["x", "y"], "prompt", "text", [Prompt("b")], ["y"]),
        ],
    )
    def test_answers_are_found_by_content(self, inputs, answers, modality, returns, asked, expected):
        recorded = RecordedTarget(inputs, answers, modality=modality, returns=returns)
        batch = np.array(asked) if modality == "table" else asked
        assert np.array_equal(recorded.answer(batch), expected)

    def test_one_input_may_be_recorded_twice_with_one_answer(self):
        recorded = RecordedTarget(
            ["a", "b", "a"], [[1.0], [2.0], [1.0]], modality="text", returns="embedding"
        )
        assert recorded.answer(["a"]).tolist() == [[1.0]]

    @pytest.mark.parametrize(
        ("inputs", "answers", "returns", "message"),
        [
            (["a", "b", "a"], [1, 2, 3], "label", r"two different answers to one input, in rows 0 and 2"),
            (["a", "a"], ["x", "y"], "text", r"in rows 0 and 1 \(counted from 0\)\. Keep one of them\."),
            (["a"], [1, 2], "label", "1 inputs and 2 answers; they must be as many"),
            ([], [], "label", "0 inputs and 0 answers"),
            (["a"], [[np.nan]], "scores", "1 values that are NaN or infinite"),
            (["a"], ["x"], "label", "should return label, but returned a list of 1"),
            ("abc", [1, 2, 3], "label", "expected recorded inputs to be a list of str"),
        ],
    )
    def test_a_recording_that_cannot_be_is_refused(self, inputs, answers, returns, message):
        with pytest.raises(InputError, match=message):
            RecordedTarget(inputs, answers, modality="text", returns=returns)

    def test_what_was_not_recorded_is_counted(self):
        recorded = RecordedTarget(TEXTS, [1, 2, 3], modality="text", returns="label", name="logs")
        with pytest.raises(TargetError, match=r"'logs' has no answer for 2 of 3 inputs\. Export the inputs"):
            recorded.answer(["a", "x", "y"])

    def test_identity_is_the_content(self):
        def fingerprint(answers, inputs=TEXTS, **more):
            return RecordedTarget(inputs, answers, modality="text", returns="label", **more).fingerprint

        assert fingerprint([1, 2, 3]) == fingerprint([1, 2, 3], name="another name")
        assert fingerprint([1, 2, 3]) != fingerprint([1, 2, 4])
        assert fingerprint([1, 2, 3]) != fingerprint([1, 2, 3], inputs=["a", "b", "d"])

    def test_identity_reads_images_of_prompts_whole(self):
        def fingerprint(pixel):
            image = np.zeros((64, 64, 3), np.uint8)
            image[31, 31] = pixel
            return RecordedTarget(
                [Prompt("?", (image,))], ["x"], modality="prompt", returns="text"
            ).fingerprint

        assert fingerprint(0) != fingerprint(1)
