"""`ebbtide.testing.TaskRun`: a task alone meets what it meets in a job, at moments of a test's choice."""

import threading

import pytest

import ebbtide.testing
from ebbtide.tasks import INTERRUPTED, CancelableTask, Cancelled, JobInfo, PayloadError, task
from ebbtide.tasks.run import How
from ebbtide.testing import (
    CueMissed,
    Moment,
    Place,
    TaskRun,
    at_begin,
    at_checkpoint,
    at_data,
    at_message,
    at_return,
    run_task,
)


class World:
    """What the tasks of these tests change."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.closed = 0
        self.undone: list[tuple[object, object, bool]] = []


class Fetch(CancelableTask):
    """Fetch lines one by one. Undo: forget them."""

    def __init__(self, world: World, **options) -> None:
        super().__init__(name="fetch", **options)
        self.world = world

    def execute(self, lines):
        try:
            for line in range(self.saved or 0, lines):
                self.world.lines.append(line)
                self.report(line / lines, f"line {line}")
                self.checkpoint(line + 1)
        finally:
            self.world.closed += 1
        return (lines, "lines")

    def revert(self, result):
        self.world.undone.append((result, self.saved, self.interrupted))
        self.world.lines.clear()


@pytest.fixture
def world() -> World:
    return World()


def fetch(world: World, lines: int = 5, **cues) -> TaskRun:
    return run_task(Fetch(world), {"lines": lines}, **cues)


# -- the public names


def test_the_public_names_are_these():
    assert ebbtide.testing.__all__ == [
        "run_task",
        "TaskRun",
        "at_begin",
        "at_checkpoint",
        "at_data",
        "at_message",
        "at_return",
        "Cue",
        "Moment",
        "Place",
        "CueMissed",
        "FakeClock",
        "WaitsForEver",
        "wait_until",
        "history",
        "WaitedInVain",
    ]
    assert all(hasattr(ebbtide.testing, name) for name in ebbtide.testing.__all__)


# -- without a cue


def test_a_task_runs_to_its_end_and_tells_what_it_returned(world):
    run = fetch(world, lines=2)

    assert (run.how, run.result, run.error, run.cancelled) == (How.RETURNED, [2, "lines"], None, False)
    assert (run.saved, run.checkpoints) == (2, 2)
    assert run.reports == [(0.0, "line 0"), (0.5, "line 1")]


def test_its_undo_is_given_the_true_result_and_what_was_saved(world):
    run = fetch(world, lines=2)

    assert run.revert()

    assert world.undone == [([2, "lines"], 2, False)]
    assert run.undone


def test_what_it_raises_is_kept_and_it_is_undone_as_interrupted():
    undone = []

    @task
    def fail(path):
        raise ValueError(f"no such file: {path}")

    @fail.undo
    def note(result, path):
        undone.append((result, path))

    run = run_task(fail(), {"path": "x"})

    assert run.how is How.RAISED
    assert not run.cancelled
    with pytest.raises(ValueError, match="no such file: x"):
        _ = run.result
    assert run.revert()
    assert undone == [(INTERRUPTED, "x")]


def test_a_result_that_is_no_json_is_refused_as_in_a_job():
    @task
    def bad():
        return {1}

    run = run_task(bad())

    assert isinstance(run.error, PayloadError)


def test_its_undo_is_told_which_failures_turned_the_flow_round():
    seen = {}

    @task
    def fail():
        raise ValueError("broken")

    @fail.undo
    def note(flow_failures):
        seen.update(flow_failures)

    run_task(fail()).revert()

    assert seen["fail"].exception_str == "broken"


def test_what_an_undo_raises_goes_on_and_it_can_be_tried_again():
    tries = []

    @task
    def make():
        return "made"

    @make.undo
    def remove(result):
        tries.append(result)
        if len(tries) == 1:
            raise OSError("busy")

    run = run_task(make())
    with pytest.raises(OSError, match="busy"):
        run.revert()

    assert not run.undone
    assert run.revert()
    assert run.undone
    assert tries == ["made", "made"]
    assert not run.revert()


def test_after_its_undo_it_runs_once_more_as_a_round_of_its_own(world):
    run = fetch(world, lines=2)
    run.revert()

    run.execute()

    assert (run.result, run.undone) == ([2, "lines"], False)
    assert world.lines == [0, 1]


def test_what_no_conductor_begins_does_not_begin_here(world):
    run = fetch(world)

    with pytest.raises(RuntimeError, match="does not begin again: it was returned, and is not undone"):
        run.execute()


def test_a_body_keeps_nothing_of_a_list_that_it_changes():
    given: list[list[int]] = []

    @task
    def change(numbers):
        numbers.append(3)

    @change.undo
    def note(numbers):
        given.append(numbers)

    numbers = [1, 2]
    run_task(change(), {"numbers": numbers}).revert()

    assert given == [numbers] == [[1, 2]]


# -- arguments


class Renamed(CancelableTask):
    """Takes one argument by another name, is given a second by its constructor, and has more for its undo."""

    def __init__(self) -> None:
        super().__init__(name="renamed", rebind={"path": "source"}, inject={"mode": "fast"})
        self.seen: list[tuple[str, str]] = []

    def execute(self, path, mode, depth=1):
        return [path, mode, depth]

    def revert(self, path, keep):
        self.seen.append((path, keep))


def test_arguments_are_those_of_execute_by_its_own_names_and_what_else_its_undo_takes():
    run = run_task(Renamed(), {"path": "/a", "keep": "yes"})

    assert run.result == ["/a", "fast", 1]
    run.revert()
    assert run.task.seen == [("/a", "yes")]


def test_an_argument_that_it_does_not_take_is_refused():
    with pytest.raises(TypeError, match=r"^task renamed takes no argument 'deep'; it takes .*path"):
        TaskRun(Renamed(), {"deep": 3})


def test_an_argument_that_is_missing_is_told_before_anything_begins():
    run = TaskRun(Renamed(), {"path": "/a"})

    run.execute()
    with pytest.raises(TypeError, match="task renamed: revert is missing a required argument: 'keep'"):
        run.revert()
    with pytest.raises(TypeError, match="task renamed: execute is missing a required argument: 'path'"):
        TaskRun(Renamed()).execute()


def test_it_sees_the_job_that_it_is_given():
    @task
    def who(self):
        return [self.job.id, self.job.attempt]

    assert run_task(who(), job=JobInfo("7f3a", "copy", attempt=2)).result == ["7f3a", 2]


# -- cancelled on cue


def test_a_cancel_before_it_begins_runs_nothing_and_undoes_nothing(world):
    run = fetch(world, cancel=at_begin())

    assert (run.how, run.cancelled) == (None, True)
    assert isinstance(run.error, Cancelled)
    assert not run.revert()
    assert (world.lines, world.undone, run.undone) == ([], [], False)


def test_a_cancel_once_it_has_begun_is_delivered_at_its_first_checkpoint(world):
    run = fetch(world, cancel=at_begin(stored=True))

    assert (run.how, run.checkpoints, world.lines) == (How.CANCELLED, 1, [0])


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_cancel_at_a_checkpoint_is_delivered_there(world, number):
    run = fetch(world, cancel=at_checkpoint(number))

    assert (run.how, run.cancelled, run.checkpoints) == (How.CANCELLED, True, number)
    with pytest.raises(Cancelled):
        _ = run.result
    assert run.revert()
    assert world.undone == [(INTERRUPTED, number, True)]
    assert (world.lines, world.closed) == ([], 1)


def test_a_cancel_at_the_checkpoint_with_that_data(world):
    assert fetch(world, cancel=at_data(3)).saved == 3


def test_a_cancel_at_a_report_is_delivered_at_the_next_checkpoint(world):
    run = fetch(world, cancel=at_message("line 3"))

    assert (run.how, run.saved, world.lines) == (How.CANCELLED, 4, [0, 1, 2, 3])


def test_a_cancel_once_it_has_returned_keeps_its_result_for_the_undo(world):
    run = fetch(world, lines=1, cancel=at_return())

    assert (run.how, run.cancelled, run.result) == (How.RETURNED, True, [1, "lines"])
    run.revert()
    assert world.undone == [([1, "lines"], 1, False)]


def test_a_cancel_after_all_is_over_took_no_hold(world):
    run = fetch(world)

    run.cancel()

    assert not run.cancelled


def test_a_cue_of_ones_own_is_asked_at_each_moment(world):
    moments = []

    def cue(moment: Moment) -> bool:
        moments.append(moment)
        return moment.fraction == 0.5

    run = fetch(world, lines=2, cancel=cue)

    assert [(each.place, each.checkpoint, each.data, each.message) for each in moments] == [
        (Place.BEFORE, 0, None, None),
        (Place.BEGUN, 0, None, None),
        (Place.REPORT, 0, None, "line 0"),
        (Place.CHECKPOINT, 1, 1, "line 0"),
        (Place.REPORT, 1, 1, "line 1"),
    ]
    assert run.cancelled


@pytest.mark.parametrize("name", ["cancel", "kill"])
def test_a_cue_that_never_comes_fails_the_test(world, name):
    with pytest.raises(CueMissed) as caught:
        fetch(world, lines=2, **{name: at_checkpoint(3)})

    assert str(caught.value) == (
        f"the {name} at checkpoint 3 never came: task fetch ended after 2 checkpoints"
    )


def test_a_cue_that_never_comes_since_the_body_raised_tells_what_it_raised():
    @task
    def fail():
        raise ValueError("broken")

    with pytest.raises(CueMissed, match=r"ended after 0 checkpoints with ValueError: broken"):
        run_task(fail(), cancel=at_checkpoint(1))


def test_a_missed_cue_of_an_undo_that_has_nothing_to_undo_fails_too(world):
    run = fetch(world, cancel=at_begin())

    with pytest.raises(CueMissed, match="the kill at its end never came"):
        run.revert(kill=at_return())


def test_a_body_that_swallows_the_cancel_is_cancelled_at_its_end():
    @task
    def deaf(self):
        try:
            self.checkpoint()
        except Cancelled:
            return "went on"

    run = run_task(deaf(), cancel=at_checkpoint(1))

    assert (run.how, run.cancelled, run.result, run.checkpoints) == (How.RETURNED, True, "went on", 1)


def test_a_cancelled_raised_by_hand_is_a_failure():
    @task
    def odd():
        raise Cancelled("by hand")

    run = run_task(odd())

    assert (run.how, run.cancelled) == (How.RAISED, False)


def test_each_look_at_the_event_is_a_checkpoint_and_a_delivery_is_none_more():
    @task
    def look(self):
        self.checkpoint()
        self.sleep(1)
        self.cancel.check()
        _ = self.cancel.requested
        self.cancel.wait(1)
        self.checkpoint()

    assert run_task(look()).checkpoints == 6
    assert run_task(look(), cancel=at_checkpoint(2)).checkpoints == 2
    assert run_task(look(), cancel=at_checkpoint(3)).checkpoints == 3


def test_an_undo_is_shielded():
    looks = []

    @task
    def make():
        return 1

    @make.undo
    def remove(self):
        self.checkpoint()
        looks.append(self.cancel.requested)

    run = run_task(make(), cancel=at_return())

    assert run.revert()
    assert looks == [True]


# -- killed on cue


def test_after_a_kill_nothing_of_the_body_goes_on_and_its_undo_has_what_was_saved(world):
    run = fetch(world, kill=at_checkpoint(3))

    assert (run.how, run.saved, world.lines, world.closed) == (How.INTERRUPTED, 3, [0, 1, 2], 0)
    with pytest.raises(RuntimeError, match="task fetch has no result: interrupted"):
        _ = run.result
    assert run.revert()
    assert world.undone == [(INTERRUPTED, 3, True)]
    assert world.closed == 0


def test_a_kill_before_it_begins_leaves_nothing_to_undo(world):
    run = fetch(world, kill=at_begin())

    assert run.how is None
    assert not run.revert()


def test_a_kill_as_soon_as_it_is_stored_as_begun_leaves_an_undo_to_do(world):
    run = fetch(world, kill=at_begin(stored=True))

    assert world.lines == []
    assert run.revert()
    assert world.undone == [(INTERRUPTED, None, True)]


def test_a_kill_after_its_last_line_loses_its_result(world):
    run = fetch(world, lines=1, kill=at_return())

    run.revert()

    assert world.undone == [(INTERRUPTED, 1, True)]


def test_the_next_runner_goes_on_from_what_was_saved_with_a_task_of_its_own(world):
    first = Fetch(world)
    run = run_task(first, {"lines": 5}, kill=at_checkpoint(3))

    run.execute()

    assert world.lines == [0, 1, 2, 3, 4]
    assert run.result == [5, "lines"]
    assert run.task is not first
    assert run.task.interrupted
    assert run.task.job.epoch == 2


def test_the_next_runner_makes_its_task_where_it_is_told_how(world):
    made: list[Fetch] = []

    def make() -> Fetch:
        made.append(Fetch(world))
        return made[-1]

    run = run_task(make, {"lines": 2}, kill=at_checkpoint(1))

    assert made == [made[0], run.task]
    run.execute()
    assert run.result == [2, "lines"]


def test_what_the_killed_one_had_set_on_itself_is_gone():
    class Remembers(CancelableTask):
        seen = False

        def execute(self):
            before, self.seen = self.seen, True
            self.checkpoint()
            return before

    run = run_task(Remembers(), kill=at_checkpoint(1))
    run.execute()

    assert run.result is False


def test_a_cancel_that_was_requested_before_the_kill_keeps_it_from_beginning_again(world):
    run = fetch(world, cancel=at_message("line 1"), kill=at_checkpoint(2))

    run.execute()

    assert (run.how, run.cancelled, world.lines) == (How.INTERRUPTED, True, [0, 1])
    assert run.revert()
    assert world.undone == [(INTERRUPTED, 2, True)]


def test_an_undo_whose_runner_dies_at_its_end_is_done_once_more(world):
    run = fetch(world, lines=1)

    run.revert(kill=at_return())
    assert not run.undone
    with pytest.raises(RuntimeError, match="does not begin again"):
        run.execute()
    run.revert()

    assert world.undone == [([1, "lines"], 1, False)] * 2
    assert run.undone


def test_looks_of_a_thread_that_the_body_has_started_are_no_moments_of_it():
    @task
    def spread(self):
        thread = threading.Thread(target=self.checkpoint)
        thread.start()
        thread.join()
        self.checkpoint()

    assert run_task(spread(), kill=at_checkpoint(1)).checkpoints == 1
