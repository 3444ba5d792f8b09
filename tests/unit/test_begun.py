"""What a run remembers of its tasks between commits: who began, how that ended, what was undone."""

import itertools
import json
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.tasks.run import INTERRUPTED, Begun, How, Undo

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from ebbtide.conductor.batch import Batch
    from ebbtide.conductor.begun import BegunTasks, Row

NO_COUNTS = {"begun": 0, "tasks_done": 0, "tasks_undone": 0}


class Run:
    """The tasks of one run, driven as journal and engine do, and a store that holds what was committed."""

    def __init__(self, store: dict[tuple[str, int], dict[str, Any]] | None = None, texts=None) -> None:
        self.store = store or {}
        self.tasks = BegunTasks([Row(**row) for row in self.store.values()], dict(texts or {}))
        self.ticks = itertools.count(100.0)

    def begin(self, task: str, epoch: int = 1) -> Begun:
        return self.tasks.begin(task, epoch, next(self.ticks))

    def end(self, task: str, result: Any = "made") -> None:
        self.tasks.returned(task, json.dumps(result), next(self.ticks))
        self.tasks.settle(task, succeeded=True)

    def fail(self, task: str, error: str = "ValueError: broken", how: How = How.RAISED) -> None:
        self.tasks.stopped(task, how, error, next(self.ticks))
        self.tasks.settle(task, succeeded=False)

    def undo(self, task: str, error: str | None = None, at: float | None = None) -> Undo | None:
        given = self.tasks.begin_undo(task, next(self.ticks))
        if given is None:
            return None
        self.tasks.end_undo(task, error, next(self.ticks) if at is None else at)
        self.tasks.settle_undo(task)
        return given

    def commit(self) -> set[str]:
        """Store what changed, as the journal does; returns the tasks that began in it."""
        new, changed, beginning = self.tasks.take()
        for row in new:
            assert (row["task"], row["round"]) not in self.store
        for row in changed:
            assert (row["task"], row["round"]) in self.store
        self.store |= {(row["task"], row["round"]): row for row in (*new, *changed)}
        self.tasks.begun_in_store(beginning)
        return beginning

    def row(self, task: str, number: int = 1) -> dict[str, Any]:
        return self.store[task, number]


@pytest.fixture
def run() -> Run:
    return Run()


# -- begin and end


def test_a_task_that_begins_is_a_new_row_once(run):
    assert run.begin("a", epoch=7) == Begun(interrupted=False, saved=None)
    assert run.commit() == {"a"}
    assert run.commit() == set()

    assert run.row("a") == vars(Row("a", round=1, position=1, epoch=7, begun_at=100.0))
    assert run.tasks.counts() == {"begun": 1, "tasks_done": 0, "tasks_undone": 0}


def test_an_end_counts_only_once_the_engine_has_recorded_it(run):
    run.begin("a")
    run.tasks.returned("a", '"made"', 101.0)
    run.commit()

    assert run.row("a")["how"] is None
    assert run.tasks.counts()["tasks_done"] == 0
    assert not run.tasks.unsaved_results

    run.tasks.settle("a", succeeded=True)
    assert run.tasks.unsaved_results
    run.commit()
    assert [run.row("a")[name] for name in ("how", "ended_at", "fraction")] == ["returned", 101.0, 1.0]
    assert run.tasks.counts()["tasks_done"] == 1
    assert not run.tasks.unsaved_results


def test_a_task_that_raised_keeps_its_error(run):
    run.begin("a")
    run.tasks.report("a", 0.25, "copying")
    run.fail("a", "ValueError: broken")
    run.commit()

    told = [run.row("a")[name] for name in ("how", "error", "fraction", "message")]
    assert told == ["raised", "ValueError: broken", 0.25, "copying"]
    assert run.tasks.counts()["tasks_done"] == 0


def test_a_result_that_the_engine_did_not_keep_is_a_failure_and_not_promised_to_the_undo(run):
    run.begin("a")
    run.tasks.returned("a", '"made"', 101.0)
    run.tasks.settle("a", succeeded=False)

    assert run.undo("a") == Undo(INTERRUPTED, None)
    run.commit()
    assert (run.row("a")["how"], run.row("a")["error"]) == ("raised", "its result was not kept")


@pytest.mark.parametrize("succeeded", [False, True])
def test_the_end_of_what_never_began_changes_nothing(run, succeeded):
    run.tasks.settle("a", succeeded=succeeded)
    run.tasks.settle_undo("a")
    run.tasks.report("a", 0.5, "late")

    assert run.tasks.take() == ([], [], set())
    assert run.tasks.counts() == NO_COUNTS


