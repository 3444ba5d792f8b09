"""A flow as a conductor has published it: what can be posted by somebody who has not its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.errors import FlowNotFound, ParameterError
from ebbtide.flows.exclusive import Exclusive
from ebbtide.flows.meant import Meant, Unfit
from ebbtide.flows.policies import DecidesPolicies, Limits, OnFailure, RetryPolicy
from ebbtide.flows.secret import FORMAT
from ebbtide.tasks import payload
from ebbtide.wording import one_line, unknown

if TYPE_CHECKING:
    from ebbtide.flows.definition import FlowDefinition

__all__ = ["PublishedFlow", "PublishedFlows"]

_NO_REFERENCE = "should be a reference, env:NAME or file:/ABSOLUTE/PATH; what was given is not shown"


@dataclass(frozen=True)
class PublishedFlow(DecidesPolicies):
    """Name, version and the JSON schema of the parameters. Its names are those of a `FlowDefinition`.

    Parameters are checked against the schema alone. What only the flow's own code could refuse is found by
    the conductor, when it builds the flow.
    """

    name: str
    version: int
    returns: str | None
    doc: str
    parameters: dict[str, Any]
    retry: RetryPolicy | None = None
    limits: Limits | None = None
    on_failure: OnFailure | None = None
    exclusive: Exclusive | None = None

    @classmethod
    def of(cls, definition: FlowDefinition) -> PublishedFlow:
        return cls(
            name=definition.name,
            version=definition.version,
            returns=definition.returns,
            doc=definition.doc,
            parameters=definition.schema(),
            retry=definition.retry,
            limits=definition.limits,
            on_failure=definition.on_failure,
            exclusive=definition.exclusive,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PublishedFlow:
        """The inverse of `as_dict`."""
        retry, limits, exclusive = (values.get(name) for name in ("retry", "limits", "exclusive"))
        typed = {
            "exclusive": None if exclusive is None else Exclusive(**exclusive),
            "retry": None if retry is None else RetryPolicy(**retry),
            "limits": None if limits is None else Limits(**limits),
        }
        return cls(**{**values, **typed})

    @property
    def key(self) -> str:
        """What is stored with a job: ``name@version``."""
        return f"{self.name}@{self.version}"

    def schema(self) -> dict[str, Any]:
        """JSON schema of the parameters; a new copy at each call."""
        return deepcopy(self.parameters)

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, defaults filled in. Raises ParameterError with each problem."""
        try:
            given = payload.decode(payload.encode(dict(params), "it", max_bytes=1 << 62))
        except payload.PayloadError as error:
            raise ParameterError(self.key, [("params", str(error))]) from error
        properties = self.parameters.get("properties", {})
        values = {
            name: given[name] if name in given else deepcopy(about["default"])
            for name, about in properties.items()
            if name in given or "default" in about
        }
        problems = [(name, "missing") for name in properties if name not in values]
        problems += [
            (name, f"unknown parameter ({unknown('one', name, properties, '').partition('; ')[2]})")
            if properties
            else (name, "unknown parameter (this flow takes none)")
            for name in given
            if name not in properties
        ]
        found = _validator(self.parameters).iter_errors(values)
        problems += [self._told(each) for each in found if each.absolute_path]
        if problems:
            raise ParameterError(self.key, problems)
        return values

    def parse(self, texts: Mapping[str, str], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`validate()` for what was typed on a command line, beside values that are `given` as they are."""
        properties, definitions = self.parameters.get("properties", {}), self.parameters.get("$defs", {})
        values: dict[str, Any] = dict(given or {})
        problems: list[tuple[str, str]] = []
        for name, text in texts.items():
            try:
                values[name] = Meant.of(properties[name], definitions)(text) if name in properties else text
            except Unfit as error:
                problems.append((name, str(error)))
        if problems:
            raise ParameterError(self.key, problems)
        return self.validate(values)

    def _told(self, error: Any) -> tuple[str, str]:
        """The parameter, and what is wrong with it; never a text that may be a secret."""
        name, *inside = error.absolute_path
        if FORMAT in str(self.parameters["properties"][name]):
            return str(name), _NO_REFERENCE
        place = "".join(f"[{step!r}]" for step in inside)
        return str(name), one_line(f"it{place}: {error.message}" if inside else error.message, 200)


class PublishedFlows:
    """Published flows, with the names of a `Registry` that readers use.

    Args:
        flows: by name, older versions first.
    """

    def __init__(self, flows: Sequence[PublishedFlow]) -> None:
        self._flows = list(flows)

    def definitions(self) -> list[PublishedFlow]:
        """All of them, by name, older versions first."""
        return list(self._flows)

    def get(self, name: str, version: int | None = None) -> PublishedFlow:
        """As `Registry.get`: the flow ``name`` or ``name@version``; without a version the newest.

        Raises:
            FlowNotFound: listing what is published.
        """
        wanted = name if version is None else f"{name}@{version}"
        fitting = [each for each in self._flows if wanted in (each.name, each.key)]
        if not fitting:
            raise FlowNotFound(wanted, dict.fromkeys(each.name for each in self._flows))
        return fitting[-1]


def _validator(schema: Mapping[str, Any]) -> Any:
    # Imported here: only who posts by a published schema needs it.
    from jsonschema import Draft202012Validator, validators

    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict = validators.extend(Draft202012Validator, type_checker=checker)
    return strict(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
