"""The parameters of a flow: read from its factory's signature, checked with pydantic, kept as JSON.

A value goes one way only: Python value or command-line text -> JSON text -> checked by the annotation,
strictly -> canonical JSON. What is stored is therefore exactly what a later build reads, in whatever
process; and there is one set of rules, those of JSON: a text is no number, and true is no 1.
"""

import inspect
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from types import NoneType, SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ebbtide.errors import FlowRefused, ParameterError
from ebbtide.flows.docstrings import meanings
from ebbtide.flows.meant import Meant, Unfit
from ebbtide.flows.problems import tell
from ebbtide.flows.secret import FORMAT, Secret
from ebbtide.tasks import payload
from ebbtide.wording import one_line

__all__ = ["RESERVED", "Parameter", "Parameters"]

# TaskFlow hands these to tasks and retry controllers itself: as parameters they would never arrive.
RESERVED = frozenset({"result", "flow_failures", "history"})


class Parameter:
    """One parameter: what it accepts, and its default as JSON text (None: it must be given).

    Raises:
        TypeError, ValueError: the annotation cannot be kept as JSON, or the default does not fit it.
    """

    def __init__(self, name: str, annotation: Any, *, default: Any = inspect.Parameter.empty) -> None:
        self.name = name
        self._untyped = annotation is Any or annotation is object
        try:
            self.adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            schema = self.adapter.json_schema()
        except Exception as exc:  # pydantic's errors have no common base; a type's hooks may raise anything
            raise TypeError(
                f"{_shown_type(annotation)} cannot be kept as JSON: {_first_sentence(exc)}"
            ) from exc
        if _hides_secrets(schema):
            raise TypeError(
                f"{_shown_type(annotation)} would be stored as asterisks: annotate it with Secret "
                "(of ebbtide.flows), which says where it is kept"
            )
        self._secret = _is_secret(annotation)
        if not self._secret and _has(schema, lambda part: part.get("format") == FORMAT):
            raise TypeError(
                f"{_shown_type(annotation)} has a Secret inside: make it a parameter of its own, "
                "Secret or Secret | None"
            )
        self._meant = Meant.of(schema, schema.get("$defs", {}))
        self.default: str | None = None
        if default is not inspect.Parameter.empty:
            self.default = self._default_text(default)

    def canonical(self, value: Any) -> Any:
        """The JSON form of `value`, as stored: `typed` is sure to read it."""
        if self._secret and value is not None:
            # First of all: nothing below may meet what could be the secret itself, and tell of it.
            value = _reference(value)
        typed = self._read(self._encode(value))
        try:
            dumped = self.adapter.dump_python(
                typed, mode="json", by_alias=True, round_trip=True, warnings=False
            )
        except PydanticSerializationError as exc:
            raise Unfit(f"cannot be written as JSON: {exc}") from exc
        # Encoded again: a number may have become infinite on its way into a float.
        text = _json_text(dumped)
        try:
            self._read(text)
        except Unfit as exc:
            raise Unfit(f"cannot be read back from what would be stored: {exc}") from exc
        return payload.decode(text)

    def typed(self, canonical: Any) -> Any:
        """A fresh Python value of the annotated type, which shares nothing with any other."""
        return self._read(_json_text(canonical))

    def from_text(self, text: str) -> Any:
        """What a command-line text means; see `Meant`."""
        return self._meant(text)

    def _default_text(self, default: Any) -> str:
        if isinstance(default, FieldInfo):
            raise TypeError("write Field(...) inside Annotated[...] and the default as a plain value")
        try:
            return json.dumps(self.canonical(default))
        except Unfit as exc:
            hint = "; annotate it with `| None`" if default is None else ""
            raise ValueError(f"its default does not fit its annotation: {exc}{hint}") from exc

    def _encode(self, value: Any) -> str:
        if self._untyped:
            return _json_text(value)  # nothing here could turn the JSON back into what was given
        try:
            value = to_jsonable_python(value)
        except (PydanticSerializationError, ValueError) as exc:  # of unknown type; or it contains itself
            try:
                value = self.adapter.dump_python(value, mode="json", warnings="error")
            except (PydanticSerializationError, ValueError):
                raise Unfit(f"cannot be written as JSON: {exc}") from exc
        return _json_text(value)

    def _read(self, text: str) -> Any:
        try:
            return self.adapter.validate_json(text, strict=True)
        except ValidationError as exc:
            problems = exc.errors(include_url=False)
            raise Unfit(tell(problems, payload.decode(text))) from exc
        except Exception as exc:  # a validator of the user's own may raise anything; it is still bad input
            raise Unfit(f"its check raised {type(exc).__name__}: {one_line(exc)}") from exc