def test_only_what_ended_well_or_was_undone_is_progress(run):
    """Progress resets the count of interruptions: after three without any, the job parks."""
    run.begin("a")
    run.fail("a")
    assert not run.tasks.progressed

    run.undo("a", error="OSError: busy")
    assert not run.tasks.progressed

    run.undo("a")
    assert run.tasks.progressed


# -- a begin that is refused


def test_a_refused_begin_leaves_no_trace(run):
    run.begin("a")
    run.tasks.take()

    run.tasks.refuse("a")

    assert run.tasks.counts() == NO_COUNTS
    assert run.tasks.begin_undo("a", 1.0) is None
    assert run.tasks.take() == ([], [], set())


def test_a_refused_second_round_leaves_the_first_as_it_was(run):
    run.begin("a")
    run.fail("a")
    run.undo("a")
    run.commit()

    run.begin("a")
    run.tasks.take()
    run.tasks.refuse("a")

    assert (run.tasks.undone(), run.tasks.undo_owed()) == (["a"], [])
    assert run.tasks.counts() == {"begun": 1, "tasks_done": 0, "tasks_undone": 1}


# -- rounds


def test_each_round_of_a_retried_task_is_a_row_of_its_own(run):
    for number in (1, 2, 3):
        run.begin("a")
        run.commit()
        run.fail("a", f"error {number}")
        run.undo("a")
        run.commit()

    assert [run.row("a", number)["error"] for number in (1, 2, 3)] == ["error 1", "error 2", "error 3"]
    assert all(run.row("a", number)["undo_ended_at"] for number in (1, 2, 3))
    assert [run.row("a", number)["position"] for number in (1, 2, 3)] == [1, 2, 3]


def test_what_ended_in_one_round_is_stored_although_the_next_begins_in_the_same_commit(run):
    """P7: every round has its recorded revert, whatever commit that comes into."""
    run.begin("a")
    run.commit()
    run.fail("a")
    run.undo("a")
    run.begin("a")
    run.commit()

    assert (run.row("a", 1)["how"], run.row("a", 1)["undo_tries"]) == ("raised", 1)
    assert run.row("a", 1)["undo_ended_at"] is not None
    assert run.row("a", 2)["how"] is None


def test_a_refused_second_round_does_not_keep_the_end_of_the_first_from_being_stored(run):
    run.begin("a")
    run.commit()
    run.fail("a")
    run.undo("a")
    run.begin("a")
    batch = Batch("7f3a", attempt=1, epoch=1)
    batch.new_tasks, batch.tasks, batch.beginning = run.tasks.take()

    run.tasks.refuse("a")
    batch.without(batch.beginning)

    assert batch.new_tasks == []
    assert [(row["round"], row["undo_ended_at"] is not None) for row in batch.tasks] == [(1, True)]


def test_a_new_round_knows_nothing_of_the_one_before(run):
    run.begin("a")
    run.tasks.save("a", "[1]")
    run.end("a", "first")
    run.undo("a")
    run.commit()

    assert run.begin("a") == Begun(interrupted=False, saved=None)
    assert run.tasks.counts() == {"begun": 1, "tasks_done": 0, "tasks_undone": 0}
    assert run.tasks.result_text("a") is None
    assert run.undo("a") == Undo(INTERRUPTED, None)


def test_a_task_begins_again_only_when_it_was_undone_or_interrupted(run):
    run.begin("a")
    run.end("a")

    with pytest.raises(
        RuntimeError, match="task a is to begin again although it returned and was not undone"
    ):
        run.begin("a")


# -- undo


@pytest.mark.parametrize("result", [None, 0, [], {"a": [1]}])
def test_the_undo_is_given_the_true_result_each_time_anew(run, result):
    run.begin("a")
    run.end("a", result)

    first = run.undo("a", error="OSError: busy")
    second = run.undo("a")

    assert first is not None
    assert first == second == Undo(result, None)
    assert first.result is not second.result or result in (None, 0)


def test_what_did_not_begin_or_was_undone_is_not_undone(run):
    run.begin("a")
    run.end("a")
    assert run.undo("b") is None
    assert run.undo("a") is not None

    assert run.tasks.begin_undo("a", 1.0) is None


