"""Parameters of a flow: read from the factory's signature, strict, and told in words when they do not fit."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import re
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr

from ebbtide.errors import FlowRefused, ParameterError
from ebbtide.flows import FlowDefinition
from ebbtide.tasks import payload

UTC = dt.UTC


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(BaseModel):
    width: int
    height: int = 1


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(default=1, alias="w")


@dataclasses.dataclass
class Window:
    opens: dt.date
    where: Path = Path("here")


class Point(NamedTuple):
    x: int
    y: int


class Opaque:
    pass


class ComparedByIdentity:
    """Pydantic knows how to read it, and only its own serializer how to write it."""

    def __init__(self, text: str) -> None:
        self.text = text


ByIdentity = Annotated[
    Any,
    AfterValidator(lambda value: ComparedByIdentity(value)),
    PlainSerializer(lambda value: value.text, return_type=str),
]


def define(annotation: Any = None, **default: Any) -> FlowDefinition:
    """A flow with one parameter `x`."""

    def factory(x): ...

    factory.__annotations__ = {} if annotation is None else {"x": annotation}
    factory.__defaults__ = tuple(default.values()) or None
    return FlowDefinition.of("sample", factory)


def problems(call, *args) -> dict[str, str]:
    with pytest.raises(ParameterError) as caught:
        call(*args)
    assert caught.value.flow == "sample"
    return dict(caught.value.problems)


def problem(annotation: Any, value: Any) -> str:
    return problems(define(annotation).validate, {"x": value})["x"]


def refusal(factory) -> str:
    with pytest.raises(FlowRefused) as caught:
        FlowDefinition.of("sample", factory)
    return caught.value.problem


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def _told(value: Any) -> str:
    """The same in every process that collects: without addresses of functions."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


# -- which values are taken, and what is stored of them


