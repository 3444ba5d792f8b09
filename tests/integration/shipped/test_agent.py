"""agent against an endpoint that streams, is busy, breaks off and stalls."""

import json
import threading

import pytest

from ebbtide.errors import ParameterError
from ebbtide.flows import agent as _registers  # noqa: F401
from ebbtide.flows.registry import registered
from ebbtide.tasks.agents import AnswerUnusable
from ebbtide.tasks.agents.events import Reader
from ebbtide.tasks.http import RequestFailed
from tests.services.endpoint import END, PATH, event, streams
from tests.services.flowrun import FlowRun
from tests.services.site import says

ANSWER = b": a comment\n\n" + event("") + event("Hel") + event("lo, ") + event("日本") + END


@pytest.fixture
def start(site):
    def call(**params):
        return FlowRun(
            "agent", {"prompt": "Say hello", "endpoint": site.url + "/v1", "model": "small", **params}
        )

    return call


def test_an_answer_is_streamed_and_its_tokens_are_counted(site, start):
    site.next(PATH, streams(*(ANSWER[at : at + 7] for at in range(0, len(ANSWER), 7))))

    run = start(instructions="Be short", max_tokens=9).forward()

    assert run.store["chunks"][:-1] == ["Hel", "lo, ", "日本"]
    assert run.result == {
        "text": "Hello, 日本",
        "finish": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 3,
    }
    (request,) = site.asked(PATH)
    assert json.loads(request.body) == {
        "model": "small",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be short"},
            {"role": "user", "content": "Say hello"},
        ],
        "max_tokens": 9,
    }
    assert "authorization" not in request.headers


def test_the_key_is_sent_and_an_error_of_the_endpoint_is_told_in_one_line(site, start):
    site.next(PATH, says(401, b'{"error":\n"wrong key"}'))
    run = start(key="env:KEY")
    run.store["key"] = "hushhush"  # as a runner does

    with pytest.raises(
        RequestFailed, match=r'answered 401 Unauthorized \(\{"error": "wrong key"\}\)'
    ) as caught:
        run.forward()

    assert site.asked(PATH)[0].headers["authorization"] == "Bearer hushhush"
    assert "hushhush" not in str(caught.value)


def test_a_busy_endpoint_is_asked_again_before_anything_has_come(site, start):
    site.next(PATH, says(429, retry_after="7"), says(503), streams(ANSWER))

    run = start().forward()

    assert run.result["text"] == "Hello, 日本"
    assert run.clock.elapsed == 7 + 2


def test_an_answer_that_breaks_off_is_no_answer_and_is_not_asked_for_twice(site, start):
    site.next(PATH, streams(event("Hel")))

    with pytest.raises(RequestFailed, match="broke off before the end of its answer"):
        start().forward()

    assert len(site.asked(PATH)) == 1


def test_cancelled_in_mid_stream_the_connection_is_closed_at_once(site, start):
    site.next(PATH, streams(event("Hel"), event("lo"), stall=True))
    run = start(timeout_seconds=3600)
    begun = threading.Thread(target=run.begin, args=("ask",))
    begun.start()
    assert site.stalled.wait(10)

    run.runs["ask"].cancel()
    begun.join()

    assert run.runs["ask"].cancelled
    run.back()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (says(200, b"{}"), "answered 200 with text/plain, which is no stream"),
        (streams(b"data: what\n\n"), "sent an event that is no piece of an answer"),
        (streams(b'data: {"choices": [{"delta": {"content": 5}}]}\n\n'), "is no piece of an answer"),
        (streams(b'data: {"error": {"message": "too\\nlong"}}\n\n'), "broke off, too long"),
    ],
)
def test_what_is_no_stream_of_an_answer_is_told(site, start, fault, words):
    site.next(PATH, fault)

    with pytest.raises(AnswerUnusable, match=words):
        start().forward()


def test_a_line_without_an_end_does_not_fill_the_memory():
    reader = Reader("http://host")

    with pytest.raises(AnswerUnusable, match="sent a line without an end"):
        for _ in range(20):
            reader.texts(b"x" * 100_000)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"endpoint": "http://me:hushhush@host/v1"}, "without a user in it"),
        ({"key": "hushhush"}, "should be a reference"),
        ({"prompt": ""}, "at least 1"),
    ],
)
def test_what_cannot_be_asked_is_refused_when_it_is_posted(changed, words):
    given = {"prompt": "Hello", "endpoint": "http://host/v1", "model": "small"}

    with pytest.raises(ParameterError, match=words) as caught:
        registered.get("agent").validate(given | changed)

    assert "hushhush" not in str(caught.value)
