"""Which flows this process knows. A job names its flow; nothing that is stored is ever imported."""

import importlib
import inspect
import keyword
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from ebbtide.errors import ConfigError, EbbtideError, FlowNotFound, FlowRefused
from ebbtide.flows.definition import FlowDefinition, check_identity
from ebbtide.flows.exclusive import WAIT
from ebbtide.flows.policies import Limits, OnFailure, RetryPolicy
from ebbtide.wording import one_line

__all__ = ["ENTRY_POINT_GROUP", "Registry", "flow", "load_flows", "load_function", "registered"]

ENTRY_POINT_GROUP = "ebbtide.flows"

Factory = TypeVar("Factory", bound=Callable[..., Any])

# Held while sys.path is longer than the user made it.
_importing = threading.RLock()


class Registry:
    """Flows by name and version. Safe to use from several threads."""

    def __init__(self) -> None:
        self._definitions: dict[tuple[str, int], FlowDefinition] = {}

    def flow(
        self,
        name: str,
        version: int = 1,
        *,
        returns: str | None = None,
        exclusive: str | None = None,
        limit: int | None = None,
        on_busy: str = WAIT,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        on_failure: OnFailure | None = None,
    ) -> Callable[[Factory], Factory]:
        """Decorator: register the factory below it, which stays the plain function that it is.

        Raises:
            FlowRefused: see `FlowDefinition.of` and `add`.
        """
        check_identity(name, version, returns)  # now: of a bare `@flow` nothing more would ever be called

        def register(factory: Factory) -> Factory:
            self.add(
                FlowDefinition.of(
                    name,
                    factory,
                    version=version,
                    returns=returns,
                    exclusive=exclusive,
                    limit=limit,
                    on_busy=on_busy,
                    retry=retry,
                    limits=limits,
                    on_failure=on_failure,
                )
            )
            return factory

        return register

    def add(self, definition: FlowDefinition) -> FlowDefinition:
        """Register `definition`. Registering the same function again is no conflict.

        Raises:
            FlowRefused: another factory has this name and version.
        """
        place = (definition.name, definition.version)
        present = self._definitions.setdefault(place, definition)
        if not _is_same_factory(present.factory, definition.factory):
            raise FlowRefused(
                definition.name,
                f"version {definition.version} is {_where(present.factory)} already, and now also "
                f"{_where(definition.factory)}: give one of them another name or version",
            )
        self._definitions[place] = definition  # the newer one of a module that was loaded again
        return definition

    def get(self, name: str, version: int | None = None) -> FlowDefinition:
        """The definition of ``name`` at `version`; without one the newest. ``name@version`` works too.

        Raises:
            FlowNotFound: listing what is known, the nearest name first.
        """
        wanted = one_line(name if version is None else f"{name}@{version}", 120)
        bare, at, digits = name.partition("@")
        if version is None and at and digits.isascii() and digits.isdigit() and len(digits) <= 10:
            name, version = bare, int(digits)
        versions = {found.version: found for found in self.definitions() if found.name == name}
        if not versions:
            raise FlowNotFound(wanted, _nearest_first(wanted, {found.name for found in self.definitions()}))
        if version is None:
            return versions[max(versions)]
        if version not in versions:
            raise FlowNotFound(wanted, [versions[each].key for each in sorted(versions, reverse=True)])
        return versions[version]

    def definitions(self) -> list[FlowDefinition]:
        """All definitions, by name, older versions first."""
        # copy() takes one step: another thread may be importing flows meanwhile.
        return sorted(self._definitions.copy().values(), key=lambda each: (each.name, each.version))


registered = Registry()
"""The registry of this process, which `@flow` fills."""


def flow(
    name: str,
    version: int = 1,
    *,
    returns: str | None = None,
    exclusive: str | None = None,
    limit: int | None = None,
    on_busy: str = WAIT,
    retry: RetryPolicy | None = None,
    limits: Limits | None = None,
    on_failure: OnFailure | None = None,
) -> Callable[[Factory], Factory]:
    """Register the function below as the factory of the flow `name`.

        @flow("copy-folder", returns="copied")
        def copy_folder(source: Path, destination: Path, exclude: list[str] = []):
            return linear_flow.Flow("copy-folder").add(Scan(), Copy())

    Its parameters are the flow's: values of the annotated types, checked when a job is posted. They
    reach the tasks by name. It is called for each run of each job and must then make flow and tasks
    anew; it does no I/O. Everything a job stores about its flow is the name and the version.

    Args:
        name: lower case; letters, digits, ``_``, ``.`` and ``-``; at most 100 characters.
        version: raise it when jobs of the old shape cannot be run by the new one.
        returns: which provided value is the job's result; None: the outputs nobody consumed.
        exclusive, limit, on_busy: how many of its jobs may run at once; see `Exclusive`. A limit alone is one
            for all jobs of the flow.
        retry: when a job that failed is tried again by itself; None: as the options `max_retries` and
            `retry_interval` say.
        limits: how long a job may take; None: as the option `job_timeout` says.
        on_failure: ``"undo"``, which is the default, or ``"hold"``: a task that failed for good leaves what
            was done in place and the job parked, for a person to go on from there.

    Each job may be posted with others.

    Raises:
        FlowRefused: the function, a policy or a parameter will not do; another one has this name and version.
    """
    return registered.flow(
        name,
        version,
        returns=returns,
        exclusive=exclusive,
        limit=limit,
        on_busy=on_busy,
        retry=retry,
        limits=limits,
        on_failure=on_failure,
    )


