import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.records import (
    Prompt,
    as_uint8_images,
    check_answers,
    check_batch,
    concatenate,
    content_hash,
    describe,
    take,
)

IMAGE = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
ANY_TEXT = st.text(st.characters())
ARRAYS = hnp.arrays(
    dtype=st.sampled_from(["u1", "i8", "f4", "f8", "?", "c8", "U3", "S2", "M8[s]"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
VALUES = st.recursive(
    st.one_of(ANY_TEXT, ARRAYS, st.binary(max_size=6), st.integers(), st.floats(), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def sketch(value):
    """``value`` in a form that compares equal exactly where the hash should."""
    if isinstance(value, np.ndarray):
        return "array", value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Prompt):
        return "prompt", value.text, tuple(map(sketch, value.images))
    if isinstance(value, (list, tuple)):
        return "list", tuple(map(sketch, value))
    if isinstance(value, dict):
        return "dict", tuple(sorted((key, sketch(item)) for key, item in value.items()))
    return type(value).__name__, repr(value)


class TestContentHash:
    @given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
    def test_is_equal_exactly_where_the_content_is(self, one, other):
        assert (content_hash(*one) == content_hash(*other)) is (sketch(one) == sketch(other))

    @given(ANY_TEXT, st.text(st.characters(), min_size=1), ANY_TEXT)
    def test_moving_a_border_between_texts_changes_it(self, one, other, third):
        joined = {content_hash(one, other, third), content_hash(one + other, third)}
        joined |= {content_hash(one, other + third), content_hash(one + other + third)}
        joined |= {content_hash([one, other], third), content_hash([one], other, third)}
        assert len(joined) == 6

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ((1, 22), (12, 2)),
            (([1, 22],), ([12, 2],)),
            (({"a": 1, "b": 2},), (["a", 1, "b", 2],)),
            (([1, [2, 3]],), ([1, 2, 3],)),
            (([], 1), ([1],)),
            ((1,), ("1",)),
            ((True,), (1,)),
            ((b"a",), ("a",)),
            ((None,), ()),
        ],
    )
    def test_sees_borders_and_kinds(self, one, other):
        assert content_hash(*one) != content_hash(*other)

    @pytest.mark.parametrize(
        "other",
        [
            IMAGE.astype(np.int8),
            IMAGE.reshape(2, 5, 4, 3),
            IMAGE[::-1],
            IMAGE[0],
            IMAGE[:, :, :, ::-1],
            IMAGE + np.uint8(1),
            IMAGE.tolist(),
            IMAGE.tobytes(),
            Prompt("", tuple(IMAGE)),
        ],
    )
    def test_sees_type_shape_and_order(self, other):
        assert content_hash(other) != content_hash(IMAGE)

    def test_does_not_see_how_an_array_lies_in_memory(self):
        assert content_hash(np.asfortranarray(IMAGE)) == content_hash(IMAGE)
        assert content_hash(IMAGE.repeat(2, axis=0)[::2]) == content_hash(IMAGE)

    def test_a_number_is_no_array_of_one_number(self):
        assert content_hash(np.array(1.0)) != content_hash(np.array([1.0]))

    def test_numpy_numbers_count_as_numbers_and_tuples_as_lists(self):
        assert content_hash(np.int64(3), np.float64(0.5), (1, 2)) == content_hash(3, 0.5, [1, 2])

    def test_large_arrays_inside_lists_are_read_to_the_last_byte(self):
        image = np.zeros((64, 64, 3), np.uint8)
        changed = image.copy()
        changed[31, 31, 1] = 1
        assert content_hash([image]) != content_hash([changed])
        assert content_hash([Prompt("?", (image,))]) != content_hash([Prompt("?", (changed,))])
        assert content_hash({"x": image}) != content_hash({"x": changed})

    def test_prompts_differ_in_text_and_in_every_image(self):
        prompts = [Prompt("a"), Prompt("b"), Prompt("a", (IMAGE[0],)), Prompt("a", (IMAGE[0], IMAGE[0]))]
        assert len({content_hash(prompt) for prompt in prompts}) == 4

    def test_dictionaries_have_no_order(self):
        assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})

    @pytest.mark.parametrize("value", [object(), np.array([None]), {1, 2}, [print]])
    def test_what_has_no_content_is_refused(self, value):
        with pytest.raises(TypeError):
            content_hash(value)

    def test_stays_what_it_was_between_versions(self):
        assert content_hash("a", np.zeros((2, 3), np.uint8)) == "7614b0e60d8820ecd2b21a8cf266da55"