def test_a_failed_undo_is_counted_and_named_until_it_succeeds(run):
    run.begin("a")
    run.end("a")
    run.undo("a", error="OSError: busy")
    run.undo("a", error="OSError: still busy")
    run.commit()

    assert [row.task for row in run.tasks.undo_failures()] == ["a"]
    assert (run.row("a")["undo_tries"], run.row("a")["undo_error"]) == (2, "OSError: still busy")
    assert run.row("a")["undo_ended_at"] is None
    began = run.row("a")["undo_begun_at"]

    run.undo("a")
    run.commit()
    assert (run.tasks.undo_failures(), run.tasks.undone()) == ([], ["a"])
    assert (run.row("a")["undo_tries"], run.row("a")["undo_begun_at"]) == (3, began)


def test_the_order_of_beginning_and_that_of_undoing_are_told(run):
    for task in ("a", "b", "c", "d"):
        run.begin(task)
        run.end(task)
    for task in ("d", "b"):
        run.undo(task)

    assert run.tasks.undo_owed() == ["a", "c"]
    assert run.tasks.undone() == ["d", "b"]
    assert run.tasks.counts() == {"begun": 1, "tasks_done": 4, "tasks_undone": 2}


def test_the_order_of_undoing_is_that_of_the_undos_although_somebody_sets_the_clock(run):
    for task in ("a", "b", "c"):
        run.begin(task)
        run.end(task)
    for task, at in (("c", 500.0), ("b", 300.0), ("a", 300.0)):
        run.undo(task, at=at)

    assert run.tasks.undone() == ["c", "b", "a"]


def test_the_first_failure_is_that_of_the_task_that_failed_first(run):
    for task in ("a", "b", "c"):
        run.begin(task)
    run.fail("b", "first")
    run.fail("a", "second")
    run.fail("c", "cancelled", How.CANCELLED)

    failure = run.tasks.first_failure()

    assert failure is not None
    assert (failure.task, failure.error) == ("b", "first")


# -- a run that goes on where another ended


def interrupted(run: Run, *tasks: str) -> Run:
    """The runner dies now; what it had committed is claimed again, which marks what had not ended."""
    for (task, _), row in run.store.items():
        if task in tasks:
            row |= {"ended_at": 500.0, "how": "interrupted"}
    texts = {task: json.dumps("made") for (task, _), row in run.store.items() if row["how"] == "returned"}
    return Run(run.store, texts)


def test_an_interrupted_task_begins_again_in_the_same_round_and_is_told_so(run):
    run.begin("a", epoch=1)
    run.tasks.save("a", "[3]")
    run.commit()

    again = interrupted(run, "a")

    assert again.begin("a", epoch=2) == Begun(interrupted=True, saved=[3])
    again.commit()
    row = again.row("a")
    assert (row["round"], row["epoch"], row["how"], row["ended_at"]) == (1, 2, None, None)
    assert row["saved"] == "[3]"


def test_a_refused_begin_of_an_interrupted_task_leaves_it_to_be_undone(run):
    run.begin("a")
    run.commit()
    again = interrupted(run, "a")

    again.begin("a", epoch=2)
    again.tasks.take()
    again.tasks.refuse("a")

    assert again.tasks.undo_owed() == ["a"]
    assert again.undo("a") == Undo(INTERRUPTED, None)
    again.commit()
    assert again.row("a")["how"] == "interrupted"


def test_positions_go_on_where_they_ended(run):
    for task in ("a", "b"):
        run.begin(task)
        run.end(task)
    run.commit()

    again = interrupted(run)
    again.begin("c")
    again.commit()

    assert again.row("c")["position"] == 3
    assert again.tasks.undo_owed() == ["a", "b", "c"]
    assert again.undo("b") == Undo("made", None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["step", "fail", "undo", "commit"]))))
def test_what_is_stored_is_what_is_remembered(steps):
    """Whatever is done in whatever order: after a commit, a run that goes on knows what this one knows."""
    run, open_rounds = Run(), set()
    for task, step in steps:
        if step == "commit":
            run.commit()
        elif step == "undo":
            run.undo(task)
            open_rounds.discard(task)
        elif task not in open_rounds:
            run.begin(task)
            run.end(task) if step == "step" else run.fail(task)
            open_rounds.add(task)
    run.commit()

    again = interrupted(run)

    assert again.tasks.undo_owed() == run.tasks.undo_owed()
    assert again.tasks.undone() == run.tasks.undone()
    assert again.tasks.counts() == run.tasks.counts()
    assert again.tasks.first_failure() == run.tasks.first_failure()