@pytest.mark.parametrize(
    ("annotation", "given", "stored"),
    [
        (int, 3, 3),
        (int, -(10**4000), -(10**4000)),
        (float, 3, 3.0),
        (bool, False, False),
        (str, "3", "3"),
        (str, "line\nbreak \N{SNOWMAN}", "line\nbreak \N{SNOWMAN}"),
        (Path, Path("/data/in"), "/data/in"),
        (Path, "/data/in", "/data/in"),
        (list[Path], [Path("a"), "b"], ["a", "b"]),
        (tuple[str, ...], ("a", "b"), ["a", "b"]),
        (set[int], {3}, [3]),
        (dict[int, str], {1: "a"}, {"1": "a"}),
        (Point, Point(1, 2), [1, 2]),
        (Colour, Colour.RED, "red"),
        (Colour, "blue", "blue"),
        (Level, Level.HIGH, 2),
        (int, Level.HIGH, 2),
        (Literal["a", 1], 1, 1),
        (int | None, None, None),
        (int | str, "3", "3"),
        (int | str, 3, 3),
        (dt.date, dt.date(2026, 1, 31), "2026-01-31"),
        (dt.datetime, dt.datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (dt.timedelta, dt.timedelta(minutes=90), "PT1H30M"),
        (decimal.Decimal, decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Size, Size(width=2), {"width": 2, "height": 1}),
        (Size, {"width": 2}, {"width": 2, "height": 1}),
        (Closed, Closed(w=5), {"w": 5}),
        (Window, Window(dt.date(2026, 1, 31)), {"opens": "2026-01-31", "where": "here"}),
        (Annotated[int, Field(gt=0)], 1, 1),
        (ByIdentity, ComparedByIdentity("a"), "a"),
        (Any, {"a": [1, 2.5, None, True, "b"]}, {"a": [1, 2.5, None, True, "b"]}),
        (None, (1, (2,)), [1, [2]]),
        (None, nested(99), nested(99)),
    ],
    ids=_told,
)
def test_a_value_is_stored_as_json_and_stays_the_same_when_read_again(annotation, given, stored):
    definition = define(annotation)

    canonical = definition.validate({"x": given})

    assert canonical == {"x": stored}
    assert json.loads(json.dumps(canonical)) == canonical
    assert type(canonical["x"]) is type(stored)
    assert definition.validate(canonical) == canonical


@pytest.mark.parametrize(
    ("annotation", "canonical", "typed"),
    [
        (Path, "/data", Path("/data")),
        (tuple[Path, ...], ["a"], (Path("a"),)),
        (set[int], [1], {1}),
        (Colour, "red", Colour.RED),
        (dt.datetime, "2026-01-31T12:00:00Z", dt.datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (Size, {"width": 2, "height": 1}, Size(width=2)),
        (Window, {"opens": "2026-01-31", "where": "here"}, Window(dt.date(2026, 1, 31))),
        (Point, [1, 2], Point(1, 2)),
        (float, 3.0, 3.0),
        (None, [1], [1]),
    ],
    ids=repr,
)
def test_a_stored_value_comes_back_with_the_annotated_type(annotation, canonical, typed):
    values = define(annotation).parameters.typed({"x": canonical})

    assert values == {"x": typed}
    assert type(values["x"]) is type(typed)


# -- which are not, and how that is told


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (int, "abc", "should be a whole number, not 'abc'"),
        (int, "3", "should be a whole number, not '3'"),
        (int, True, "should be a whole number, not true"),
        (int, 3.0, "should be a whole number, not 3.0"),
        (int, None, "should be a whole number, not null"),
        (int, [1], "should be a whole number, not a list"),
        (int, {"a": 1}, "should be a whole number, not an object"),
        (float, "1", "should be a number, not '1'"),
        (bool, 1, "should be true or false, not 1"),
        (bool, "yes", "should be true or false, not 'yes'"),
        (str, 3, "should be a text, not 3"),
        (Path, 3, "should be a text, not 3"),
        (list[str], "a", "should be a list, not 'a'"),
        (dict, "a", "should be an object, not 'a'"),
        (Size, 3, "should be an object, not 3"),
        (Window, 3, "should be an object, not 3"),
        (Colour, "green", "should be 'red' or 'blue', not 'green'"),
        (Literal["a", "b"], "c", "should be 'a' or 'b', not 'c'"),
        (int | str, True, "should be a whole number or a text, not true"),
        (dt.datetime, "soon", "should be a date and time such as 2026-01-31T12:00:00Z, not 'soon'"),
        (dt.date, "2026-13-01", "should be a date such as 2026-01-31, not '2026-13-01'"),
        (dt.timedelta, "long", "should be a duration such as PT1H30M, not 'long'"),
        (uuid.UUID, "zz", "should be a UUID, not 'zz'"),
        (Annotated[int, Field(gt=0)], -1, "should be greater than 0, not -1"),
        (Annotated[str, Field(max_length=2)], "abc", "should have at most 2 characters, not 'abc'"),
        (Annotated[list[int], Field(min_length=2)], [1], "should have at least 2 items, not 1"),
        (None, {1, 2}, "it is a set, which is not JSON"),
        (None, Path("a"), "it is a PosixPath, which is not JSON"),
        (None, b"a", "it is a bytes, which is not JSON"),
        (None, {1: 2}, "it has the key 1: keys must be text"),
    ],
    ids=repr,
)
def test_a_wrong_value_is_told_in_words(annotation, value, text):
    assert problem(annotation, value) == text


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (list[str], ["a", 2], "[1] should be a text, not 2"),
        (Size, {}, "width is missing"),
        (Size, {"width": "x"}, "width should be a whole number, not 'x'"),
        (Closed, {"w": 1, "high": 2}, "high is not known"),
        (list[Size], [{"width": 1}, {"width": None}], "[1].width should be a whole number, not null"),
        (dict[str, list[int]], {"a": [1, "b"]}, "a[1] should be a whole number, not 'b'"),
        (tuple[int, int], [1], "[1] is missing"),
        (list[int] | Size, [None], "[0] should be a whole number, not null; should be an object, not a list"),
    ],
    ids=repr,
)
def test_a_wrong_value_inside_another_is_told_with_its_place(annotation, value, text):
    assert problem(annotation, value) == text


def test_of_many_wrong_items_three_are_told_and_the_rest_counted():
    told = problem(list[int], ["a"] * 10_000)

    assert told.count("should be") == 3
    assert told.endswith("; and 9997 more")


