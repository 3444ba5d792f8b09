"""A published flow takes and refuses what the flow itself does, as far as a schema can tell."""

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from ebbtide.errors import FlowNotFound, ParameterError
from ebbtide.flows import FlowDefinition, Limits, RetryPolicy, Secret
from ebbtide.flows.published import PublishedFlow, PublishedFlows


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def factory(
    a: int,
    share: float = 0.5,
    folder: Path = Path("/tmp"),
    names: list[str] = [],  # noqa: B006  # a flow's default is copied
    colour: Colour = Colour.RED,
    count: Annotated[int, Field(ge=1, le=3)] = 1,
    day: dt.date | None = None,
    token: Secret | None = None,
    anything: Any = None,
): ...


FLOW = FlowDefinition.of(
    "wide", factory, retry=RetryPolicy(3, errors=("OSError",)), limits=Limits(5), on_failure="hold"
)
PUBLISHED = PublishedFlow.from_dict(PublishedFlow.of(FLOW).as_dict())


@pytest.mark.parametrize(
    "given",
    [
        {"a": 1},
        {"a": 1, "share": 1},
        {"a": 1, "names": ["x"], "colour": "blue", "count": 3, "day": "2026-01-31"},
        {"a": 1, "token": "env:TOKEN", "anything": {"x": [1, None]}},
    ],
)
def test_what_fits_is_taken_and_defaults_are_filled_in(given):
    assert PUBLISHED.validate(given) == FLOW.validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"a": "1"},
        {"a": True},
        {"a": 1.0},
        {"a": 1, "share": "x"},
        {"a": 1, "names": ["x", 1]},
        {"a": 1, "names": "x"},
        {"a": 1, "colour": "green"},
        {"a": 1, "count": 4},
        {"a": 1, "day": "tomorrow"},
        {"a": 1, "b": 2},
        {"a": 1, "token": "hunter2"},
        {"a": {1, 2}},
    ],
)
def test_what_does_not_fit_is_refused_by_both_and_no_secret_repeated(given):
    for flow in (PUBLISHED, FLOW):
        with pytest.raises(ParameterError) as caught:
            flow.validate(given)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "texts",
    [
        {"a": "1", "names": '["x", "y"]', "folder": "/x"},
        {"a": "1", "names": "x", "share": "0.25"},
        {"a": "1", "names": "", "anything": "text"},
    ],
)
def test_texts_of_a_command_line_mean_the_same(texts):
    assert PUBLISHED.parse(texts) == FLOW.parse(texts)


def test_a_text_that_is_no_json_where_some_is_wanted_is_refused():
    with pytest.raises(ParameterError, match="names"):
        PUBLISHED.parse({"a": "1", "names": "[x"})


def test_its_policies_are_those_of_the_flow():
    from ebbtide.config import Settings

    settings = Settings(database="x")
    assert PUBLISHED.policies(settings) == FLOW.policies(settings)


def test_flows_are_found_by_name_and_version():
    older, newer = PUBLISHED, PublishedFlow.from_dict(PUBLISHED.as_dict() | {"version": 2})
    flows = PublishedFlows([older, newer])

    assert flows.get("wide") is newer
    assert flows.get("wide", 1) is flows.get("wide@1") is older
    for name, version in (("wide", 3), ("narrow", None), ("wide@x", None)):
        with pytest.raises(FlowNotFound, match="wide"):
            flows.get(name, version)