class TestImages:
    def test_uint8_passes_and_floats_are_rounded(self):
        assert np.array_equal(as_uint8_images(IMAGE), IMAGE)
        assert np.array_equal(as_uint8_images(IMAGE / 255), IMAGE)
        assert np.array_equal(as_uint8_images((IMAGE / 255).astype(np.float32)), IMAGE)
        assert as_uint8_images(np.array([[[[0.4999 / 255, 0.5001 / 255, 1.0]]]])).tolist() == [
            [[[0, 1, 255]]]
        ]

    def test_the_callers_array_is_not_handed_on(self):
        mine = IMAGE.copy()
        as_uint8_images(mine)[:] = 0
        assert np.array_equal(mine, IMAGE)

    @pytest.mark.parametrize("grey", [IMAGE[..., 0], IMAGE[..., :1], IMAGE[:, None, :, :, 0]])
    def test_one_channel_is_repeated(self, grey):
        assert np.array_equal(as_uint8_images(grey), IMAGE[..., :1].repeat(3, axis=-1))

    def test_channels_may_come_first(self):
        assert np.array_equal(as_uint8_images(np.moveaxis(IMAGE, -1, 1)), IMAGE)

    @pytest.mark.parametrize("shape", [(0, 4, 5, 3), (0, 4, 5)])
    def test_no_images_are_images(self, shape):
        assert as_uint8_images(np.empty(shape)).shape == (0, 4, 5, 3)

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (
                IMAGE.astype(float),
                r"expected float images in 0\.\.1, but got values in 0\.\.119\. Divide by 255",
            ),
            (IMAGE / 255 - 0.1, r"in 0\.\.1, but got values in -0\.1\.\."),
            (IMAGE.astype(int) + 200, r"integer images in 0\.\.255, but got values in 200\.\.319"),
            (np.full((1, 2, 2, 3), np.nan), "finite, but they contain NaN or infinity"),
            (np.full((1, 2, 2, 3), np.inf), "finite, but they contain NaN or infinity"),
            (IMAGE[..., :2], r"1 or 3 channels, but got shape \(2, 4, 5, 2\)"),
            (IMAGE[0], r"got one of shape \(4, 5, 3\)\. Add the batch axis: images\[None\]"),
            (IMAGE[0, 0, 0], r"shape \(n, height, width, 3\), but got an array of shape \(3,\)"),
            (IMAGE > 3, "of shape .* and type bool"),
            ("picture.png", r"but got str 'picture\.png'"),
            ([IMAGE[0], IMAGE[0, :2]], r"one array of equal records, but got a list of 2 \(ndarray\)"),
        ],
    )
    def test_what_is_no_batch_of_images_is_refused(self, images, message):
        with pytest.raises(InputError, match=message):
            check_batch("image", images, what="images")


class TestOtherInputs:
    @pytest.mark.parametrize("rows", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.float32)])
    def test_tables_become_float64_so_that_equal_rows_are_equal_bytes(self, rows):
        table = check_batch("table", rows)
        assert table.dtype == np.float64
        assert content_hash(table) == content_hash(np.array([[1.0, 2.0], [3.0, 4.0]]))

    @pytest.mark.parametrize(
        ("modality", "batch", "message"),
        [
            ("table", [[1, 2], [3]], "one array of equal records, but got a list of 2"),
            ("table", [["a"]], "numeric .n, features. table, but got a list of 1"),
            ("table", np.zeros(3), r"but got an array of shape \(3,\) and type float64"),
            ("table", [[np.nan, np.inf, 1]], "2 values are NaN or infinite"),
            ("text", "one text", r"a list of str, but got str 'one text'"),
            ("text", [1, "a"], r"a list of str, but got a list of 2 \(int, str\)"),
            ("text", None, "a list of str, but got NoneType"),
            ("prompt", ["a"], r"a list of Prompt, but got a list of 1 \(str\)"),
            ("prompt", [Prompt("a", (IMAGE[0].astype(float),))], r"float an image of thing in 0\.\.1"),
        ],
    )
    def test_what_is_no_batch_is_refused(self, modality, batch, message):
        with pytest.raises(InputError, match=message):
            check_batch(modality, batch, what="thing")

    def test_texts_pass_whatever_they_say(self):
        texts = ["", "\ud800", "a\x00b"]
        assert check_batch("text", texts) == texts
        assert check_batch("text", np.array(["a", "bc"])) == ["a", "bc"]
        assert check_batch("text", []) == []

    def test_images_of_prompts_become_uint8(self):
        (prompt,) = check_batch("prompt", [Prompt("a", (IMAGE[0] / 255, IMAGE[1]))])
        assert [image.dtype for image in prompt.images] == [np.uint8, np.uint8]
        assert content_hash(prompt) == content_hash(Prompt("a", tuple(IMAGE)))