def test_long_and_unprintable_values_are_told_short_and_on_one_line():
    told = problem(int, "\x1b[31m\n" + "a" * 5000)

    assert told.isprintable()
    assert len(told) < 100


@pytest.mark.parametrize("annotation", [None, float, list[float], dict], ids=repr)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_refused_everywhere(annotation, number):
    value = {None: {"a": [number]}, float: number, dict: {"a": number}}.get(annotation, [number])

    assert "which JSON does not have" in problem(annotation, value)


def test_a_whole_number_too_large_for_a_float_is_refused_rather_than_stored_as_infinite():
    assert problem(float, 10**400) == "it is inf, which JSON does not have"


@pytest.mark.parametrize("annotation", [None, int], ids=repr)
def test_an_integer_of_more_digits_than_python_prints_is_refused(annotation):
    assert "digits" in problem(annotation, 10**5000)


@pytest.mark.parametrize("annotation", [None, list, dict], ids=repr)
@pytest.mark.parametrize("levels", [102, 200, 5000])
def test_a_value_nested_deeper_than_100_levels_is_refused(annotation, levels):
    value = nested(levels) if annotation is not dict else {"a": nested(levels - 1)}

    assert "deep" in problem(annotation, value) or "depth" in problem(annotation, value)


def test_what_is_accepted_stays_within_the_limit_of_depth_when_stored_with_all_parameters():
    definition = define()
    deepest = max(levels for levels in range(90, 110) if accepts(definition, nested(levels)))

    payload.encode(definition.validate({"x": nested(deepest)}), "the parameters")


def accepts(definition: FlowDefinition, value: Any) -> bool:
    try:
        definition.validate({"x": value})
    except ParameterError:
        return False
    return True


@pytest.mark.parametrize("annotation", [None, list], ids=repr)
def test_a_value_that_contains_itself_is_refused(annotation):
    value: list[Any] = []
    value.append(value)

    assert problem(annotation, value)


@pytest.mark.parametrize("annotation", [None, list, dict[str, Any], Size], ids=repr)
def test_an_object_that_nothing_can_write_as_json_is_refused(annotation):
    assert "JSON" in problem(annotation, [Opaque()])


@pytest.mark.parametrize("annotation", [None, str, Path], ids=repr)
def test_text_that_is_not_valid_unicode_is_refused(annotation):
    assert problem(annotation, "file-\udcff") == "holds text that is not valid Unicode"


def test_whatever_a_users_validator_raises_is_a_problem_of_its_parameter():
    def raises(value: int) -> int:
        raise KeyError("first line\nsecond")

    assert problem(Annotated[int, AfterValidator(raises)], 1).startswith("its check raised KeyError: ")


@pytest.mark.parametrize("text", ["must be even", "should be even"])
def test_what_a_users_validator_says_is_told_as_it_is(text):
    def refuses(value: int) -> int:
        raise ValueError(text)

    class Even(BaseModel):
        number: Annotated[int, AfterValidator(refuses)]

    assert problem(Annotated[int, AfterValidator(refuses)], 3) == text
    assert problem(Even, {"number": 3}) in (f"number {text}", f"number: {text}")


def test_a_type_that_cannot_be_read_back_from_its_json_is_refused_before_it_is_stored():
    one_way = Annotated[int, PlainSerializer(lambda value: f"<{value}>", return_type=str)]

    assert problem(one_way, 1).startswith("cannot be read back")


# -- names


def three(source: Path, count: int = 3, *, exclude: list[str] = ["a"]):  # noqa: B006  (a default is copied)
    """Do three things.

    In more words.
    """


def test_defaults_are_filled_in_and_every_problem_is_told_at_once():
    definition = FlowDefinition.of("sample", three)

    assert definition.validate({"source": "a"}) == {"source": "a", "count": 3, "exclude": ["a"]}
    assert problems(definition.validate, {"sorce": "a", "count": "b"}) == {
        "source": "missing",
        "sorce": "unknown parameter (did you mean 'source'?)",
        "count": "should be a whole number, not 'b'",
    }


