"""@task: a plain function as a cancelable task, and its undo."""

import functools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from taskflow import exceptions
from taskflow.patterns import linear_flow

from ebbtide.tasks import INTERRUPTED, CancelableTask, Cancelled, FunctionTask, task
from ebbtide.tasks.run import DetachedRun

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from taskflow import engines


@task
def importable(a: int) -> int:
    """Can be pickled, since its name leads to it."""
    return a


def undo(made: CancelableTask, **given: Any) -> None:
    """Revert as TaskFlow calls it."""
    made.revert(**given, result="what TaskFlow has", flow_failures={})


def test_a_decorated_function_is_a_task_class_that_carries_its_names():
    @task
    def add(a, b):
        """Add two numbers."""
        return a + b

    assert issubclass(add, FunctionTask)
    assert issubclass(add, CancelableTask)
    assert (add.__name__, add.__module__) == ("add", __name__)
    assert add.__qualname__.endswith(".<locals>.add")
    assert add.__doc__ == "Add two numbers."
    assert add().name == "add"


def test_its_arguments_are_those_of_the_function():
    @task
    def add(a, b=2, *, c, d=4): ...

    made = add()

    assert set(made.requires) == {"a", "c"}
    assert set(made.optional) == {"b", "d"}


def test_it_runs_the_function():
    @task
    def add(a, b=2, *, c):
        return [a, b, c]

    assert add().execute(a=1, c=3) == [1, 2, 3]


@pytest.mark.parametrize("options", [{}, {"provides": "total"}, {"provides": ("x", "y")}, {"name": "sum-up"}])
def test_the_decorator_may_have_options(options):
    @task(**options)
    def add(): ...

    made = add()

    assert made.name == options.get("name", "add")
    provides = options.get("provides", ())
    assert set(made.provides) == ({provides} if isinstance(provides, str) else set(provides))


def test_the_decorator_may_give_it_a_grace():
    @task(grace_seconds=60)
    def slow(): ...

    @task
    def ordinary(): ...

    assert (slow().grace_seconds, ordinary().grace_seconds) == (60, None)
    with pytest.raises(TypeError, match=r"grace_seconds is -1: give a number of seconds"):
        task(grace_seconds=-1)(lambda: None)


def test_what_is_given_when_it_is_called_goes_before_the_decorators_options():
    @task(provides="total", name="sum-up")
    def add(a): ...

    made = add(name="other", provides="sum", rebind={"a": "first"})

    assert (made.name, set(made.provides), set(made.requires)) == ("other", {"sum"}, {"first"})
    assert add("by place").name == "by place"


def test_a_first_parameter_called_self_is_given_the_task():
    @task
    def copy(self, source):
        self.report(0.5, source)
        self.checkpoint({"at": source})
        return self.job.id

    made = copy()
    made.bind(DetachedRun())

    assert set(made.requires) == {"source"}
    assert made.execute(source="/data") == "detached"
    assert made.saved == {"at": "/data"}


def test_it_is_cancelled_as_any_task_is():
    @task
    def work(self):
        self.cancel.set("enough")
        self.checkpoint()

    made = work()

    with pytest.raises(Cancelled):
        made.execute()
    with pytest.raises(Cancelled):
        made.execute()


# -- undo


def test_undo_gives_the_class_back_and_may_be_named_as_one_likes():
    @task
    def add(): ...

    @add.undo
    def _(result): ...

    assert _ is add


@pytest.mark.parametrize("with_self", [False, True])
def test_undo_is_given_the_true_result_and_the_arguments_that_it_names(with_self):
    seen: list[Any] = []

    @task
    def add(a, b):
        return a + b

    if with_self:

        @add.undo
        def remove(self, result, b):
            seen.append((self.interrupted, result, b))
    else:

        @add.undo
        def remove(result, b):
            seen.append((False, result, b))

    made = add()
    made.execute(a=1, b=2)
    undo(made, a=1, b=2)

    assert seen == [(False, 3, 2)]


def test_undo_may_name_nothing_or_take_everything():
    seen: list[Any] = []

    @task
    def nothing(a): ...

    @nothing.undo
    def _():
        seen.append("nothing")

    @task
    def everything(a): ...

    @everything.undo
    def _(**given):
        seen.append(sorted(given))

    for each in (nothing, everything):
        made = each()
        made.execute(a=1)
        undo(made, a=1)

    assert seen == ["nothing", ["a", "flow_failures", "result"]]


