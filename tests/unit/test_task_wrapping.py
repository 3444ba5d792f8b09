"""Which execute and revert are wrapped, how often they act, and what a task may be bound to."""

import abc
import copy
import functools
import inspect
import pickle
import threading
from typing import Any

import pytest
from taskflow import task as taskflow_task

from ebbtide.tasks import CancelableTask, CancelEvent, Cancelled, JobInfo
from ebbtide.tasks.run import DetachedRun
from ebbtide.tasks.wrapping import is_wrapped


class CountingRun(DetachedRun):
    """Counts how often a task passes each of its gates."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []

    def begin(self, task):
        self.passed.append("begin")
        return super().begin(task)

    def returned(self, task, text):
        self.passed.append("returned")
        super().returned(task, text)

    def begin_undo(self, task):
        self.passed.append("begin_undo")
        return super().begin_undo(task)

    def end_undo(self, task, error):
        self.passed.append("end_undo")
        super().end_undo(task, error)


ONCE = ["begin", "returned", "begin_undo", "end_undo"]


def passed(task: CancelableTask) -> list[str]:
    """Run and undo the task; the gates it passed."""
    run = CountingRun()
    task.bind(run)
    task.execute()
    task.revert(result=None, flow_failures={})
    return run.passed


class Trail(CancelableTask):
    """Each class of a family notes that its body ran."""

    def __init__(self) -> None:
        super().__init__()
        self.trail: list[str] = []

    def execute(self):
        self.trail.append("Trail")

    def revert(self, result):
        self.trail.append("undo Trail")


class Left(Trail):
    def execute(self):
        self.trail.append("Left")
        super().execute()

    def revert(self, result, **given):
        self.trail.append("undo Left")
        super().revert(result=result, **given)


class Right(Trail):
    def execute(self):
        self.trail.append("Right")
        super().execute()

    def revert(self, result, **given):
        self.trail.append("undo Right")
        super().revert(result=result, **given)


class Inherits(Left):
    pass


class Diamond(Left, Right):
    def execute(self):
        self.trail.append("Diamond")
        super().execute()


class BareDiamond(Left, Right):
    pass


class Mixin:
    """Knows nothing of CancelableTask."""

    def execute(self):
        self.trail.append("Mixin")

    def revert(self, result):
        self.trail.append("undo Mixin")


class Mixed(Mixin, Trail):
    pass


class Cooperative:
    def execute(self):
        self.trail.append("Cooperative")
        super().execute()

    def revert(self, **given):
        super().revert(**given)


class MixedIn(Cooperative, Left):  # type: ignore[misc]  # a mixin that passes on whatever it is given
    pass


@pytest.mark.parametrize(
    ("family", "trail"),
    [
        (Trail, ["Trail", "undo Trail"]),
        (Left, ["Left", "Trail", "undo Left", "undo Trail"]),
        (Inherits, ["Left", "Trail", "undo Left", "undo Trail"]),
        (
            Diamond,
            ["Diamond", "Left", "Right", "Trail", "undo Left", "undo Right", "undo Trail"],
        ),
        (BareDiamond, ["Left", "Right", "Trail", "undo Left", "undo Right", "undo Trail"]),
        (Mixed, ["Mixin", "undo Mixin"]),
        (MixedIn, ["Cooperative", "Left", "Trail", "undo Left", "undo Trail"]),
    ],
)
def test_only_the_outermost_body_passes_the_gates_and_each_body_runs_once(family, trail):
    task = family()

    gates = passed(task)

    assert gates == ONCE
    assert task.trail == trail


@pytest.mark.parametrize("family", [Trail, Left, Inherits, Diamond, BareDiamond, Mixed, MixedIn])
def test_no_body_runs_once_a_cancel_is_requested(family):
    task = family()
    task.cancel.set()

    with pytest.raises(Cancelled):
        task.execute()

    assert task.trail == []


def logged(function):
    """A decorator as people write them; functools.wraps copies the attributes of what it wraps."""

    @functools.wraps(function)
    def inner(self, *args, **kwargs):
        self.trail.append("logged")
        return function(self, *args, **kwargs)

    return inner


class Decorated(Trail):
    execute = logged(Trail.execute)
    revert = logged(Trail.revert)


def test_a_decorator_around_an_inherited_body_does_not_get_round_the_gates():
    task = Decorated()

    assert passed(task) == ONCE
    assert task.trail == ["logged", "Trail", "logged", "undo Trail"]


def test_taskflow_sees_the_arguments_of_the_body():
    class Several(CancelableTask):
        default_provides = ("left", "right")

        def execute(self, a, b, *, c, d=4): ...

        def revert(self, result, a, e, **rest): ...

    task = Several(rebind={"a": "other"})

    assert set(task.requires) == {"other", "b", "c", "e"}
    assert set(task.optional) == {"d"}
    assert dict(task.rebind) == {"a": "other", "b": "b", "c": "c", "d": "d"}
    assert dict(task.save_as) == {"left": 0, "right": 1}
    assert list(inspect.signature(Several.execute).parameters) == ["self", "a", "b", "c", "d"]


# -- abstract classes


class Abstract(CancelableTask):
    @abc.abstractmethod
    def execute(self): ...

    @abc.abstractmethod
    def revert(self, result): ...


def test_an_abstract_base_stays_abstract():
    assert inspect.isabstract(Abstract)
    with pytest.raises(TypeError, match="abstract"):
        Abstract()


def test_what_makes_an_abstract_base_concrete_is_wrapped():
    class Concrete(Abstract):
        def execute(self): ...

        def revert(self, result): ...

    assert passed(Concrete()) == ONCE


def test_a_mixin_makes_an_abstract_base_concrete():
    class Body:
        def execute(self): ...

        def revert(self): ...

    class Concrete(Body, Abstract): ...  # type: ignore[misc]  # its revert wants less

    assert passed(Concrete()) == ONCE


def test_arguments_of_a_class_reach_the_users_own_init_subclass():
    class Flavoured(CancelableTask):
        flavour = ""

        def __init_subclass__(cls, flavour: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.flavour = flavour

    class Sweet(Flavoured, flavour="sweet"):
        def execute(self): ...

    assert Sweet.flavour == "sweet"
    assert is_wrapped(Sweet.execute)


# -- binding


def plain(self): ...


def test_a_task_is_bound_to_one_run():
    task = Trail()
    task.bind(DetachedRun(job=JobInfo("7f3a", "copy")))

    with pytest.raises(RuntimeError, match="belongs to another run: build the flow anew for each job"):
        task.bind(DetachedRun())

    assert task.job.id == "7f3a"


def test_a_task_that_was_asked_for_its_job_too_early_says_so_when_it_is_bound():
    task = Trail()
    assert task.job.id == "detached"

    with pytest.raises(RuntimeError, match="was used before it belonged to a run: ask for job, cancel"):
        task.bind(DetachedRun())


def test_threads_that_ask_a_task_for_its_event_at_once_are_given_the_same():
    for _ in range(100):
        task, start, seen = Trail(), threading.Barrier(4), []

        def ask(task=task, start=start, seen=seen) -> None:
            start.wait()
            seen.append(task.cancel)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert set(seen) == {task.cancel}


@pytest.mark.parametrize("verb", ["execute", "revert"])
@pytest.mark.parametrize("decorate", [lambda function: plain, logged], ids=["plain", "wraps"])
def test_a_body_replaced_after_the_class_was_created_is_refused_when_it_is_bound(verb, decorate):
    class Patched(Trail): ...

    setattr(Patched, verb, decorate(getattr(Trail, verb)))

    with pytest.raises(TypeError, match=rf"Patched\.{verb} was replaced after its class was created"):
        Patched().bind(DetachedRun())


@pytest.mark.parametrize("verb", ["execute", "revert"])
def test_a_body_replaced_on_the_task_itself_is_refused_when_it_is_bound(verb):
    task = Trail()
    setattr(task, verb, lambda **given: None)

    with pytest.raises(TypeError, match=rf"Trail\.{verb} was replaced"):
        task.bind(DetachedRun())


def test_a_refused_bind_leaves_the_task_unbound():
    task = Trail()
    task.execute = lambda: None
    with pytest.raises(TypeError):
        task.bind(DetachedRun())
    del task.execute

    task.bind(DetachedRun())

    assert task.bound


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, taskflow_task.Task.copy, lambda task: pickle.loads(pickle.dumps(task))],
    ids=["copy", "deepcopy", "taskflow", "pickle"],
)
def test_a_copy_belongs_to_no_run(duplicate, bound):
    task = Trail()
    if bound:
        task.bind(DetachedRun(CancelEvent(), JobInfo("7f3a", "copy")))
    task.execute()

    twin = duplicate(task)

    assert not twin.bound
    twin.bind(DetachedRun())
    assert twin.job.id == "detached"
    assert twin.cancel is not task.cancel
    assert twin.name == task.name
    assert twin.trail == ["Trail"]