def test_an_unknown_name_like_no_other_lists_the_known_ones():
    definition = FlowDefinition.of("sample", three)

    told = problems(definition.validate, {"source": "a", "zzz": 1})

    assert told == {"zzz": "unknown parameter (known: source, count, exclude)"}


def test_a_flow_without_parameters_says_so():
    definition = FlowDefinition.of("sample", lambda: None)

    assert definition.validate({}) == {}
    assert problems(definition.validate, {"a": 1}) == {"a": "unknown parameter (this flow takes none)"}


def test_a_default_is_a_new_value_at_each_call():
    definition = FlowDefinition.of("sample", three)
    definition.validate({"source": "a"})["exclude"].append("b")

    assert definition.validate({"source": "a"})["exclude"] == ["a"]


def test_names_that_pydantic_uses_itself_are_names_like_any_other():
    def factory(schema: int, model_config: int, _private: int, copy: int, json: int): ...

    given = {"schema": 1, "model_config": 2, "_private": 3, "copy": 4, "json": 5}

    assert FlowDefinition.of("sample", factory).validate(given) == given


# -- command-line texts


NO_JSON = 'begins with [ or { and is not the JSON that is wanted; a text in a list is written ["text"]'


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "3", 3),
        (float, "3", 3.0),
        (bool, "true", True),
        (str, "3", "3"),
        (str, "null", "null"),
        (str, '"a"', '"a"'),
        (str | None, "3", "3"),
        (Path, "3", "3"),
        (Colour, "red", "red"),
        (Level, "2", 2),
        (dt.date, "2026-01-31", "2026-01-31"),
        (int | None, "null", None),
        (int | str, "3", 3),
        (int | str, "x", "x"),
        (None, "3", 3),
        (None, '{"a": 1}', {"a": 1}),
        (None, "a word", "a word"),
        (None, "NaN", "NaN"),
        (Size, '{"width": 2}', {"width": 2, "height": 1}),
        (dict, '{"a": 1}', {"a": 1}),
        (list[str], '["a","b"]', ["a", "b"]),
        (list[str], "a,b", ["a,b"]),
        (list[str], "3", ["3"]),
        (list[str], '["[a-z]*.txt"]', ["[a-z]*.txt"]),
        (list[dict], '{"a": 1}', [{"a": 1}]),
        (str, "[a-z]*.txt", "[a-z]*.txt"),
        (str | list[str], '"[a-z]*.txt"', "[a-z]*.txt"),
        (list[str], '"a"', ["a"]),
        (list[str], "", []),
        (list[int], "3", [3]),
        (list[int], "[3]", [3]),
        (tuple[Path, ...], "a", ["a"]),
        (set[Path], "a", ["a"]),
        (list[str] | None, "null", None),
        (list[str] | None, "a", ["a"]),
    ],
    ids=repr,
)
def test_a_text_is_read_by_the_annotation(annotation, text, value):
    assert define(annotation).parse({"x": text}) == {"x": value}


