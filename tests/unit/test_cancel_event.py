"""The cancel event: a level that is set once, heard everywhere, and not delivered inside a shield."""

import logging
import math
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ebbtide.tasks import CancelEvent, Cancelled

LONG = 30.0  # far beyond what any test takes: a wait that ends in time was ended, not over


@pytest.fixture
def event() -> CancelEvent:
    return CancelEvent()


@pytest.fixture
def request_it(event: CancelEvent) -> Callable[[], None]:
    """Set the event in another thread, and return when it is set."""

    def request() -> None:
        thread = threading.Thread(target=event.set, args=("wrong folder",))
        thread.start()
        thread.join()

    return request


def test_it_begins_unset(event):
    assert not event.requested
    assert (event.reason, event.source) == ("", "")
    assert not event.shielded
    event.check()


def test_once_set_it_says_why_and_of_what_kind(event):
    assert event.set("wrong folder", "deadline")

    assert event.requested
    assert (event.reason, event.source) == ("wrong folder", "deadline")


def test_the_first_request_counts_and_a_second_one_changes_nothing(event):
    event.set("first", "user")

    again = event.set("second", "deadline")

    assert not again
    assert (event.reason, event.source) == ("first", "user")


def test_of_many_threads_that_set_it_one_was_the_first(event):
    start = threading.Barrier(16)

    def ask(number: int) -> Any:
        start.wait()
        return event.set(str(number))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))

    assert answers.count(True) == 1
    assert event.reason == str(answers.index(True))


def test_it_is_a_level_each_check_raises(event):
    """Code that swallows one Cancelled meets the next checkpoint."""
    event.set("enough", "parent")

    for _ in range(3):
        with pytest.raises(Cancelled) as caught:
            event.check()
        assert (caught.value.reason, caught.value.source) == ("enough", "parent")


# -- waiting


def test_a_wait_ends_when_it_is_set(event):
    waiting = threading.Event()

    def wait() -> Any:
        waiting.set()
        return event.wait(LONG)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait)
        waiting.wait(LONG)
        event.set()

        assert answer.result(LONG)


def test_a_wait_on_a_set_event_is_over_at_once(event):
    event.set()

    assert event.wait(math.inf)


@pytest.mark.parametrize("seconds", [0, -1, 0.001])
def test_a_wait_that_nobody_ends_is_over_and_says_so(event, seconds):
    assert not event.wait(seconds)


@pytest.mark.parametrize("seconds", [math.inf, threading.TIMEOUT_MAX * 10, 10**30])
def test_a_wait_may_be_as_long_as_one_likes(event, request_it, seconds):
    waiting = threading.Event()

    def wait() -> Any:
        waiting.set()
        return event.wait(seconds)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait)
        waiting.wait(LONG)
        request_it()

        assert answer.result(LONG)


# -- shields


def test_in_a_shield_nothing_is_delivered_but_everybody_may_see_the_request(event):
    event.set("enough")

    with event.shield():
        event.check()
        assert event.requested
        assert event.shielded
        assert not event.wait(0.001)

    assert not event.shielded
    with pytest.raises(Cancelled):
        event.check()


def test_shields_nest(event):
    event.set()

    with event.shield():
        with event.shield():
            event.check()
        event.check()

    with pytest.raises(Cancelled):
        event.check()


def test_a_shield_ends_when_its_block_raises(event):
    event.set()

    with pytest.raises(KeyError), event.shield():
        raise KeyError("x")

    assert not event.shielded


def test_a_shield_is_that_of_its_thread_alone(event, request_it):
    request_it()

    with event.shield(), ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(event.check)

        with pytest.raises(Cancelled):
            elsewhere.result(LONG)


def test_a_request_that_comes_inside_a_shield_is_delivered_after_it(event, request_it):
    with event.shield():
        request_it()
        event.check()

    with pytest.raises(Cancelled, match="wrong folder"):
        event.check()


# -- callbacks and children


def test_a_callback_is_called_once_with_the_event(event):
    heard: list[CancelEvent] = []
    event.add_callback(heard.append)

    event.set("one")
    event.set("two")

    assert heard == [event]


def test_a_callback_that_comes_late_is_called_at_once(event):
    heard: list[str] = []
    event.set("gone")

    event.add_callback(lambda each: heard.append(each.reason))

    assert heard == ["gone"]


def test_a_callback_sees_the_request_and_may_use_the_event(event):
    heard: list[object] = []

    def callback(each: CancelEvent) -> None:
        heard.append((each.requested, each.reason, each.set("again")))
        each.add_callback(lambda _: heard.append("nested"))

    event.add_callback(callback)
    event.set("first")

    assert heard == [(True, "first", False), "nested"]


def test_a_callback_that_raises_keeps_the_request_from_nobody(event, caplog):
    heard: list[str] = []
    event.add_callback(lambda _: heard.append("before"))
    event.add_callback(lambda _: 1 / 0)
    event.add_callback(lambda _: heard.append("after"))
    child = event.child()

    with caplog.at_level(logging.ERROR):
        assert event.set("enough")

    assert heard == ["before", "after"]
    assert child.requested
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_added_while_it_is_set_is_called_exactly_once():
    """Either the setter finds it or the adder sees the flag: there is no third case."""
    for _ in range(200):
        event, start, heard = CancelEvent(), threading.Barrier(2), []

        def add(event=event, start=start, heard=heard) -> None:
            start.wait()
            event.add_callback(heard.append)

        thread = threading.Thread(target=add)
        thread.start()
        start.wait()
        event.set()
        thread.join()

        assert heard == [event]


def test_a_child_is_set_with_its_parent_for_the_same_reason(event):
    child = event.child()
    grandchild = child.child()

    event.set("all of it", "deadline")

    for each in (child, grandchild):
        assert (each.requested, each.reason, each.source) == (True, "all of it", "deadline")


def test_a_child_of_a_set_event_is_born_set(event):
    event.set("gone")

    assert event.child().reason == "gone"


def test_a_child_may_be_set_alone_and_keeps_its_reason(event):
    child, sibling = event.child(), event.child()

    child.set("too slow", "deadline")
    assert not event.requested
    assert not sibling.requested

    event.set("all of it", "user")
    assert (child.reason, child.source) == ("too slow", "deadline")


# -- what is raised


def test_cancelled_is_an_exception_so_that_taskflow_reverts():
    assert issubclass(Cancelled, Exception)


@pytest.mark.parametrize(
    ("error", "told"), [(Cancelled(), "cancelled"), (Cancelled("enough"), "cancelled: enough")]
)
def test_cancelled_tells_its_reason(error, told):
    assert str(error) == told
    assert not error.returned
    assert error.result is None


@pytest.mark.parametrize("kept", [None, 0, {"secret": "x"}])
def test_a_kept_result_travels_in_args_and_stays_out_of_what_is_shown(kept):
    error = Cancelled("enough", "user", kept)

    assert error.returned
    assert error.result == kept
    assert error.args == ("enough", "user", kept)
    assert str(error) == "cancelled: enough"


@pytest.mark.parametrize("error", [Cancelled(), Cancelled("a", "deadline"), Cancelled("a", "user", [1])])
def test_cancelled_survives_pickling(error):
    copy = pickle.loads(pickle.dumps(error))

    assert (copy.args, copy.reason, copy.source) == (error.args, error.reason, error.source)
