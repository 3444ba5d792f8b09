"""What a run tells of its bodies beforehand: the largest grace, and once, that nothing executes any more."""

import itertools
import math
import threading
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.bodies import Bodies
from ebbtide.tasks import CancelEvent

DEFAULT = 10.0


@pytest.fixture
def event() -> CancelEvent:
    return CancelEvent()


@pytest.fixture
def told() -> list[float | None]:
    return []


@pytest.fixture
def bodies(event, told) -> Bodies:
    return Bodies(event, DEFAULT, told.append)


def test_of_ordinary_tasks_nothing_is_told(bodies, told):
    with bodies.executing("a"), bodies.executing("b"):
        pass
    with bodies.executing("c", DEFAULT):
        pass

    assert (told, bodies.told) == ([], DEFAULT)


@pytest.mark.parametrize("grace", [2.0, 60.0, 0.0])
def test_another_grace_is_told_before_the_body_begins(bodies, told, grace):
    with bodies.executing("a", grace):
        assert told == [grace]


def test_the_next_ordinary_task_is_told_too_and_not_the_pause_before_it(bodies, told):
    with bodies.executing("a", 60.0):
        pass
    assert told == [60.0]
    with bodies.executing("b", 60.0):
        pass
    assert told == [60.0]

    with bodies.executing("c"):
        assert told == [60.0, DEFAULT]


def test_of_bodies_side_by_side_the_largest_counts_for_as_long_as_it_is_there(bodies, told):
    with bodies.executing("a", 2.0):
        with bodies.executing("b", 60.0), bodies.executing("c"):
            assert told == [2.0, 60.0]
        assert told == [2.0, 60.0, 2.0]


def test_a_cancel_with_no_body_at_work_is_at_rest_at_once(bodies, event, told):
    with bodies.executing("a"):
        pass

    event.set("enough")

    assert (told, bodies.told) == ([None], None)


def test_a_cancel_comes_to_rest_with_the_end_of_the_last_body(bodies, event, told):
    with bodies.executing("a"):
        with bodies.executing("b"):
            event.set("enough")
            assert told == []
        assert told == []
    assert told == [None]


def test_rest_is_told_once_whoever_comes_and_turns_back_later(bodies, event, told):
    event.set("enough")

    with bodies.executing("a", 60.0):
        pass
    with bodies.undoing("b", 600.0):
        pass

    assert told == [None]


def test_a_body_that_raises_has_ended(bodies, event, told):
    with pytest.raises(SystemExit), bodies.executing("a"):
        event.set("enough")
        raise SystemExit

    assert told == [None]


def test_a_run_that_begins_cancelled_is_at_rest_from_the_start(event, told):
    event.set("enough")

    assert Bodies(event, DEFAULT, told.append).told is None
    assert told == [None]


def test_of_undos_alone_nothing_is_told_and_a_cancel_that_finds_only_them_is_at_rest(bodies, event, told):
    with bodies.undoing("a", 600.0), bodies.undoing("b", 600.0):
        assert told == []
        event.set("enough")
        assert told == [None]


def test_beside_an_undo_no_body_is_out_of_time(bodies, told):
    """Whatever ends the body would end the undo with it."""
    with bodies.executing("a"):
        with bodies.undoing("b", 600.0):
            assert told == [math.inf]
            with bodies.undoing("b", 600.0):
                pass
            assert told == [math.inf]
        assert told == [math.inf, DEFAULT]


def test_many_threads_tell_in_the_order_in_which_it_was_so(bodies, event, told):
    """The last word is the true one, and nothing is told twice in a row."""

    def work(number: int) -> None:
        for turn in range(200):
            with bodies.executing(f"{number}-{turn}", float(turn % 3)):
                if (number, turn) == (0, 150):
                    event.set("enough")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(one != other for one, other in itertools.pairwise(told))
    assert told.count(None) == 1
    assert told[-1] is None


@pytest.mark.parametrize("requested", ["before", "meanwhile", "never"])
def test_what_hangs_before_any_body_is_told_from_the_request_on(event, told, requested):
    undos: list[tuple[str, float | None]] = []
    bodies = Bodies(event, DEFAULT, told.append, lambda name, seconds: undos.append((name, seconds)))
    if requested == "before":
        event.set()
    with bodies.making("the flow", 5.0):
        if requested == "meanwhile":
            event.set()
        assert undos == ([] if requested == "never" else [("the flow", 5.0)])

    assert undos[1:] == ([] if requested == "never" else [("the flow", None)])
