"""How execute() and revert() of a CancelableTask are wrapped when its class is created."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent, Cancelled
from ebbtide.tasks.limit import body_event, passed
from ebbtide.tasks.run import How, Missing, Undo

if TYPE_CHECKING:
    from ebbtide.tasks.base import CancelableTask

__all__ = [
    "SecretMissing",
    "TaskExited",
    "check_parameters",
    "describe",
    "end_execute",
    "executing",
    "is_wrapped",
    "mark_wrapped",
    "prepare_undo",
    "set_witness",
    "undoes_nothing",
    "undoes_nothing_at_all",
    "undoing",
    "witnessed",
    "wrap",
    "wrap_class",
    "wrap_revert",
]

_MARK = "__ebbtide_wrapped__"
_UNDOES_NOTHING = "__ebbtide_undoes_nothing__"

_Function = TypeVar("_Function", bound=Callable[..., Any])

Tell = Callable[[Any], None]
Witness = Callable[[str, "CancelableTask", Mapping[str, Any]], contextlib.AbstractContextManager[Tell]]

_witness: Witness | None = None


class TaskExited(RuntimeError):
    """A task raised something that is no Exception, such as SystemExit; or a retry controller anything.

    TaskFlow reverts only from an Exception; so the exit of one task becomes that task's failure. What was
    raised is not its cause: TaskFlow stores causes with a failure, and cannot store that one.
    """


class SecretMissing(RuntimeError):
    """An undo needs a secret that cannot be had any more."""


def describe(error: BaseException, hide: Callable[[str], str] = lambda text: text) -> str:
    """One line for an error, as people read it in `show`: its type and its text.

    Args:
        hide: takes out what may not be shown. It is asked before anything is cut, and once more after white
            space was folded, since either may hide or make what it looks for.
    """
    try:
        text = hide(" ".join(hide(str(error)).split()))[:1000]
    except Exception:  # noqa: BLE001  # of a user's __str__; the end of the task is still to be recorded
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def undoes_nothing(revert: _Function) -> _Function:
    """Decorator for a revert that does nothing, whatever it is given."""
    setattr(revert, _UNDOES_NOTHING, True)
    return revert


def undoes_nothing_at_all(cls: type[CancelableTask]) -> bool:
    """Whether the revert that a class has is one that does nothing."""
    return hasattr(inspect.unwrap(cls.revert), _UNDOES_NOTHING)


def refuse_missing(arguments: Mapping[str, Any]) -> None:
    """SecretMissing when one of the arguments cannot be given: a body must not take it for the secret."""
    for value in arguments.values():
        if isinstance(value, Missing):
            raise SecretMissing(value.why)


def set_witness(witness: Witness) -> None:
    """From now on, in this process, `witness` surrounds each body that runs, for a proof of what really runs.

    It is called as ``witness(verb, task, arguments)``; what its ``with`` gives is told the body's result.
    """
    global _witness
    _witness = witness


@contextlib.contextmanager
def witnessed(verb: str, task: CancelableTask, arguments: Mapping[str, Any]) -> Iterator[Tell]:
    """Surrounds the body itself, and nothing else; is told its result."""
    if _witness is None:
        yield lambda result: None
        return
    with _witness(verb, task, arguments) as tell:
        yield tell


def _run_body(
    verb: str, task: CancelableTask, body: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
) -> Any:
    if _witness is None:
        return body(task, *args, **kwargs)
    with _witness(verb, task, kwargs) as tell:
        result = body(task, *args, **kwargs)
        tell(result)
    return result


def is_wrapped(function: object) -> bool:
    # The mark names its function: functools.wraps copies marks, onto a decorator's function that is not ours.
    return function is not None and getattr(function, _MARK, None) is function


def mark_wrapped(wrapper: _Function) -> _Function:
    """`wrapper`, known from now on as a body with what belongs around it."""
    setattr(wrapper, _MARK, wrapper)
    return wrapper


def wrap_class(cls: type[CancelableTask]) -> None:
    """Wrap `cls.execute` and `cls.revert` as the class resolves them, unless they are wrapped already.

    They are resolved through the MRO: in ``class T(Mixin, CancelableTask)`` the body may come
    from a mixin that knows nothing of us.

    Raises:
        TypeError: a body that cannot be run as a task of its kind, with what to do instead.
    """
    for verb in ("execute", "revert"):
        function = inspect.getattr_static(cls, verb)
        if not is_wrapped(function) and not getattr(function, "__isabstractmethod__", False):
            setattr(cls, verb, cls._ebbtide_wrap(cls, verb, function))


def wrap(cls: type[CancelableTask], verb: str, function: Any) -> Callable[..., Any]:
    """`function`, wrapped as the execute or revert of `cls`, which is not touched.

    Raises:
        TypeError: as `wrap_class`.
    """
    _refuse_unrunnable(cls, verb, function)
    return _wrap_execute(function) if verb == "execute" else wrap_revert(function, _revert)


def _refuse_unrunnable(cls: type, verb: str, function: object) -> None:
    where = f"{cls.__module__}.{cls.__qualname__}.{verb}"
    if not inspect.isfunction(function):
        kind = type(function).__name__
        raise TypeError(f"{where} is a {kind}: write it as a plain method, `def {verb}(self, ...)`")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{where} is async: a CancelableTask runs a plain `def {verb}(self, ...)`; "
            "an AsyncTask runs this one"
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{where} is a generator: return a result instead of yielding")
    check_parameters(where, verb, function)


def check_parameters(where: str, verb: str, function: Callable[..., Any]) -> None:
    """Refuse a body that cannot be called by name as a method; `where` is how an error names it."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind in (parameters[0].VAR_POSITIONAL, parameters[0].KEYWORD_ONLY):
        raise TypeError(f"{where} takes no self: write it as a plain method, `def {verb}(self, ...)`")
    for parameter in parameters[1:]:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(
                f"{where} has the positional-only parameter {parameter.name!r}: TaskFlow passes by name"
            )


