"""@task: a plain function as a CancelableTask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.wrapping import wrap

__all__ = ["FunctionTask", "task"]


class FunctionTask(CancelableTask):
    """What `@task` makes of a function: a subclass whose execute is that function.

    Calling the class gives an atom for a flow; keyword arguments are TaskFlow's own (name,
    rebind, inject, provides, ...).
    """

    default_name: str | None = None

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name or self.default_name, **kwargs)

    @classmethod
    def undo(cls, function: Callable[..., Any]) -> type[FunctionTask]:
        """Decorator: `function` undoes what the task did. Names what it wants of result and the arguments.

        Returns the task class, so that the decorated name may be `_` or the task's own.
        """
        revert = wrap(cls, "revert", _as_method(function))
        setattr(cls, "revert", revert)  # noqa: B010  # assigning to a method is what mypy forbids
        return cls


def _as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    if not inspect.isfunction(function):
        raise TypeError(f"a task is made of a plain function, not of {function!r:.100}")
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        return function
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_kind(function) for is_kind in kinds):
        return function  # refused by wrap_class, which says why

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    # TaskFlow reads the signature of the bound method: it needs a `self` to drop.
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    del method.__wrapped__
    return method


@overload
def task(function: Callable[..., Any], /) -> type[FunctionTask]: ...
@overload
def task(
    *, provides: Any = None, name: str | None = None, grace_seconds: float | None = None
) -> Callable[[Callable[..., Any]], type[FunctionTask]]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    provides: Any = None,
    name: str | None = None,
    grace_seconds: float | None = None,
) -> type[FunctionTask] | Callable[[Callable[..., Any]], type[FunctionTask]]:
    """Make a task of a plain function; its undo is added by ``@that_task.undo``.

    A first parameter called ``self`` is given the task (checkpoint, report, job, ...).

        @task(provides="total")
        def add(a, b):
            return a + b

    Args:
        provides: the name, or names, under which other tasks find the result.
        name: the atom's name; default: the function's.
        grace_seconds: how long it may take to a checkpoint once a cancel is requested; default: as the
            option says.

    Raises:
        TypeError: the function cannot be run as a task.
    """

    def make(body: Callable[..., Any]) -> type[FunctionTask]:
        members = {
            "execute": _as_method(body),
            "default_name": name or body.__name__,
            "default_provides": provides,
            "grace_seconds": grace_seconds,
            "__doc__": body.__doc__,
            "__module__": body.__module__,
            "__qualname__": body.__qualname__,
        }
        return type(body.__name__, (FunctionTask,), members)

    return make(function) if function is not None else make
