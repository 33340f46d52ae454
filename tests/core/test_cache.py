import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dosimeter.core.cache import AnswerCache, pack, unpack
from dosimeter.core.errors import InputError

ARRAYS = hnp.arrays(
    dtype=st.one_of(
        hnp.scalar_dtypes(),
        hnp.unicode_string_dtypes(max_len=4),
        hnp.byte_string_dtypes(max_len=4),
    ),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
)


@given(st.text(st.characters()))
def test_texts_come_back_as_they_were(text):
    assert unpack(pack(text)) == text


@given(ARRAYS)
def test_arrays_come_back_with_type_shape_and_bytes(array):
    again = unpack(pack(array))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("value", [np.int64(3), np.float32(0.5)])
def test_one_number_comes_back_as_an_array_without_axes(value):
    again = unpack(pack(value))
    assert (again.shape, again.dtype, again[()]) == ((), value.dtype, value)


def test_transposed_arrays_come_back_in_their_own_order():
    array = np.arange(6).reshape(2, 3).T
    assert np.array_equal(unpack(pack(array)), array)


@pytest.mark.parametrize("value", [np.array([None, 1]), {"a": 1}, None])
def test_objects_are_refused_when_stored_not_when_read(value):
    with pytest.raises(TypeError, match="must be a string or a numeric array"):
        pack(value)


class TestAnswerCache:
    def test_only_what_is_there_is_found(self, tmp_path):
        cache = AnswerCache(tmp_path / "deep" / "answers.sqlite")
        cache.put(["a", "b"], np.array([[1.0, 2.0], [3.0, 4.0]]))
        found = cache.get(["b", "x", "b"])
        assert list(found) == ["b"]
        assert np.array_equal(found["b"], [3.0, 4.0])
        assert cache.get([]) == {}

    def test_answers_outlive_the_process(self, tmp_path):
        first = AnswerCache(tmp_path / "answers.sqlite")
        first.put(["a"], ["text \ud800"])
        first.close()
        first.close()
        assert AnswerCache(tmp_path / "answers.sqlite").get(["a"]) == {"a": "text \ud800"}

    def test_the_first_answer_stays(self):
        cache = AnswerCache()
        cache.put(["a"], ["first"])
        cache.put(["a", "b"], ["second", "other"])
        assert cache.get(["a", "b"]) == {"a": "first", "b": "other"}

    @given(st.dictionaries(st.text("abc", max_size=6), st.integers(), max_size=30))
    @settings(max_examples=20)
    def test_it_is_a_dictionary(self, answers):
        cache = AnswerCache()
        cache.put(list(answers), [np.array(str(value)) for value in answers.values()])
        assert {key: int(str(value)) for key, value in cache.get(list(answers)).items()} == answers

    def test_more_keys_than_one_query_may_name(self):
        cache = AnswerCache()
        keys = [str(number) for number in range(1700)]
        cache.put(keys, np.arange(1700))
        assert [int(value) for value in cache.get(keys).values()].count(0) == 1
        assert {key: int(value) for key, value in cache.get(keys).items()} == {key: int(key) for key in keys}

    @pytest.mark.parametrize("answers", [["only one"], ["one", None]])
    def test_answers_that_cannot_be_stored_leave_nothing_and_no_lock(self, tmp_path, answers):
        path = tmp_path / "answers.sqlite"
        cache = AnswerCache(path)
        with pytest.raises((ValueError, TypeError)):
            cache.put(["a", "b"], answers)
        AnswerCache(path).put(["c"], ["another process writes at once"])
        cache.put(["d"], ["and so does this one"])
        assert sorted(cache.get(["a", "b", "c", "d"])) == ["c", "d"]

    def test_a_file_that_is_no_database_is_refused(self, tmp_path):
        (tmp_path / "answers.sqlite").write_bytes(b"not a database" * 100)
        with pytest.raises(
            InputError, match=r"cannot use the database .*answers\.sqlite: file is not a database"
        ):
            AnswerCache(tmp_path / "answers.sqlite")
