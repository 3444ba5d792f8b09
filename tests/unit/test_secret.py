"""Secret as the type of a parameter: it takes references, and never shows what it refuses."""

import copy
import pickle
import re
from typing import Annotated, Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import Field

from ebbtide.errors import FlowRefused, ParameterError
from ebbtide.flows import FlowDefinition, Secret

REFERENCES = [
    "env:TOKEN",
    "env:_",
    "env:a1_B",
    "env:MY_EBBTIDE_TOKEN",
    "file:/run/secrets/token",
    "file:/with blank/é",
    "file:/../x",
]
# The word is looked for in whatever is said of it.
REFUSED: list[Any] = [
    "hunter2",
    "",
    "env:",
    "env:1hunter2",
    "env:hun-ter2",
    "env:hunter2 ",
    " env:hunter2",
    "env:hunter2\n",
    "ENV:hunter2",
    "env:EBBTIDE_DATABASE",
    "env:EBBTIDE_hunter2",
    "file:hunter2",
    "file:/",
    "file:./hunter2",
    "file:~/hunter2",
    "file:/hunter2\n",
    "file:/hunter2\0",
    "file:/\x1b[31mhunter2",
    "file:/hunter2\ud800",
    "file:/" + "hunter2" * 1000,
    "vault:hunter2",
    "hunter2 env:TOKEN",
    b"hunter2",
    b"env:TOKEN",
    2,
    True,
    ["hunter2"],
    ["env:TOKEN"],
    {"hunter2": "hunter2"},
    {"reference": "env:TOKEN"},
    {"hunter2": {"hunter2"}},
    float("nan"),
]
KINDS: list[Any] = [Secret, Secret | None, Optional[Secret], Annotated[Secret | None, Field(description="x")]]  # noqa: UP045


def define(annotation: Any, **default: Any) -> FlowDefinition:
    def factory(token): ...

    factory.__annotations__ = {"token": annotation}
    factory.__defaults__ = tuple(default.values()) or None
    return FlowDefinition.of("sample", factory)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_is_taken_kept_as_it_is_and_given_to_the_factory_as_a_secret(reference, kind):
    definition = define(kind)

    assert definition.validate({"token": reference}) == {"token": reference}
    assert definition.validate({"token": Secret(reference)}) == {"token": reference}
    assert definition.parse({"token": reference}) == {"token": reference}
    assert definition.parameters.typed({"token": reference}) == {"token": Secret(reference)}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("value", REFUSED, ids=ascii)
def test_anything_else_is_refused_in_one_line_that_does_not_show_it(value, kind):
    with pytest.raises(ParameterError) as caught:
        define(kind).validate({"token": value})

    told = [str(caught.value), repr(caught.value), *dict(caught.value.problems).values()]
    assert dict(caught.value.problems)["token"].startswith("should be a reference, env:NAME")
    assert not re.search("hunter|DATABASE|\n", "".join(told))
    assert caught.value.__cause__ is None and caught.value.__context__ is None


@given(st.text())
def test_no_text_but_a_reference_is_a_secret_and_none_is_shown(text):
    try:
        secret = Secret(text)
    except ValueError as refused:
        assert str(refused).startswith("should be a reference")
        assert len(text) < 12 or text not in str(refused)
    else:
        assert text.startswith(("env:", "file:/")) and secret.reference == text


@pytest.mark.parametrize("value", ["hunter2", "env:EBBTIDE_X", None, 7, b"env:A"], ids=repr)
def test_a_secret_is_never_made_of_anything_else(value):
    with pytest.raises(ValueError, match="should be a reference") as caught:
        Secret(value)

    assert "hunter2" not in str(caught.value)


def test_null_is_for_a_secret_that_may_be_left_out():
    assert define(Secret | None).validate({"token": None}) == {"token": None}
    with pytest.raises(ParameterError):
        define(Secret).validate({"token": None})


def test_a_default_is_a_reference():
    assert define(Secret, token=Secret("env:TOKEN")).validate({}) == {"token": "env:TOKEN"}
    assert define(Secret | None, token=None).validate({}) == {"token": None}
    with pytest.raises(FlowRefused) as caught:
        define(Secret, token="hunter2")
    assert "should be a reference" in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [list[Secret], dict[str, Secret], Secret | str, Secret | int | None, tuple[Secret, Secret]],
    ids=str,
)
def test_a_secret_inside_something_else_is_refused_where_the_flow_is_defined(annotation):
    with pytest.raises(FlowRefused, match="make it a parameter of its own"):
        define(annotation)


@pytest.mark.parametrize("reference", REFERENCES)
def test_the_json_schema_takes_the_same_references(reference):
    schema = define(Secret).schema()

    assert schema["properties"]["token"]["format"] == "secret-reference"
    assert Draft202012Validator(schema).is_valid({"token": reference})
    for text in filter(lambda each: isinstance(each, str) and each.isprintable() and len(each) < 99, REFUSED):
        assert not Draft202012Validator(schema).is_valid({"token": text}), text


def test_it_is_where_the_secret_is_kept_in_every_form():
    secret = Secret("env:TOKEN")

    assert repr(secret) == str(secret) == "Secret(reference='env:TOKEN')"
    assert (secret.variable, secret.path) == ("TOKEN", None)
    assert (Secret("file:/a").variable, Secret("file:/a").path) == (None, "/a")
    assert pickle.loads(pickle.dumps(secret)) == copy.deepcopy(secret) == secret