def _wrap_execute(body: Callable[..., Any]) -> Callable[..., Any]:
    # functools.wraps keeps TaskFlow's argument inspection right: it follows __wrapped__.
    @functools.wraps(body)
    def execute(self: CancelableTask, *args: Any, **kwargs: Any) -> Any:
        if type(self).execute is not execute:
            # Called through super(): the outermost wrapper has begun the task already.
            return body(self, *args, **kwargs)
        return _execute(self, body, args, kwargs)

    return mark_wrapped(execute)


def _execute(task: CancelableTask, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    run = task.run
    begun = run.begin(task.name)
    task.interrupted, task.saved = begun.interrupted, begun.saved
    with body_event(task) as event, executing(task, event), task.heeding(event):
        text = run.encode(_run_body("execute", task, body, args, kwargs), f"the result of {task.name}")
    return end_execute(task, text)


@contextlib.contextmanager
def executing(task: CancelableTask, event: CancelEvent) -> Iterator[None]:
    """Surrounds the body of an execute that has begun: the run is told how it was left, if not by returning.

    Args:
        event: the one that the body looks at.

    Raises:
        OutOfTime: its own limit is what it met.
        TaskExited: in place of what is no Exception.
    """
    run = task.run
    try:
        yield
    except Cancelled as error:
        late = passed(task, event)
        if late is not None:
            run.stopped(task.name, How.RAISED, describe(late, run.hide))
            raise late from None
        if error.returned:
            # Of some other body: only this one's own result may go with its end.
            error.args = error.args[:2]
        # Raised by hand, with nobody asking for a cancel, it is a failure as any other.
        how = How.CANCELLED if run.event.requested else How.RAISED
        run.stopped(task.name, how, describe(error, run.hide))
        raise
    except Exception as error:
        run.stopped(task.name, How.RAISED, describe(error, run.hide))
        raise
    except BaseException as error:  # noqa: BLE001  # it goes on as a TaskExited
        told = describe(error, run.hide)
        run.stopped(task.name, How.RAISED, told)
        raise TaskExited(f"{task.name} left with {told}") from None


def end_execute(task: CancelableTask, text: str) -> Any:
    """The body has returned `text`, as JSON: tell the run; returns what others are given for it.

    Raises:
        Cancelled: a cancel was requested meanwhile; the result goes with it.
    """
    run = task.run
    run.returned(task.name, text)
    result = payload.decode(text)
    if run.event.requested:
        run.delivered(task.name)
        raise Cancelled(run.event.reason, run.event.source, result)
    return result


def wrap_revert(body: Callable[..., Any], perform: Callable[..., Any]) -> Callable[..., Any]:
    """The wrapper of a revert, by `perform(task, body, arguments)`, which is given what `body` names."""
    signature = inspect.signature(body)
    parameters = list(signature.parameters.values())
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))

    def wanted(given: Mapping[str, Any]) -> dict[str, Any]:
        # TaskFlow always passes `result` and `flow_failures`; a body names only what it wants.
        return {name: value for name, value in given.items() if takes_any or name in names}

    @functools.wraps(body)
    def revert(self: CancelableTask, *args: Any, **kwargs: Any) -> Any:
        if type(self).revert is not revert:
            return body(self, *args, **wanted(kwargs))
        perform(self, body, wanted({"result": None} | kwargs))
        return None

    revert.wanted = wanted  # type: ignore[attr-defined]  # for whoever performs it otherwise

    if not takes_any:
        # What execute is given by `requires` or `rebind` TaskFlow gives to revert as well, and refuses the
        # task when that does not take it.
        rest = inspect.Parameter("_rest", inspect.Parameter.VAR_KEYWORD)
        revert.__signature__ = signature.replace(parameters=[*parameters, rest])  # type: ignore[attr-defined]
    return mark_wrapped(revert)


def prepare_undo(task: CancelableTask, undo: Undo, kwargs: dict[str, Any]) -> None:
    """Give the task, and the arguments of its revert, what is known of its execute."""
    task.interrupted, task.saved = undo.interrupted, undo.saved
    if "result" in kwargs:
        kwargs["result"] = undo.result


@contextlib.contextmanager
def undoing(task: CancelableTask, body: Callable[..., Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Surrounds the body of an undo that has begun: shielded, and the run is told how it ended.

    Raises:
        SecretMissing: it wants a secret that there is no more; it does not begin then.
        TaskExited: in place of what is no Exception.
    """
    run = task.run
    try:
        if not hasattr(body, _UNDOES_NOTHING):
            refuse_missing(kwargs)
        with run.event.shield():
            yield
    except Exception as error:
        run.end_undo(task.name, describe(error, run.hide))
        raise
    except BaseException as error:  # noqa: BLE001  # it goes on as a TaskExited
        told = describe(error, run.hide)
        run.end_undo(task.name, told)
        raise TaskExited(f"the undo of {task.name} left with {told}") from None
    run.end_undo(task.name, None)


def _revert(task: CancelableTask, body: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    undo = task.run.begin_undo(task.name)
    if undo is None:
        return
    prepare_undo(task, undo, kwargs)
    with undoing(task, body, kwargs):
        _run_body("revert", task, body, (), kwargs)