@pytest.mark.parametrize(
    ("annotation", "text", "told"),
    [
        (int, "abc", "should be a whole number, not 'abc'"),
        (int, "", "should be a whole number, not ''"),
        (int, "true", "should be a whole number, not true"),
        (int, "9" * 5000, "should be a whole number, not '9999999999999999999999999999999999999...'"),
        (float, "NaN", "should be a number, not 'NaN'"),
        (float, "1e999", "it is inf, which JSON does not have"),
        (bool, "yes", "should be true or false, not 'yes'"),
        (list[int], "x", "[0] should be a whole number, not 'x'"),
        (None, "[" * 100_000, "it is nested deeper than 100 levels"),
        (list[str], '["a", b]', NO_JSON),
        (list[str], " [a-z]*.txt", NO_JSON),
        (list[str], '{"a": 1}', NO_JSON),
        (list[str] | None, '["a"', NO_JSON),
        (list[dict], '{"a": b}', NO_JSON),
        (str | list[str], '["a", b]', NO_JSON),
        (dict, '{"a": b}', NO_JSON),
        (None, "[1,", NO_JSON),
        (dict, '{"a": 1, "b": 2, "a": 1}', "an object in it has the key 'a' twice"),
        (list[dict], '[{"a": 1, "a": 2}]', "an object in it has the key 'a' twice"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_text_that_does_not_fit_is_told_like_a_value(annotation, text, told):
    assert problems(define(annotation).parse, {"x": text}) == {"x": told}


def test_texts_get_defaults_and_unknown_names_are_told_too():
    definition = FlowDefinition.of("sample", three)

    assert definition.parse({"source": "a", "count": "4"}) == {"source": "a", "count": 4, "exclude": ["a"]}
    assert problems(definition.parse, {"source": "a", "cuont": "4"}) == {
        "cuont": "unknown parameter (did you mean 'count'?)"
    }


# -- the schema


def test_the_schema_describes_exactly_what_is_stored():
    def factory(source: Path, size: Size, colour: Colour = Colour.RED, count: int = 3, anything=None): ...

    definition = FlowDefinition.of("sample", factory)
    schema = definition.schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)

    assert schema["required"] == ["source", "size"]
    assert schema["properties"]["count"] == {"type": "integer", "default": 3}
    assert schema["properties"]["colour"]["default"] == "red"
    assert validator.is_valid(definition.validate({"source": "a", "size": Size(width=1)}))
    assert not validator.is_valid({"source": "a", "size": {"width": 1}, "other": 1})
    assert not validator.is_valid({"source": "a"})


def test_the_schema_names_the_flow_and_tells_the_first_line_of_its_docstring():
    definition = FlowDefinition.of("sample", three, version=2)

    assert (definition.doc, definition.key) == ("Do three things.", "sample@2")
    assert definition.schema()["title"] == "sample@2"
    assert definition.schema()["description"] == "Do three things."


def test_a_schema_may_be_changed_by_whoever_asked_for_it():
    definition = FlowDefinition.of("sample", three)
    definition.schema()["properties"].clear()

    assert list(definition.schema()["properties"]) == ["source", "count", "exclude"]


# -- what a signature may hold


def test_variable_and_positional_only_parameters_are_refused():
    def with_args(*args): ...
    def with_kwargs(**kwargs): ...
    def positional(a, /): ...

    assert refusal(with_args).startswith("parameter 'args' is variadic positional")
    assert refusal(with_kwargs).startswith("parameter 'kwargs' is variadic keyword")
    assert refusal(positional).startswith("parameter 'a' is positional-only")


def test_names_that_taskflow_hands_to_tasks_itself_are_refused():
    def with_result(result): ...
    def with_failures(flow_failures): ...
    def with_history(history): ...

    for factory in (with_result, with_failures, with_history):
        assert "has a name that TaskFlow needs" in refusal(factory)


def test_a_default_that_does_not_fit_is_refused_where_the_flow_is_defined():
    def wrong(count: int = "3"): ...  # type: ignore[assignment]
    def nothing(count: int = None): ...  # type: ignore[assignment]  # noqa: RUF013
    def no_number(x=float("nan")): ...
    def field(count: int = Field(3)): ...

    assert "not '3'" in refusal(wrong)
    assert refusal(nothing).endswith("annotate it with `| None`")
    assert "which JSON does not have" in refusal(no_number)
    assert "inside Annotated" in refusal(field)


@pytest.mark.parametrize("annotation", [Opaque, type(len), "NoSuchName", "1 +", list[Opaque]], ids=repr)
def test_an_annotation_that_means_nothing_as_json_is_refused(annotation):
    with pytest.raises(FlowRefused):
        define(annotation)


def test_a_secret_is_refused_since_only_its_asterisks_would_be_stored():
    with pytest.raises(FlowRefused, match="parameter 'x': SecretStr would be stored as asterisks"):
        define(SecretStr)


def test_an_annotation_may_be_text_and_the_return_annotation_may_mean_nothing_here():
    def factory(where: "Path", size: "Size | None" = None) -> "OnlyForTypeCheckers": ...  # type: ignore[name-defined]  # noqa: F821

    definition = FlowDefinition.of("sample", factory)

    assert definition.parameters.typed({"where": "a", "size": None}) == {"where": Path("a"), "size": None}
