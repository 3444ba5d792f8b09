"""A seat and the two channels of it, with nobody at the other ends but the test."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import ladder
    from ebbtide.conductor.channel import Channel, ChannelClosed
    from ebbtide.conductor.options import RunOptions
    from ebbtide.conductor.runners import AtRest, Ended, Overdue, Suspending
    from ebbtide.conductor.seat import Seat
from ebbtide.jobs.claims import Claim, Request
from ebbtide.jobs.interrupted import UNBUILT

JOB = "00000000-0000-4000-8000-000000000000"
PID = 17
CLAIM = Claim(JOB, "copy", 1, attempt=1, epoch=5, write=1)
REQUEST = Request(JOB, "enough", "user", 1)
ASKED = 1000.0
TERM, END = {"term": PID, "before": ASKED}, {"end": PID}


class Ends:
    """The other ends of a seat's channels."""

    def __init__(self, grace_seconds: float, kill_after_seconds: float) -> None:
        self.channel, self.runner = Channel.pair()
        self.control, self.keeper = Channel.pair()
        options = RunOptions("sqlite:///x", (), "one", 1, 1.0, 0)
        options = RunOptions(
            **(vars(options) | {"grace_seconds": grace_seconds, "kill_after_seconds": kill_after_seconds})
        )
        self.seat = Seat(PID, self.channel, self.control, options)

    def to_runner(self) -> list[str]:
        return [word for message, _ in self.runner.arrived() for word in message]

    def to_keeper(self) -> list[dict]:
        return [message for message, _ in self.keeper.arrived()]

    def close(self) -> None:
        for end in (self.channel, self.runner, self.control, self.keeper):
            end.close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """A ladder without grace climbs when it is asked."""
    monkeypatch.setattr(ladder, "_LEAST_SECONDS", 0.0)


@pytest.fixture
def ends(request):
    ends = Ends(*getattr(request, "param", (0.0, 0.0)))
    yield ends
    ends.close()


in_no_hurry = pytest.mark.parametrize("ends", [(3600.0, 3600.0)], indirect=True)
killing_late = pytest.mark.parametrize("ends", [(0.0, 3600.0)], indirect=True)


def test_that_a_run_has_heard_of_a_suspend_is_told(ends):
    seat = ends.seat
    seat.run(CLAIM)
    seat.suspend()
    assert ends.to_runner() == ["run", "suspend"]
    assert list(seat.hear()) == []

    ends.runner.send({"suspending": True, "epoch": CLAIM.epoch - 1})  # of its claim before
    ends.runner.send({"suspending": True, "epoch": CLAIM.epoch})

    assert list(seat.hear()) == [Suspending(CLAIM)]


def test_step_by_step_the_keeper_is_told_and_the_death_is_told_as_ordered(ends):
    seat = ends.seat
    seat.run(CLAIM)
    assert seat.cancel(REQUEST)
    assert (ends.to_runner(), seat.climbing) == (["run", "cancel"], True)

    overdue = seat.climb(ASKED)
    assert isinstance(overdue, Overdue)
    assert (overdue.claim, overdue.grace_seconds, ends.to_keeper()) == (CLAIM, 0.0, [TERM])
    assert seat.climb(ASKED) is None
    assert (ends.to_keeper(), seat.climbing, seat.broken) == ([END], False, True)
    assert seat.climb(ASKED) is None
    assert ends.to_keeper() == []

    cause = "it did not stop within 0 s of the cancel and was ended"
    assert list(seat.died("its runner was ended by SIGKILL", 0.25)) == [Ended(CLAIM, None, cause, 0.25)]


def test_a_runner_that_died_by_itself_before_the_keeper_came_to_it_tells_of_what(ends):
    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)
    ends.seat.climb(ASKED), ends.seat.climb(ASKED)

    assert list(ends.seat.died("its runner was ended by SIGSEGV", None)) == [
        Ended(CLAIM, None, "its runner was ended by SIGSEGV")
    ]


def test_a_runner_that_is_ended_for_another_reason_was_not_ended_by_the_ladder(ends):
    ends.seat.run(CLAIM)
    ends.seat.end()

    assert [end.ended_in for end in ends.seat.died("its runner was ended by SIGKILL", 0.25)] == [None]


def test_a_run_at_rest_has_no_ladder(ends):
    ends.seat.run(CLAIM)
    ends.runner.send({"grace": None, "epoch": 5})
    assert list(ends.seat.hear()) == []

    assert ends.seat.cancel(REQUEST)

    assert (ends.seat.climbing, ends.seat.climb(ASKED)) == (False, None)