def load_flows(modules: Iterable[str] = ()) -> Registry:
    """Import what registers flows, and return the registry of this process.

    First the entry points of the group ``ebbtide.flows`` of every installed package (a module, or
    something in it), then `modules`, named by the user. A program started from a script has no
    current folder on its path, so while these are imported, and only then, the current folder is
    its last entry: ``myflows.py`` beside the user is found, and hides nothing that is installed.
    Safe to repeat: what is imported stays imported.

    Raises:
        ConfigError: a module cannot be imported; names it and says why.
    """
    for found in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda each: (each.name, each.value)):
        package = f" of {found.dist.name}" if found.dist else ""
        _import_or_refuse(f"entry point {found.name} = {found.value}{package}", found.load)
    named = [modules] if isinstance(modules, str) else list(modules)
    for name in named:
        _check_module_name(name)
    if named:
        with _current_folder_last_on_path():
            for name in named:
                _import_or_refuse(f"flow module {name}", partial(importlib.import_module, name), module=name)
    return registered


def load_function(reference: str, what: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` names; modules are found as `load_flows` finds them.

    Args:
        what: how an error names it.

    Raises:
        ConfigError: there is no such function, or its module cannot be imported.
    """
    module, colon, name = reference.partition(":")
    if not colon or not name.isidentifier():
        raise ConfigError(f"{what} {one_line(reference, 100)}: write it as package.module:function")
    _check_module_name(module)
    with _current_folder_last_on_path():
        _import_or_refuse(f"{what} {module}", partial(importlib.import_module, module), module=module)
    function: Callable[..., Any] | None = getattr(sys.modules[module], name, None)
    if not callable(function):
        raise ConfigError(f"{what} {reference}: module {module} has no function {name}")
    return function


def _import_or_refuse(what: str, load: Callable[[], object], *, module: str | None = None) -> None:
    try:
        load()
    except ModuleNotFoundError as exc:
        absent = module is not None and exc.name is not None and f"{module}.".startswith(f"{exc.name}.")
        where = "there is no such module, neither installed nor in the current folder"
        if module is not None and module.endswith(".py"):
            where = f"a module is named without .py: {module.removesuffix('.py')}"
        raise ConfigError(f"{what} cannot be imported: {where if absent else _reason(exc)}") from exc
    except (Exception, SystemExit) as exc:  # a module of the user's may raise anything, or be a script
        raise ConfigError(f"{what} cannot be imported: {_reason(exc)}") from exc


def _reason(error: BaseException) -> str:
    """What was raised, and the place in the user's own file where it came from."""
    if isinstance(error, EbbtideError):
        return str(error)
    text = one_line(error, 160)
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return told  # names file and line by itself
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if frame.filename != __file__ and "importlib" not in path.parts and not path.name.startswith("<"):
            return f"{told} ({path.name}, line {frame.lineno})"
    return told


def _check_module_name(name: object) -> None:
    parts = name.split(".") if isinstance(name, str) else []
    if not parts or not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        shown = one_line(name, 100)
        raise ConfigError(f"'{shown}' is not the name of a module: write it as in an import, package.module")


@contextmanager
def _current_folder_last_on_path() -> Iterator[None]:
    with _importing:
        try:
            folder = os.getcwd()
        except FileNotFoundError:  # somebody deleted it: nothing can be found in there
            yield
            return
        importlib.invalidate_caches()  # the finders may have looked before the user wrote the module
        added = folder not in sys.path and "" not in sys.path
        if added:
            sys.path.append(folder)
        try:
            yield
        finally:
            # By identity: the modules may have put the same folder there for themselves.
            if added:
                sys.path[:] = [each for each in sys.path if each is not folder]


def _is_same_factory(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both are the same function; also when its module was imported twice.

    The script of a user is `__main__`, and comes again under its own name as a flow module.
    """
    if one is other:
        return True
    first, second = inspect.unwrap(one), inspect.unwrap(other)
    if first.__closure__ or second.__closure__:
        return False
    return _origin(first) == _origin(second)


def _origin(factory: Any) -> tuple[str, str, int]:
    code = factory.__code__
    return factory.__qualname__, os.path.realpath(code.co_filename), code.co_firstlineno


def _where(factory: Any) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


def _nearest_first(name: str, known: Iterable[str]) -> list[str]:
    return sorted(known, key=lambda each: (-SequenceMatcher(None, name, each).ratio(), each))