class Parameters:
    """All parameters of one flow, in the order of the factory's signature."""

    def __init__(self, flow: str, parameters: Collection[Parameter], meanings: Mapping[str, str]) -> None:
        self.flow = flow
        self._meanings = meanings
        self._by_name = {parameter.name: parameter for parameter in parameters}

    @classmethod
    def of(cls, flow: str, factory: Callable[..., Any]) -> "Parameters":
        """Read the signature of `factory`; FlowRefused names the parameter that cannot be one of a flow."""
        return cls(flow, list(_read_signature(flow, factory)), meanings(factory))

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def canonical(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Canonical JSON values, defaults filled in; ParameterError tells every problem at once."""
        values: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for name, parameter in self._by_name.items():
            if name in given:
                try:
                    values[name] = parameter.canonical(given[name])
                except Unfit as exc:
                    problems.append((name, str(exc)))
            elif parameter.default is not None:
                values[name] = payload.decode(parameter.default)
            else:
                problems.append((name, "missing"))
        problems += [(str(name), self._unknown(name)) for name in given if name not in self._by_name]
        if problems:
            raise ParameterError(self.flow, problems)
        return values

    def typed(self, canonical: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the annotated types for what `canonical()` returned; fresh ones at each call."""
        return {name: self._by_name[name].typed(value) for name, value in canonical.items()}

    def from_texts(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """The values that command-line texts mean. Unknown names stay; `canonical()` refuses them."""
        values: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for name, text in texts.items():
            try:
                values[name] = self._by_name[name].from_text(text) if name in self._by_name else text
            except Unfit as exc:
                problems.append((name, str(exc)))
        if problems:
            raise ParameterError(self.flow, problems)
        return values

    def schema(self, title: str, description: str) -> dict[str, Any]:
        """JSON schema of an object with these parameters."""
        # All at once: two parameters may use classes of one name, whose definitions must not collide.
        by_key, shared = TypeAdapter.json_schemas(
            (name, "validation", parameter.adapter) for name, parameter in self._by_name.items()
        )
        properties: dict[str, Any] = {}
        for name, parameter in self._by_name.items():
            properties[name] = by_key[name, "validation"]
            if parameter.default is not None:
                properties[name]["default"] = payload.decode(parameter.default)
            if name in self._meanings:
                properties[name].setdefault("description", self._meanings[name])
        schema: dict[str, Any] = {"title": title, "type": "object"}
        if description:
            schema["description"] = description
        schema["properties"] = properties
        schema["required"] = [name for name, parameter in self._by_name.items() if parameter.default is None]
        schema["additionalProperties"] = False
        return schema | shared

    def _unknown(self, name: object) -> str:
        if not self._by_name:
            return "unknown parameter (this flow takes none)"
        nearest = get_close_matches(str(name), self._by_name, n=1)
        if nearest:
            return f"unknown parameter (did you mean '{nearest[0]}'?)"
        return f"unknown parameter (known: {', '.join(self._by_name)})"


def _read_signature(flow: str, factory: Callable[..., Any]) -> Iterator[Parameter]:
    try:
        signature = inspect.signature(factory)
        hints = _resolved_hints(factory, signature)
    except Exception as exc:  # an annotation written as text is code of the user's: it may raise anything
        reason = f"{type(exc).__name__}: {one_line(exc)}"
        raise FlowRefused(flow, f"its annotations cannot be read: {reason}") from exc
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            kind = parameter.kind.description
            raise FlowRefused(flow, f"parameter '{name}' is {kind}: each must be one to be given by its name")
        if name in RESERVED:
            raise FlowRefused(flow, f"parameter '{name}' has a name that TaskFlow needs: call it otherwise")
        try:
            yield Parameter(name, hints.get(name, Any), default=parameter.default)
        except (TypeError, ValueError) as exc:
            raise FlowRefused(flow, f"parameter '{name}': {exc}") from exc


def _resolved_hints(factory: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    # Without the return annotation: that one is often importable for type checkers only.
    written = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not parameter.empty
    }
    names = getattr(inspect.unwrap(factory), "__globals__", {})
    return get_type_hints(SimpleNamespace(__annotations__=written), globalns=names, include_extras=True)


def _json_text(value: Any) -> str:
    try:
        # Inside a list, since it will be stored inside the object of all parameters: the limit of depth
        # counts that level. How much may be stored is for the poster to say.
        return payload.encode([value], "it", max_bytes=sys.maxsize)[1:-1]
    except payload.PayloadError as exc:
        raise Unfit(str(exc).replace("it[0]", "it", 1)) from exc


def _is_secret(annotation: Any) -> bool:
    """Whether it is Secret, or Secret and None."""
    if get_origin(annotation) is Annotated:
        return _is_secret(get_args(annotation)[0])
    return annotation is Secret or set(get_args(annotation)) == {Secret, NoneType}


def _reference(value: Any) -> str:
    try:
        return (value if isinstance(value, Secret) else Secret(value)).reference
    except ValueError as exc:
        raise Unfit(str(exc)) from None


def _hides_secrets(schema: Any) -> bool:
    # pydantic's SecretStr and SecretBytes are dumped as asterisks: the job would run with those.
    return _has(schema, lambda part: part.get("format") == "password" and bool(part.get("writeOnly")))


def _has(schema: Any, wanted: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether any part of a JSON schema is `wanted`."""
    if isinstance(schema, dict):
        return wanted(schema) or any(_has(each, wanted) for each in schema.values())
    return isinstance(schema, list) and any(_has(each, wanted) for each in schema)


def _shown_type(annotation: Any) -> str:
    return one_line(annotation.__name__ if isinstance(annotation, type) else annotation, 80)


def _first_sentence(error: BaseException) -> str:
    return one_line(str(error).partition("\n")[0].partition(". ")[0], 160)