def test_rest_ends_the_ladder_and_tells_so_if_it_was_overdue(ends):
    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)
    ends.runner.send({"grace": None, "epoch": 5})
    list(ends.seat.hear())
    assert (ends.seat.climb(ASKED), ends.seat.climbing, ends.to_keeper()) == (None, False, [])


@killing_late
def test_rest_after_the_term_is_told(ends):
    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)
    ends.seat.climb(ASKED)
    ends.runner.send({"grace": None, "epoch": 5})
    list(ends.seat.hear())

    assert ends.seat.climb(ASKED) == AtRest(CLAIM)
    assert (ends.seat.climbing, ends.seat.climb(ASKED)) == (False, None)


def test_rest_that_is_heard_after_the_kill_was_ordered_comes_too_late(ends):
    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)
    ends.seat.climb(ASKED), ends.seat.climb(ASKED)
    ends.runner.send({"grace": None, "epoch": 5})
    list(ends.seat.hear())

    (end,) = ends.seat.died("its runner was ended by SIGKILL", 0.1)
    assert end.ended_in == 0.1


def test_a_longer_grace_is_waited_for_and_a_word_of_another_epoch_is_none(ends):
    ends.seat.run(CLAIM)
    ends.runner.send({"grace": 3600.0, "epoch": 5})
    ends.runner.send({"grace": None, "epoch": 4})
    ends.runner.send({"grace": 0.0, "epoch": 6})
    ends.runner.send({"ended": JOB, "edge": "completed", "epoch": 4, "leaving": False})
    assert list(ends.seat.hear()) == []
    ends.seat.cancel(REQUEST)

    assert (ends.seat.climb(ASKED), ends.seat.climbing) == (None, True)


def test_the_next_job_has_the_grace_of_the_options_again(ends):
    ends.seat.run(CLAIM)
    ends.runner.send({"grace": 3600.0, "epoch": 5})
    ends.runner.send({"ended": JOB, "edge": "completed", "epoch": 5, "leaving": False})
    assert list(ends.seat.hear()) == [Ended(CLAIM, "completed")]

    later = Claim(JOB, "copy", 1, attempt=2, epoch=6, write=1)
    ends.seat.run(later)
    ends.seat.cancel(Request(JOB, "", "user", 2))

    assert isinstance(ends.seat.climb(ASKED), Overdue)


@in_no_hurry
def test_a_run_that_was_claimed_with_its_cancel_has_no_ladder(ends):
    claim = Claim(JOB, "copy", 1, attempt=1, epoch=5, write=1, cancel=REQUEST)
    ends.seat.run(claim)

    assert ends.seat.cancel(REQUEST)

    assert not ends.seat.climbing
    assert ends.to_runner() == ["run", "cancel"]


@in_no_hurry
def test_a_request_is_sent_once_however_often_it_is_forwarded(ends):
    """A runner that cannot listen would let the messages pile up until its parent has to wait."""
    ends.seat.run(CLAIM)

    assert all(ends.seat.cancel(REQUEST) for _ in range(1000))

    assert ends.to_runner() == ["run", "cancel"]


def test_the_ladder_begins_although_the_request_cannot_be_sent(ends):
    ends.seat.run(CLAIM)
    ends.runner.close()

    assert not ends.seat.cancel(REQUEST)

    assert isinstance(ends.seat.climb(ASKED), Overdue)
    with pytest.raises(ChannelClosed):
        list(ends.seat.hear())


def test_a_runner_that_ended_its_job_while_it_was_to_be_ended_gets_no_other(ends):
    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)
    ends.seat.climb(ASKED), ends.seat.climb(ASKED)
    ends.runner.send({"ended": JOB, "edge": "cancelled", "epoch": 5, "leaving": False})

    assert list(ends.seat.hear()) == [Ended(CLAIM, "cancelled")]

    assert (ends.seat.claim, ends.seat.idle, ends.to_keeper()) == (None, False, [TERM, END])
    assert list(ends.seat.died("its runner was ended by SIGKILL", 0.1)) == []


@killing_late
def test_a_runner_that_has_had_its_term_is_replaced_before_another_job(ends):
    """The signal may be on its way still: it is not to meet the programs of another job."""
    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)
    ends.seat.climb(ASKED)
    ends.runner.send({"ended": JOB, "edge": "cancelled", "epoch": 5, "leaving": False})

    assert list(ends.seat.hear()) == [Ended(CLAIM, "cancelled")]

    assert (ends.seat.idle, ends.to_keeper()) == (False, [TERM, END])


