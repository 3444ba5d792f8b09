"""Retry controllers and a cancel: while one is requested nothing is retried, whatever they would say."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from taskflow import exceptions, retry, states
from taskflow.patterns import linear_flow

from ebbtide.tasks import CancelableTask, CancelEvent, Cancelled
from ebbtide.tasks.retries import bind_retry
from ebbtide.tasks.run import DetachedRun

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from taskflow import engines

VALUES = ["a", "b", "c"]


class Forever(retry.Retry):
    """Of a user's own; never gives up."""

    def execute(self, history, *args, **kwargs):
        return len(history) + 1

    def on_failure(self, history, *args, **kwargs):
        return retry.RETRY


class Strict(retry.Retry):
    """Takes nothing but what TaskFlow gives it, by name."""

    def execute(self, *, history):
        return len(history)

    def on_failure(self, *, history):
        return retry.RETRY if len(history) < 3 else retry.REVERT


class Patient(retry.Times):
    """Derived from a stock one."""

    def on_failure(self, history, *args, **kwargs):
        return super().on_failure(history, *args, **kwargs)


class Raising(retry.Retry):
    """Asked about a cancel it would do harm."""

    def execute(self, history, *args, **kwargs): ...

    def on_failure(self, history, *args, **kwargs):
        raise AssertionError("asked although a cancel is requested")


CONTROLLERS: dict[str, Callable[[], retry.Retry]] = {
    "times": lambda: retry.Times(20, "times"),
    "times-revert-all": lambda: retry.Times(20, "times", revert_all=True),
    "for-each": lambda: retry.ForEach(VALUES, "for-each"),
    "for-each-revert-all": lambda: retry.ForEach(VALUES, "for-each", revert_all=True),
    "parameterized": lambda: retry.ParameterizedForEach("parameterized"),
    "parameterized-revert-all": lambda: retry.ParameterizedForEach("parameterized", revert_all=True),
    "always-revert": lambda: retry.AlwaysRevert("always-revert"),
    "always-revert-all": lambda: retry.AlwaysRevertAll("always-revert-all"),
    "own": lambda: Forever("own"),
    "own-strict": lambda: Strict("own-strict"),
    "own-derived": lambda: Patient(20, "own-derived"),
    "own-raising": lambda: Raising("own-raising"),
}
# How often the body runs when it always fails and nobody cancels.
ROUNDS = {
    "times": 20,
    "times-revert-all": 20,
    "for-each": 3,
    "for-each-revert-all": 3,
    "parameterized": 3,
    "parameterized-revert-all": 3,
    "always-revert": 1,
    "always-revert-all": 1,
    "own-strict": 3,
    "own-derived": 20,
}


class Step(CancelableTask):
    def __init__(self, name: str, log: list[str], act: Callable[[CancelableTask], None]) -> None:
        super().__init__(name=name)
        self.log, self.act = log, act

    def execute(self):
        self.log.append(self.name)
        self.act(self)

    def revert(self):
        self.log.append(f"undo {self.name}")


def succeed(task: CancelableTask) -> None: ...


def fail(task: CancelableTask) -> None:
    raise ValueError("broken")


def cancel(task: CancelableTask) -> None:
    task.cancel.set("enough")
    task.checkpoint()


def cancel_and_fail(task: CancelableTask) -> None:
    task.cancel.set("enough")
    raise ValueError("broken")


class Scene:
    """A step before, and steps under a controller: `outer(controller(...))`."""

    def __init__(self, *controllers: retry.Retry) -> None:
        self.log: list[str] = []
        self.event = CancelEvent()
        self.controllers = controllers

    def run(self, *acts: Callable[[CancelableTask], None]) -> Any:
        """Run it bound to the event; the state in which TaskFlow leaves the flow."""
        steps = [Step(f"s{number}", self.log, act) for number, act in enumerate(acts)]
        before = Step("before", self.log, succeed)
        flow = linear_flow.Flow("steps").add(*steps)
        for number, controller in enumerate(reversed(self.controllers)):
            flow = linear_flow.Flow(f"retried-{number}", retry=controller).add(flow)
            bind_retry(controller, DetachedRun(self.event))
        for step in (before, *steps):
            step.bind(DetachedRun(self.event))
        whole = linear_flow.Flow("whole").add(before, flow)
        engine = engines.load(whole, store={"values": VALUES}, engine="serial", defer_reverts=True)
        with pytest.raises((ValueError, Cancelled, exceptions.WrappedFailure)):
            engine.run()
        return engine.storage.get_flow_state()


