"""What the undo of one task is given, and what a body that begins again is given."""

from typing import Any

import pytest

from ebbtide.tasks import INTERRUPTED, CancelableTask, Cancelled, PayloadError
from ebbtide.tasks.run import DetachedRun, Interrupted, Missing
from ebbtide.tasks.wrapping import SecretMissing, TaskExited


class SeenRun(DetachedRun):
    """Notes how undos end."""

    def __init__(self) -> None:
        super().__init__()
        self.undo_ends: list[str | None] = []

    def end_undo(self, task, error):
        self.undo_ends.append(error)
        super().end_undo(task, error)


class Body(CancelableTask):
    """Runs what the test gives it; its undo notes what it was given."""

    def __init__(self, body, undo) -> None:
        super().__init__(name="body")
        self.body, self.undo = body, undo
        self.undone: list[Any] = []

    def execute(self):
        return self.body(self)

    def revert(self, result, **given):
        self.undone.append((result, self.interrupted, self.saved))
        self.undo(self)


def bound(body=lambda task: None, undo=lambda task: None, run: DetachedRun | None = None):
    task, run = Body(body, undo), run or SeenRun()
    task.bind(run)
    return task, run


def undo(task: CancelableTask) -> None:
    """Revert as TaskFlow calls it."""
    task.revert(result="what TaskFlow has", flow_failures={})


def raises(error: BaseException):
    def body(task):
        raise error

    return body


def test_an_undo_is_shielded():
    heard: list[bool] = []

    def body_of_undo(task):
        task.cancel.set("again")
        task.checkpoint({"undone": 1})
        task.sleep(0.001)
        heard.append(task.cancel.shielded)

    task, run = bound(undo=body_of_undo)
    task.execute()
    run.event.set("enough")

    undo(task)

    assert heard == [True]
    assert run.undo_ends == [None]


def test_an_undo_is_run_once():
    task, _ = bound()
    task.execute()

    undo(task)
    undo(task)

    assert len(task.undone) == 1


def test_a_task_that_did_not_begin_is_not_undone():
    task, run = bound()

    undo(task)

    assert task.undone == []
    assert run.undo_ends == []


def test_an_undo_that_raises_is_recorded_and_can_be_tried_again_with_the_same_result():
    errors: list[BaseException] = [OSError("busy"), SystemExit(1)]
    task, run = bound(lambda task: "made", lambda task: raises(errors.pop(0))(task) if errors else None)
    task.execute()

    with pytest.raises(OSError, match="busy"):
        undo(task)
    with pytest.raises(TaskExited, match=r"^the undo of body left with SystemExit: 1"):
        undo(task)
    undo(task)

    assert run.undo_ends == ["OSError: busy", "SystemExit: 1", None]
    assert task.undone == [("made", False, None)] * 3


def test_the_interrupted_mark_is_falsy_and_the_only_one_of_its_kind():
    assert not INTERRUPTED
    assert Interrupted() is INTERRUPTED
    assert repr(INTERRUPTED) == "INTERRUPTED"


# -- what a body that begins is given


def test_a_body_that_begins_again_after_its_runner_died_knows_it_and_has_its_last_checkpoint():
    run = SeenRun()
    seen: list[Any] = []

    def body(task):
        seen.append((task.interrupted, task.saved))
        task.checkpoint({"copied": len(seen)})

    run.begin("body")  # began, and nothing more was heard of it
    run.save("body", '{"copied":7}')
    first, _ = bound(body, run=run)
    first.execute()
    second, _ = bound(body, run=run)
    second.execute()

    assert seen == [(True, {"copied": 7}), (False, {"copied": 1})]


def test_after_its_undo_a_task_begins_afresh():
    seen: list[Any] = []

    def body(task):
        seen.append((task.interrupted, task.saved))
        task.checkpoint([1])
        raise KeyError("x")

    task, _ = bound(body)
    for _ in range(2):
        with pytest.raises(KeyError):
            task.execute()
        undo(task)

    assert seen == [(False, None), (False, None)]
    assert task.undone == [(INTERRUPTED, True, [1])] * 2


def test_checkpoint_data_is_kept_as_json_before_the_event_is_looked_at():
    data = {"parts": (1, 2)}

    def body(task):
        task.cancel.set()
        task.checkpoint(data)

    task, _ = bound(body)
    with pytest.raises(Cancelled):
        task.execute()
    data["parts"] = ()
    undo(task)

    assert task.undone == [(INTERRUPTED, True, {"parts": [1, 2]})]


def test_checkpoint_data_that_is_not_json_is_refused_and_the_last_one_stays():
    def body(task):
        task.checkpoint(0)
        task.checkpoint({1})

    task, _ = bound(body)
    with pytest.raises(PayloadError, match=r"^the checkpoint data of body is a set"):
        task.execute()
    undo(task)

    assert task.undone == [(INTERRUPTED, True, 0)]


class NeedsIt(Body):
    def revert(self, result, token):
        self.undone.append(token)


class HasNoUndo(CancelableTask):
    def execute(self, token): ...


def test_an_undo_that_needs_what_is_missing_fails_and_is_recorded_so():
    task, run = NeedsIt(lambda task: None, None), SeenRun()
    task.bind(run)
    task.execute()

    with pytest.raises(SecretMissing, match="env:TOKEN is gone"):
        task.revert(result=None, flow_failures={}, token=Missing("env:TOKEN is gone"))

    assert task.undone == []
    assert run.undo_ends == ["SecretMissing: env:TOKEN is gone"]


def test_an_undo_that_may_need_anything_needs_what_is_missing():
    task, _ = bound()
    task.execute()

    with pytest.raises(SecretMissing):
        task.revert(result=None, flow_failures={}, token=Missing("env:TOKEN is gone"))

    assert task.undone == []


def test_an_undo_that_needs_nothing_of_what_is_missing_goes_on():
    task, run = HasNoUndo("free"), SeenRun()
    task.bind(run)
    task.execute(token="hunter2")

    task.revert(result=None, flow_failures={}, token=Missing("env:TOKEN is gone"))

    assert run.undo_ends == [None]
