"""The stop ladder as arithmetic: which step is due when. No process, and a clock that a test sets."""

import math
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.ladder import Ladder, Rung


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ladder(clock) -> Ladder:
    return Ladder(kill_after_seconds=5.0, clock=clock)


def climbed(ladder: Ladder, clock: Clock, *steps: tuple[float, float]) -> list[Rung | None]:
    """What each step comes to: (seconds since the begin, the grace that holds then)."""
    began = clock.now
    reached = []
    for seconds, grace in steps:
        clock.now = began + seconds
        reached.append(ladder.climb(grace))
    return reached


def test_it_waits_for_the_grace_then_is_overdue_then_ends_the_run_and_then_nothing(ladder, clock):
    reached = climbed(
        ladder, clock, (0, 10), (9.9, 10), (10, 10), (10, 10), (14.9, 10), (15, 10), (15, 10), (99, 10)
    )

    assert reached == [None, None, Rung.OVERDUE, None, None, Rung.ENDED, None, None]
    assert ladder.rung is Rung.ENDED


def test_who_looks_late_takes_one_step_at_a_time_and_leaves_programs_their_seconds(ladder, clock):
    reached = climbed(ladder, clock, (500, 10), (500, 10), (504.9, 10), (505, 10))

    assert reached == [Rung.OVERDUE, None, None, Rung.ENDED]


def test_without_time_to_end_it_is_ended_in_the_next_step(clock):
    ladder = Ladder(kill_after_seconds=0.0, clock=clock)

    assert climbed(ladder, clock, (1, 0), (1, 0)) == [Rung.OVERDUE, Rung.ENDED]


def test_a_grace_that_grows_or_shrinks_counts_from_the_begin(ladder, clock):
    assert climbed(ladder, clock, (9, 60), (11, 60), (12, 20), (12, 10)) == [None, None, None, Rung.OVERDUE]
    assert ladder.grace_seconds == 10


def test_what_was_exceeded_stays_what_it_was(ladder, clock):
    climbed(ladder, clock, (10, 10), (11, 60), (15, 60))

    assert ladder.rung is Rung.ENDED
    assert ladder.cause == "it did not stop within 10 s of the cancel and was ended"


@pytest.mark.parametrize(("grace", "written"), [(0, "0"), (0.25, "0.25"), (90.0, "90")])
def test_the_cause_names_the_grace_as_people_write_it(ladder, clock, grace, written):
    climbed(ladder, clock, (100, grace))

    assert ladder.cause == f"it did not stop within {written} s of the cancel and was ended"


def test_an_infinite_grace_never_ends(ladder, clock):
    assert climbed(ladder, clock, (0, math.inf), (1e12, math.inf)) == [None, None]
    assert math.isnan(ladder.grace_seconds)


def test_where_nothing_can_be_killed_it_stays_overdue(clock):
    ladder = Ladder(kill_after_seconds=math.inf, clock=clock)

    assert climbed(ladder, clock, (10, 10), (1e12, 10)) == [Rung.OVERDUE, None]
    assert ladder.rung is Rung.OVERDUE


def test_without_any_grace_there_is_time_for_the_word_of_the_cancel_and_its_answer(ladder, clock):
    reached = climbed(ladder, clock, (0, 0), (0.04, 0), (0.06, 0))

    assert reached == [None, None, Rung.OVERDUE]
