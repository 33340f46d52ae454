from contextvars import copy_context

import pytest

from dosimeter.core.progress import ProgressEvent, emit, listening, track


def test_a_task_reports_start_steps_and_end():
    heard = []
    with listening(heard.append), track("training", 10) as bar:
        bar.advance()
        bar.advance(4, left="3 queries left")
    assert heard == [
        ProgressEvent("training", 0, 10),
        ProgressEvent("training", 1, 10),
        ProgressEvent("training", 5, 10, left="3 queries left"),
        ProgressEvent("training", 5, 10, finished=True),
    ]


def test_a_failed_task_is_reported_as_ended():
    heard = []
    with pytest.raises(ZeroDivisionError), listening(heard.append), track("training"):
        1 / 0  # noqa: B018
    assert heard[-1] == ProgressEvent("training", 0, None, finished=True)


def test_nobody_has_to_listen():
    with track("training", 2) as bar:
        bar.advance()
    emit(ProgressEvent("another process", 1, 2))


def test_listeners_nest_and_end_with_their_block():
    outer, inner = [], []
    with listening(outer.append):
        with listening(inner.append):
            emit(ProgressEvent("inside", 0, None))
        emit(ProgressEvent("outside", 0, None))
    emit(ProgressEvent("after", 0, None))
    assert [event.task for event in inner] == ["inside"]
    assert [event.task for event in outer] == ["outside"]


def test_a_listener_is_heard_only_in_its_own_context():
    heard = []
    elsewhere = copy_context()
    with listening(heard.append):
        elsewhere.run(emit, ProgressEvent("elsewhere", 0, None))
    assert heard == []