def undo(task, within):
    return {"undo": task, "within": within, "epoch": 5}


@pytest.mark.parametrize("ends", [(3600.0, 0.0)], indirect=True)
@pytest.mark.parametrize(
    ("what", "named"), [("copy", "the undo of copy"), (UNBUILT, "the making of its flow")]
)
def test_an_undo_that_hangs_has_its_runner_ended_and_is_told_with_its_death(ends, what, named):
    seat = ends.seat
    seat.run(CLAIM)
    ends.runner.send(undo(what, 0.0))
    assert (list(seat.hear()), seat.undoing, seat.climbing) == ([], True, False)

    assert (seat.climb(ASKED), ends.to_keeper()) == (None, [TERM])
    assert (seat.climb(ASKED), ends.to_keeper()) == (None, [END])
    assert (seat.undoing, seat.broken) == (False, True)

    told = "it did not end within 0 s, and its runner was ended"
    assert list(seat.died("its runner was ended by SIGKILL", 0.25)) == [
        Ended(CLAIM, None, f"{named}: {told}", 0.25, {what: told})
    ]


@pytest.mark.parametrize("ends", [(3600.0, 0.0)], indirect=True)
def test_an_undo_that_ends_once_what_it_waits_for_is_ended_costs_no_runner(ends):
    seat = ends.seat
    seat.run(CLAIM)
    ends.runner.send(undo("copy", 0.0))
    assert list(seat.hear()) == []
    assert (seat.climb(ASKED), ends.to_keeper()) == (None, [TERM])

    ends.runner.send(undo("copy", None))
    assert list(seat.hear()) == []

    assert (seat.climb(ASKED), ends.to_keeper(), seat.broken) == (None, [], False)


@pytest.mark.parametrize("ends", [(3600.0, 0.0)], indirect=True)
def test_an_undo_of_the_job_before_says_nothing_of_the_next(ends):
    seat = ends.seat
    seat.run(CLAIM)
    ends.runner.send(undo("copy", 0.0))
    ends.runner.send({"ended": JOB, "epoch": 5, "edge": "released", "leaving": False})
    assert list(seat.hear()) == [Ended(CLAIM, "released")]

    assert seat.run(CLAIM)

    assert (seat.undoing, seat.climb(ASKED), ends.to_keeper()) == (False, None, [])


# A run that has lost its job.

LOST = {"lost": True, "epoch": 5}


def test_a_run_that_has_lost_its_job_and_does_not_stop_is_ended_and_nobody_calls_it_overdue(ends):
    ends.seat.run(CLAIM)
    ends.runner.send(LOST)
    assert (list(ends.seat.hear()), ends.seat.climbing) == ([], True)

    assert ends.seat.climb(ASKED) is None
    assert ends.to_keeper() == [TERM]
    assert ends.seat.climb(ASKED) is None
    assert (ends.to_keeper(), ends.seat.climbing) == ([END], False)

    cause = "it did not stop within 0 s of the loss of its job and was ended"
    assert list(ends.seat.died("its runner was ended by SIGKILL", 0.25)) == [Ended(CLAIM, None, cause, 0.25)]


@killing_late
def test_a_run_that_has_lost_its_job_and_comes_to_rest_is_left_alone(ends):
    ends.seat.run(CLAIM)
    ends.runner.send(LOST)
    list(ends.seat.hear())
    ends.seat.climb(ASKED)
    ends.runner.send({"grace": None, "epoch": 5})
    list(ends.seat.hear())

    assert (ends.seat.climb(ASKED), ends.seat.climbing) == (None, False)


@in_no_hurry
def test_a_run_at_rest_that_has_lost_its_job_has_no_ladder(ends):
    ends.seat.run(CLAIM)
    ends.runner.send({"grace": None, "epoch": 5})
    ends.runner.send(LOST)

    assert (list(ends.seat.hear()), ends.seat.climbing) == ([], False)


@killing_late
def test_the_next_job_of_a_runner_whose_run_had_lost_one_is_told_to_be_overdue(ends):
    ends.seat.run(CLAIM)
    ends.runner.send(LOST)
    ends.runner.send({"ended": JOB, "edge": "lost", "epoch": 5, "leaving": False})
    assert list(ends.seat.hear()) == [Ended(CLAIM, "lost")]

    ends.seat.run(CLAIM)
    ends.seat.cancel(REQUEST)

    assert isinstance(ends.seat.climb(ASKED), Overdue)