class TestAnswers:
    @pytest.mark.parametrize(
        ("returns", "answers", "dtype"),
        [
            ("label", [1, 2], np.int64),
            ("label", [True, False], np.int64),
            ("label", np.array([1.0, 2.0], np.float32), np.int64),
            ("scores", [[1, 0], [0, 1]], np.float64),
            ("embedding", np.zeros((2, 3), np.float16), np.float16),
            ("mask", np.zeros((2, 4, 5)), np.float64),
            ("image", np.zeros((2, 4, 5, 3)), np.uint8),
            ("image", np.zeros((2, 7, 4, 5, 3), np.uint8), np.uint8),
        ],
    )
    def test_valid_answers_become_canonical(self, returns, answers, dtype):
        checked = check_answers("svc", returns, answers, 2, None)
        assert checked.dtype == dtype
        assert checked.shape == np.shape(answers)
        assert np.array_equal(checked, answers)

    def test_texts_become_a_list(self):
        assert check_answers("svc", "text", ("a", "b"), 2, None) == ["a", "b"]

    @pytest.mark.parametrize(
        ("returns", "answers", "message"),
        [
            ("text", "ab", "should return a list of texts, but returned str 'ab'"),
            ("text", ["a"], "returned 1 texts for 2 inputs"),
            ("text", ["a", 1], r"should return a list of texts, but returned a list of 2 \(int, str\)"),
            ("scores", "<html>login</html>", "should return scores, but returned str '<html>login</html>'"),
            ("scores", None, "should return scores, but returned NoneType"),
            ("scores", {"scores": []}, "should return scores, but returned dict"),
            ("scores", [[1, 2], [3]], r"a list of 2 \(list\), which is no array of equal answers"),
            ("scores", [[0.5, np.nan], [np.inf, 1]], "2 values that are NaN or infinite of 4"),
            ("scores", [0.5, 0.5], r"scores of shape \(2, d\), but returned shape \(2,\)"),
            ("scores", np.empty((2, 0)), r"scores of shape \(2, d\), but returned shape \(2, 0\)"),
            ("embedding", np.zeros((3, 4)), r"an array of shape \(3, 4\) for 2 inputs"),
            ("embedding", 0.5, r"an array of shape \(\) for 2 inputs"),
            ("embedding", np.zeros((2, 5)), "embedding of length 5 after length 4 before"),
            ("label", [0.5, 1.0], "one whole-number label per input"),
            ("label", [np.inf, 1.0], "one whole-number label per input"),
            ("label", [np.nan, 1.0], "one whole-number label per input"),
            ("label", [1e300, 1.0], "one whole-number label per input"),
            ("label", [[1], [2]], r"one whole-number label per input, .*shape \(2, 1\)"),
            ("label", ["cat", "dog"], "should return label, but returned a list of 2"),
            ("image", np.zeros((2, 4, 5, 1)), "should return images of shape"),
            ("image", np.full((2, 4, 5, 3), 7.0), r"answers of target 'svc' in 0\.\.1"),
        ],
    )
    def test_what_cannot_be_an_answer_is_refused(self, returns, answers, message):
        with pytest.raises(TargetError, match=message):
            check_answers("svc", returns, answers, 2, 4)


class TestTaking:
    def test_records_come_in_the_order_asked_for(self):
        assert np.array_equal(take(IMAGE, [1, 0, 1]), IMAGE[[1, 0, 1]])
        assert take(["a", "b", "c"], np.array([2, 0])) == ["c", "a"]
        assert take(IMAGE, []).shape == (0, 4, 5, 3)

    def test_parts_join_to_the_whole(self):
        assert np.array_equal(concatenate([IMAGE[:1], IMAGE[1:]]), IMAGE)
        assert concatenate([["a"], [], ["b", "c"]]) == ["a", "b", "c"]


def test_descriptions_are_short():
    assert describe(np.zeros((2, 3))) == "an array of shape (2, 3) and type float64"
    assert describe([]) == "a list of 0 (nothing)"
    assert len(describe("x" * 1000)) < 80
