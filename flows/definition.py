"""FlowDefinition: what a registered flow is, and how a job's flow is built from stored parameters."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskflow import flow as taskflow_flow

from ebbtide.errors import FlowRefused, UsageError
from ebbtide.flows.atoms import check_flow
from ebbtide.flows.docstrings import told_plainly
from ebbtide.flows.exclusive import WAIT, Exclusive
from ebbtide.flows.parameters import Parameters
from ebbtide.flows.policies import DecidesPolicies, Limits, OnFailure, RetryPolicy, checked_on_failure
from ebbtide.wording import one_line

__all__ = ["FlowDefinition", "check_identity"]

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
_HIGHEST_VERSION = 2**31 - 1


@dataclass(frozen=True, eq=False, repr=False)
class FlowDefinition(DecidesPolicies):
    """A flow that jobs can be posted for: a name, a version, and the factory that builds it.

    Made by `@flow` or `FlowDefinition.of`. The name is stored with every job: a flow that is renamed
    leaves its jobs behind. Safe to use from several threads.

    Attributes:
        name: lower case; letters, digits, ``_``, ``.`` and ``-``; at most 100 characters.
        version: from 1; a job stays with the version that it was posted for.
        returns: which provided value is the job's result; None: the outputs nobody consumed.
        factory: the plain function that was registered.
        doc: first line of the factory's docstring, or "".
        parameters: of the factory's signature.
        retry, limits, on_failure: of each of its jobs that is posted with none of its own; None: as the
            options of whoever posts say.
        exclusive: how many of its jobs may run at once; None: any number.
    """

    name: str
    version: int
    returns: str | None
    factory: Callable[..., Any]
    doc: str
    parameters: Parameters
    retry: RetryPolicy | None = None
    limits: Limits | None = None
    on_failure: OnFailure | None = None
    exclusive: Exclusive | None = None

    @classmethod
    def of(
        cls,
        name: str,
        factory: Callable[..., Any],
        *,
        version: int = 1,
        returns: str | None = None,
        exclusive: str | None = None,
        limit: int | None = None,
        on_busy: str = WAIT,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        on_failure: OnFailure | None = None,
    ) -> "FlowDefinition":
        """Define a flow without registering it. The arguments are those of `@flow`.

        Raises:
            FlowRefused: name, version, `returns`, a policy, the kind of factory, one of its parameters, or
                its exclusive key will not do.
        """
        check_identity(name, version, returns)
        _check_policies(name, retry, limits, on_failure)
        _check_factory(name, factory)
        doc = told_plainly((inspect.getdoc(factory) or "").partition("\n")[0])
        parameters = Parameters.of(name, factory)
        shared = Exclusive.of(name, exclusive, limit, on_busy, list(parameters))
        return cls(
            name, version, returns, factory, doc, parameters, retry, limits, on_failure, exclusive=shared
        )

    @property
    def key(self) -> str:
        """What is stored with a job: ``name@version``."""
        return f"{self.name}@{self.version}"

    def schema(self) -> dict[str, Any]:
        """JSON schema of the parameters; a new copy at each call."""
        return self.parameters.schema(self.key, self.doc)

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as canonical JSON values, defaults filled in: what is stored with a job.

        Takes JSON values, and Python values of the annotated types (a Path, a datetime, an enum, a
        dataclass or a model), which are written as JSON first. Strict: "3" and True are no int. A
        parameter without annotation takes any JSON value.

        Raises:
            ParameterError: with each problem, by the name of its parameter.
        """
        return self.parameters.canonical(params)

    def parse(self, texts: Mapping[str, str], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`validate()` for what was typed on a command line, beside values that are `given` as they are.

        A parameter that takes texts (str, Path, a date, an enum of texts) keeps its text. Any other
        is read as JSON, else taken as it is. A list is JSON, or a single text for its one element;
        an empty text is the empty list.
        """
        return self.validate({**(given or {}), **self.parameters.from_texts(texts)})

    def build(self, params: Mapping[str, Any]) -> tuple[taskflow_flow.Flow, dict[str, Any]]:
        """A new flow, and the values of the parameters by name for its store.

        Calls the factory once. Parameters are validated again, so that a job which was posted before
        a parameter with a default was added still builds. Flow and store share no mutable value.

        Raises:
            ParameterError: the parameters do not fit (any more).
            FlowRefused: the factory raised, returned no flow or one it had returned before; an atom
                cannot be cancelled, has the name of another, or needs what nothing supplies.
        """
        canonical = self.validate(params)
        try:
            flow = self.factory(**self.parameters.typed(canonical))
        except (Exception, SystemExit) as exc:  # the user's code may raise anything; no flow came of it
            raise FlowRefused(self.name, f"its factory raised {type(exc).__name__}: {one_line(exc)}") from exc
        check_flow(self.name, flow, supplied=canonical, returns=self.returns)
        return flow, self.parameters.typed(canonical)

    def __repr__(self) -> str:
        return f"FlowDefinition({self.key})"


def check_identity(name: str, version: int, returns: str | None) -> None:
    """FlowRefused unless a flow may be registered under these; asks nothing of any registry."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FlowRefused(
            name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__),
            'a flow is registered as @flow("name"): a lower-case letter, then up to 99 of a-z 0-9 _ . -',
        )
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= _HIGHEST_VERSION:
        raise FlowRefused(name, f"its version should be a whole number from 1, not {version!r}")
    if returns is not None and (not isinstance(returns, str) or not returns):
        shown = one_line(repr(returns), 60)
        raise FlowRefused(name, f"returns= takes the name of one provided value, not {shown}")


def _check_policies(name: str, retry: object, limits: object, on_failure: object) -> None:
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise FlowRefused(name, f"retry= takes a RetryPolicy, not a {type(retry).__name__}")
    if limits is not None and not isinstance(limits, Limits):
        raise FlowRefused(name, f"limits= takes a Limits, not a {type(limits).__name__}")
    if on_failure is not None:
        try:
            checked_on_failure(on_failure)
        except UsageError as error:
            raise FlowRefused(name, str(error)) from None


def _check_factory(name: str, factory: Callable[..., Any]) -> None:
    if not inspect.isfunction(factory):
        raise FlowRefused(name, f"its factory should be a plain function, not {one_line(repr(factory), 100)}")
    body = inspect.unwrap(factory)
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_kind(body) for is_kind in kinds):
        raise FlowRefused(name, "its factory should return a flow, neither await nor yield")
