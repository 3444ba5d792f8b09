"""What is refused when a task class is created, with what to do instead."""

import functools
from typing import Any

import pytest

from ebbtide.tasks import CancelableTask, Cancelled


async def coroutine(self): ...


async def async_generator(self):
    yield 1


def generator(self):
    yield 1


def plain(self): ...


def no_self(): ...


def keyword_only_self(*, self): ...


def takes_anything(*args): ...


def positional_only(self, a, /, b): ...


@pytest.mark.parametrize("verb", ["execute", "revert"])
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (coroutine, "is async: a CancelableTask runs a plain `def"),
        (async_generator, "is async: a CancelableTask runs a plain `def"),
        (generator, "is a generator: return a result instead of yielding"),
        (functools.partialmethod(plain), "is a partialmethod: write it as a plain method, `def"),
        (functools.partial(plain), "is a partial: write it as a plain method, `def"),
        (staticmethod(plain), "is a staticmethod: write it as a plain method, `def"),
        (classmethod(plain), "is a classmethod: write it as a plain method, `def"),
        (property(plain), "is a property: write it as a plain method, `def"),
        (len, "is a builtin_function_or_method: write it as a plain method, `def"),
        (None, "is a NoneType: write it as a plain method, `def"),
        (no_self, "takes no self: write it as a plain method, `def"),
        (keyword_only_self, "takes no self: write it as a plain method, `def"),
        (takes_anything, "takes no self: write it as a plain method, `def"),
        (positional_only, "has the positional-only parameter 'a': TaskFlow passes by name"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if not isinstance(value, str) else "",
)
def test_a_body_that_cannot_be_run_is_refused_with_what_to_do_instead(verb, body, told):
    members = {"execute": plain} | {verb: body}

    with pytest.raises(TypeError) as caught:
        type("Odd", (CancelableTask,), members)

    assert f"Odd.{verb} {told}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_body_that_comes_from_a_mixin_is_refused_by_the_class_that_takes_it():
    class Async:
        async def execute(self): ...

    with pytest.raises(TypeError, match=r"Taken\.execute is async"):

        class Taken(Async, CancelableTask): ...


NAMES = ["bind", "bound", "cancel", "checkpoint", "job", "report", "run", "shield", "sleep"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "member", [plain, property(plain), "text", None], ids=["def", "property", "str", "None"]
)
def test_a_name_that_running_relies_on_is_not_taken(name, member):
    with pytest.raises(TypeError, match=rf"Odd\.{name} hides CancelableTask\.{name}, .* another name$"):
        type("Odd", (CancelableTask,), {"execute": plain, name: member})


def test_a_name_is_not_taken_by_a_mixin_either():
    class Command:
        def run(self): ...

    with pytest.raises(TypeError, match=r"Taken\.run hides"):

        class Taken(Command, CancelableTask): ...  # type: ignore[misc]  # as the test says


def test_any_other_name_may_be_used():
    class Free(CancelableTask):
        _run = "mine"

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.body, self.args, self.kwargs, self.task, self.result = 1, 2, 3, 4, 5

        def _deliver(self) -> str:
            return "mine as well"

        def execute(self, task, body, args, kwargs, wants_result):
            return [self._run, self._deliver(), task, body, args, kwargs, wants_result]

        def revert(self, result, task, body, run, undo):
            self.seen = [result[0], task, body, run, undo]

    free = Free()
    free.cancel.set("x")
    with pytest.raises(Cancelled):
        free.execute(task=1, body=2, args=3, kwargs=4, wants_result=5)
    free = Free()

    result = free.execute(task=1, body=2, args=3, kwargs=4, wants_result=5)
    free.revert(task=1, body=2, run=3, undo=4, result=None, flow_failures={})

    assert result == ["mine", "mine as well", 1, 2, 3, 4, 5]
    assert free.seen == ["mine", 1, 2, 3, 4]


@pytest.mark.parametrize("grace", [-1, -0.1, float("nan"), float("inf"), "10", True, [1]], ids=repr)
def test_a_grace_that_is_no_number_of_seconds_is_refused(grace):
    with pytest.raises(TypeError, match=r"\.Odd\.grace_seconds is .*: give a number of seconds, 0"):
        type("Odd", (CancelableTask,), {"execute": plain, "grace_seconds": grace})


@pytest.mark.parametrize("grace", [None, 0, 2, 0.5, 86400.0])
def test_any_other_grace_is_that_of_the_task(grace):
    Fine = type("Fine", (CancelableTask,), {"execute": plain, "grace_seconds": grace})

    assert Fine().grace_seconds == grace