def test_undo_of_an_interrupted_function_is_told_so():
    seen: list[Any] = []

    @task
    def work(self):
        self.checkpoint(["half"])
        raise ValueError("broken")

    @work.undo
    def _(self, result):
        seen.append((result, self.interrupted, self.saved))

    made = work()
    with pytest.raises(ValueError, match="broken"):
        made.execute()
    undo(made)

    assert seen == [(INTERRUPTED, True, ["half"])]


def test_undo_is_not_run_for_what_did_not_begin_and_only_once_for_what_did():
    seen: list[str] = []

    @task
    def work(): ...

    @work.undo
    def _():
        seen.append("undone")

    undo(work())
    assert seen == []

    made = work()
    made.execute()
    undo(made)
    undo(made)
    assert seen == ["undone"]


def test_the_undo_of_one_function_is_not_that_of_another():
    @task
    def one(): ...

    @task
    def other(): ...

    @one.undo
    def _():
        raise AssertionError("the wrong undo")

    made = other()
    made.execute()
    undo(made)


def test_a_later_undo_takes_the_place_of_an_earlier_one():
    seen: list[str] = []

    @task
    def work(): ...

    @work.undo
    def first():
        seen.append("first")

    @work.undo
    def second():
        seen.append("second")

    made = work()
    made.execute()
    undo(made)

    assert seen == ["second"]


def test_a_function_with_its_undo_can_be_bound():
    @task
    def work(): ...

    @work.undo
    def _(): ...

    made = work()
    made.bind(DetachedRun())

    assert made.bound


def test_in_a_flow_functions_are_undone_newest_first():
    log: list[Any] = []

    def step(name: str) -> type[FunctionTask]:
        @task(name=name, provides=name)
        def run():
            log.append(name)
            return name.upper()

        @run.undo
        def _(result):
            log.append(result)

        return run

    @task
    def fail(a, b):
        raise ValueError(f"{a}{b} is broken")

    flow = linear_flow.Flow("line").add(step("a")(), step("b")(), fail())
    with pytest.raises(ValueError, match="AB is broken"):
        engines.run(flow)

    assert log == ["a", "b", "B", "A"]


def test_what_only_the_undo_names_has_to_come_from_somewhere():
    @task
    def work(): ...

    @work.undo
    def _(owner): ...

    assert set(work().requires) == {"owner"}
    with pytest.raises(exceptions.MissingDependencies, match="owner"):
        engines.run(linear_flow.Flow("line").add(work()))


def test_a_function_of_a_module_can_be_pickled():
    copy = pickle.loads(pickle.dumps(importable()))

    assert isinstance(copy, importable)
    assert copy.execute(a=1) == 1


# -- what is refused


async def coroutine(): ...


async def async_generator():
    yield 1


def generator():
    yield 1


def positional_only(a, /, b): ...


def positional_only_after_self(self, a, /): ...


class Called:
    def __call__(self): ...


REFUSED = [
    (coroutine, "is async: a CancelableTask runs a plain"),
    (async_generator, "is async: a CancelableTask runs a plain"),
    (generator, "is a generator: return a result instead of yielding"),
    (positional_only, "has the positional-only parameter 'a': TaskFlow passes by name"),
    (positional_only_after_self, "has the positional-only parameter 'a': TaskFlow passes by name"),
    (functools.partial(generator), "a task is made of a plain function, not of functools.partial"),
    (Called(), "a task is made of a plain function, not of <"),
    (Called, "a task is made of a plain function, not of <class"),
    (len, "a task is made of a plain function, not of <built-in function len>"),
    ("sum-up", "a task is made of a plain function, not of 'sum-up'"),
    (Called().__call__, "a task is made of a plain function, not of <bound method"),
]


@pytest.mark.parametrize("decorate", [task, task(provides="total")], ids=["bare", "options"])
@pytest.mark.parametrize(("body", "told"), REFUSED, ids=lambda value: "" if isinstance(value, str) else None)
def test_a_function_that_cannot_be_run_as_a_task_is_refused(
    decorate: Callable[..., Any], body: Any, told: str
):
    with pytest.raises(TypeError) as caught:
        decorate(body)

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("body", "told"), REFUSED, ids=lambda value: "" if isinstance(value, str) else None)
def test_an_undo_that_cannot_be_run_is_refused_and_the_old_one_stays(body: Any, told: str):
    seen: list[str] = []

    @task
    def work(): ...

    @work.undo
    def _():
        seen.append("old")

    with pytest.raises(TypeError) as caught:
        work.undo(body)

    assert told in str(caught.value)
    made = work()
    made.bind(DetachedRun())
    made.execute()
    undo(made)
    assert seen == ["old"]


def test_options_are_given_by_name():
    with pytest.raises(TypeError):
        task(None, "total")