def ask(controller: retry.Retry, event: CancelEvent) -> Any:
    """Ask the controller, bound to the event, as TaskFlow asks it after a failure in the first round."""
    bind_retry(controller, DetachedRun(event))
    given: dict[str, Any] = {"history": retry.History([("a", {})])}
    if isinstance(controller, retry.ParameterizedForEach):
        given["values"] = VALUES
    return controller.on_failure(**given)


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_while_a_cancel_is_requested_every_controller_answers_to_revert_all(kind):
    event = CancelEvent()
    event.set("enough")

    assert ask(CONTROLLERS[kind](), event) is retry.REVERT_ALL


@pytest.mark.parametrize("kind", sorted(ROUNDS))
def test_without_a_cancel_every_controller_answers_as_it_always_did(kind):
    given: dict[str, Any] = {"history": retry.History([("a", {})])}
    if kind.startswith("parameterized"):
        given["values"] = VALUES

    assert ask(CONTROLLERS[kind](), CancelEvent()) is CONTROLLERS[kind]().on_failure(**given)


@pytest.mark.parametrize("kind", sorted(ROUNDS))
def test_without_a_cancel_a_flow_is_retried_as_often_as_ever(kind):
    scene = Scene(CONTROLLERS[kind]())

    state = scene.run(fail)

    assert scene.log.count("s0") == ROUNDS[kind]
    assert scene.log.count("undo s0") == ROUNDS[kind]
    assert scene.log[-1] == "undo before"
    assert state == states.REVERTED


@pytest.mark.parametrize("act", [cancel, cancel_and_fail])
@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_cancel_is_not_one_more_failure_to_be_retried(kind, act):
    scene = Scene(CONTROLLERS[kind]())

    state = scene.run(succeed, act, succeed)

    assert scene.log == ["before", "s0", "s1", "undo s1", "undo s0", "undo before"]
    assert state == states.REVERTED


@pytest.mark.parametrize("inner", CONTROLLERS)
@pytest.mark.parametrize("outer", ["times", "for-each", "always-revert", "own"])
def test_nor_is_it_by_one_controller_inside_another(outer, inner):
    within = CONTROLLERS[inner]()
    within.name = "within"
    scene = Scene(CONTROLLERS[outer](), within)

    state = scene.run(succeed, cancel)

    assert scene.log == ["before", "s0", "s1", "undo s1", "undo s0", "undo before"]
    assert state == states.REVERTED


@pytest.mark.parametrize("kind", ["times", "for-each", "parameterized", "own", "own-derived"])
def test_a_cancel_in_a_later_round_ends_the_rounds(kind):
    scene = Scene(CONTROLLERS[kind]())
    acts = [fail, cancel]

    scene.run(lambda task: acts.pop(0)(task))

    assert scene.log == ["before", "s0", "undo s0", "s0", "undo s0", "undo before"]


def test_a_cancel_between_two_rounds_begins_nothing_more():
    class CancelsBetween(retry.Times):
        def execute(self, history, *args, **kwargs):
            if len(history):
                scene.event.set("enough")
            return super().execute(history, *args, **kwargs)

    scene = Scene(CancelsBetween(20, "between"))

    state = scene.run(fail)

    assert scene.log == ["before", "s0", "undo s0", "undo before"]
    assert state == states.REVERTED


def test_a_controller_is_bound_to_one_run():
    controller = retry.Times(2, "twice")
    bind_retry(controller, DetachedRun(CancelEvent()))

    with pytest.raises(
        RuntimeError, match="retry twice belongs to another run: build the flow anew for each job"
    ):
        bind_retry(controller, DetachedRun(CancelEvent()))


def test_two_controllers_of_one_class_heed_their_own_event():
    mine, other = CancelEvent(), CancelEvent()
    mine.set("enough")

    assert ask(retry.Times(2, "mine"), mine) is retry.REVERT_ALL
    assert ask(retry.Times(2, "other"), other) is retry.RETRY


def test_a_round_does_not_begin_once_a_cancel_is_requested():
    asked = []

    class Asked(retry.Times):
        def execute(self, history, *args, **kwargs):
            asked.append(history)

    event, controller = CancelEvent(), Asked(2, "asked")
    bind_retry(controller, DetachedRun(event))
    controller.execute(history=[])
    event.set("enough")

    with pytest.raises(Cancelled):
        controller.execute(history=[])
    assert len(asked) == 1


def test_binding_changes_nothing_that_taskflow_reads():
    plain, bound = CONTROLLERS["parameterized"](), CONTROLLERS["parameterized"]()
    bind_retry(bound, DetachedRun(CancelEvent()))

    for name in ("name", "requires", "optional", "rebind", "revert_rebind", "save_as", "provides"):
        assert getattr(bound, name) == getattr(plain, name)
