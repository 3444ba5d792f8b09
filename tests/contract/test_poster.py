"""Posting and cancelling: what is stored and answered, and what is refused in one line that says why."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from taskflow.patterns import linear_flow

from ebbtide.errors import (
    EbbtideError,
    FlowNotFound,
    FlowRefused,
    ParameterError,
    PayloadTooLarge,
    UsageError,
)
from ebbtide.flows import Registry
from ebbtide.jobs import Job, Poster
from ebbtide.jobs.signals import Signal
from ebbtide.tasks import task

ODD = [
    "\x1b[31mred",
    "bell\a",
    "nul\0",
    "del\x7f",
    "\x9b31m",
    "half \ud800",
    "caf\udce9",
    "\u202etxt.exe",
    "\u2066x",
]


@task
def copy(): ...


def flow_of_copies(source: str, count: int = 3, names: list[str] | None = None):
    return linear_flow.Flow("copy").add(copy())


def broken(): ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.flow("copy")(flow_of_copies)
    registry.flow("copy", version=2)(lambda source: linear_flow.Flow("copy").add(copy()))
    registry.flow("broken")(broken)
    return registry


@pytest.fixture
def poster(made: str, registry: Registry) -> Iterator[Poster]:
    with Poster(made, registry=registry) as opened:
        yield opened


@pytest.fixture
def post(poster: Poster) -> Callable[..., Job]:
    return lambda **options: poster.post("copy", {"source": "/data"}, version=1, **options)


def refused(call: Callable[[], Any], kind: type[EbbtideError] = UsageError) -> str:
    """What a refused call tells: always one short printable line."""
    with pytest.raises(kind) as caught:
        call()
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < 600
    return told


def nothing_is_stored(poster: Poster) -> bool:
    return poster.list() == []


# -- posting


def test_what_is_posted_is_there(poster):
    job = poster.post(
        "copy", {"source": "/data"}, version=1, labels={"team": "a"}, priority=7, delay_seconds=60
    )

    assert (job.flow, job.version, job.state, job.phase) == ("copy", 1, "pending", "scheduled")
    assert job.params == {"source": "/data", "count": 3, "names": None}
    assert (job.labels, job.priority) == ({"team": "a"}, 7)
    assert job.due_at >= job.created_at + 60
    assert poster.show(job.id) == job
    assert poster.list() == [job]


def test_the_newest_version_is_posted_unless_one_is_named(poster):
    assert poster.post("copy", {"source": "x"}).version == 2
    assert poster.post("copy@1", {"source": "x"}).version == 1


@pytest.mark.parametrize(
    "flow", ["", "cpy", "Copy", "copy@9", "../copy", "copy; DROP TABLE jobs", *ODD, "x" * 10**6]
)
def test_an_unknown_flow_is_refused_and_the_known_ones_named(poster, flow):
    told = refused(lambda: poster.post(flow, {"source": "x"}), FlowNotFound)

    assert "copy" in told
    assert nothing_is_stored(poster)


def test_a_flow_that_cannot_be_built_is_refused_at_the_post(poster):
    refused(lambda: poster.post("broken"), FlowRefused)

    assert nothing_is_stored(poster)


@pytest.mark.parametrize(
    ("params", "problems"),
    [
        ({}, {"source": "missing"}),
        (None, {"source": "missing"}),
        ({"source": "x", "sorce": "y"}, {"sorce": "unknown parameter (did you mean 'source'?)"}),
        ({"source": 1}, {"source": "should be a text, not 1"}),
        ({"source": "x", "count": "3"}, {"count": "should be a whole number, not '3'"}),
        ({"source": "x", "count": True}, {"count": "should be a whole number, not true"}),
        ({"source": "x", "count": math.nan}, {"count": "it is nan, which JSON does not have"}),
        ({"count": 1.5, "other": 0}, {"source": "missing", "count": None, "other": None}),
        ({"source": "caf\udce9"}, {"source": "holds text that is not valid Unicode"}),
        ({"source": "x", "names": [1, "y"]}, {"names": None}),
    ],
    ids=ascii,
)
def test_parameters_that_do_not_fit_are_refused_by_name(poster, params, problems):
    with pytest.raises(ParameterError) as caught:
        poster.post("copy", params, version=1)

    told = dict(caught.value.problems)
    assert set(told) == set(problems)
    assert all(text in (None, told[name]) for name, text in problems.items())
    assert nothing_is_stored(poster)


@pytest.mark.parametrize("params", [["source"], "source=x", 7, {"source"}], ids=repr)
def test_parameters_are_a_mapping(poster, params):
    assert "given by name" in refused(lambda: poster.post("copy", params))


def test_a_parameter_of_two_megabytes_is_refused(poster):
    with pytest.raises(PayloadTooLarge) as caught:
        poster.post("copy", {"source": "x" * 2**21}, version=1)

    assert caught.value.size > caught.value.limit == 2**20
    assert "keep the data in a file" in str(caught.value)
    assert nothing_is_stored(poster)


def test_parameters_just_below_the_limit_are_stored_whole(poster):
    text = "x" * (2**20 - 100)

    assert poster.post("copy", {"source": text}, version=1).params["source"] == text


@pytest.mark.parametrize("limit", [2_000, 2**22])
def test_the_limit_of_parameters_is_an_argument(made, registry, limit):
    room = limit - len('{"source":"","count":3,"names":null}')
    with Poster(made, registry=registry, max_parameter_bytes=limit) as poster:
        assert poster.post("copy", {"source": "x" * room}, version=1).params["source"] == "x" * room
        with pytest.raises(PayloadTooLarge) as caught:
            poster.post("copy", {"source": "x" * (room + 1)}, version=1)

    assert (caught.value.size, caught.value.limit) == (limit + 1, limit)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1024", None], ids=repr)
def test_the_limit_of_parameters_is_a_whole_number(made, registry, limit):
    with pytest.raises(UsageError, match="max_parameter_bytes should be a whole number"):
        Poster(made, registry=registry, max_parameter_bytes=limit)


@pytest.mark.parametrize("text", ["nul \0", "esc \x1b"], ids=ascii)
def test_a_text_with_control_characters_comes_back_as_it_was(poster, text):
    job = poster.post("copy", {"source": text}, version=1)

    assert poster.show(job.id).params["source"] == text


def test_a_text_that_is_half_a_surrogate_pair_is_refused(poster):
    with pytest.raises(ParameterError) as caught:
        poster.post("copy", {"source": "half \ud800"}, version=1)

    assert dict(caught.value.problems) == {"source": "holds text that is not valid Unicode"}
    assert nothing_is_stored(poster)


@pytest.mark.parametrize("priority", [-1001, 1001, 10**30, 0.5, math.nan, True, "high", None], ids=repr)
def test_a_priority_is_a_whole_number_within_limits(poster, post, priority):
    assert "-1000 to 1000" in refused(lambda: post(priority=priority))
    assert nothing_is_stored(poster)


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, 10**30, True, "60", None], ids=repr)
def test_a_delay_is_a_number_of_seconds_within_limits(poster, post, seconds):
    assert "a number of seconds" in refused(lambda: post(delay_seconds=seconds))
    assert nothing_is_stored(poster)


LABELS = [
    {"": "x"},
    {"k": ""},
    {"k": "x" * 256},
    {"k" * 256: "x"},
    {1: "x"},
    {"k": 1},
    {"k": None},
    {"k": "a\nb"},
]


@pytest.mark.parametrize("labels", [*LABELS, *({"k": text} for text in ODD), ["k=x"], "k=x"], ids=ascii)
def test_labels_are_short_printable_texts_where_they_are_set_and_where_they_are_asked_for(
    poster, post, labels
):
    assert "label" in refused(lambda: post(labels=labels))
    assert "label" in refused(lambda: poster.list(labels=labels))
    assert nothing_is_stored(poster)


def test_more_labels_than_can_be_stored_are_refused(poster, post):
    many = {f"{number}-" + "k" * 240: "v" * 250 for number in range(4000)}

    assert "the labels" in refused(lambda: post(labels=many), PayloadTooLarge)


def test_labels_of_any_language_are_kept(poster, post):
    labels = {"équipe": "日本", "x y": "a=b,c", "k" * 255: "v" * 255}

    job = post(labels=labels)

    assert poster.show(job.id).labels == labels
    assert [each.id for each in poster.list(labels={"équipe": "日本"})] == [job.id]


# -- cancelling


def test_a_cancel_is_answered_with_the_job_and_its_request(poster, post):
    answer = poster.cancel(post().id, reason="wrong folder", who="bob")

    assert (answer.answer, answer.job.state, answer.job.undo) == ("accepted", "cancelled", "none")
    assert (answer.job.cancel.reason, answer.job.cancel.who) == ("wrong folder", "bob")


def test_a_cancel_is_rung_ahead_and_again_once_it_is_stored(made, registry, monkeypatch):
    rung = []

    class Noting(Signal):
        def ring_ahead(self, job_id):
            rung.append(("ahead", job_id))

        def ring(self, job_id):
            rung.append(("stored", job_id))

        def changed(self):
            return False

    monkeypatch.setattr("ebbtide.jobs.poster.open_signal", lambda store, settings: Noting())
    with Poster(made, registry=registry) as poster:
        job = poster.post("copy", {"source": "/data"}, version=1).id
        rung.clear()

        poster.cancel(job)

    assert rung == [("ahead", job), ("stored", job)]


def test_the_second_to_ask_learns_the_first_reason(poster, post):
    job = post()
    poster.cancel(job.id, reason="first", who="bob")

    answer = poster.cancel(job.id, reason="second", who="eve")

    assert answer.answer == "already requested"
    assert (answer.job.cancel.reason, answer.job.cancel.who) == ("first", "bob")


def test_who_asks_is_the_user_of_this_process_unless_named(poster, post, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ann\x1b[31m\ud800")

    who = poster.cancel(post().id).job.cancel.who

    assert who == "ann\\x1b[31m\\ud800"


def test_a_user_without_a_name_is_unknown(poster, post, monkeypatch):
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)

    assert poster.cancel(post().id).job.cancel.who == "unknown"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("", ""),
        ("  wrong\n\n\tfolder \r\n", "wrong folder"),
        ("a\u2028b\u00a0c\u3000d\x1fe", "a b c d e"),
        ("日本語 😀 👩‍🚀 \u05d0\u05d1\u200f", "日本語 😀 👩‍🚀 \u05d0\u05d1\u200f"),
        ("' OR '1'='1", "' OR '1'='1"),
        ("x" * 1000, "x" * 1000),
        (" " * 5000 + "x" * 1000 + "\n" * 5000, "x" * 1000),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_reason_is_kept_on_one_line(poster, post, reason, kept):
    job = post()

    poster.cancel(job.id, reason=reason, who=reason[:200])

    assert poster.show(job.id).cancel.reason == kept
    assert poster.entries(job.id)[1].detail["reason"] == kept


@pytest.mark.parametrize("text", ODD, ids=ascii)
@pytest.mark.parametrize("field", ["reason", "who"])
def test_what_a_terminal_obeys_or_a_store_does_not_take_is_no_reason(poster, post, field, text):
    job = post()

    assert "leave it out" in refused(lambda: poster.cancel(job.id, **{field: text}))
    assert poster.show(job.id).phase == "pending"


@pytest.mark.parametrize(("field", "limit"), [("reason", 1000), ("who", 255)])
def test_a_reason_that_is_too_long_is_refused(poster, post, field, limit):
    job = post()

    told = refused(lambda: poster.cancel(job.id, **{field: "x" * (limit + 1)}))

    assert f"{limit + 1} characters; {limit} are allowed" in told
    assert poster.show(job.id).cancel is None


@pytest.mark.parametrize("reason", [None, 7, b"x", ["x"]], ids=repr)
def test_a_reason_is_a_text(poster, post, reason):
    job = post()

    assert "should be a text" in refused(lambda: poster.cancel(job.id, reason=reason))
