from dosimeter.core.repetition import current_repetition, repetition


def test_the_number_holds_inside_and_is_restored():
    assert current_repetition() is None
    with repetition(2):
        assert current_repetition() == 2
        with repetition(0):
            assert current_repetition() == 0
        assert current_repetition() == 2
    assert current_repetition() is None
