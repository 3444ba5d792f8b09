"""Live events: what changes reaches those who may see it, and a stream ends when it has to."""

import contextlib
import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ebbtide.api.limits import Limits
from ebbtide.errors import StoreUnavailable

EVENTS = "/api/v1/events"
JOBS = "/api/v1/jobs"


@pytest.fixture
def asking(serving, token):
    with httpx.Client(base_url=serving, headers={"Authorization": f"Bearer {token()}"}, timeout=20) as client:
        yield client


def events(response):
    """The events of a stream as (name, id, data)."""
    told = {}
    for line in response.iter_lines():
        if not line and "data" in told:
            yield told.get("event"), told.get("id"), json.loads(told["data"])
        if not line:
            told = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            told[name] = value.strip()


@contextlib.contextmanager
def stream(client, path, **options):
    with client.stream("GET", path, **options) as response:
        assert (response.status_code, response.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        yield events(response)


def until(found, fits):
    return next(each for each in found if fits(each))


def test_a_list_is_told_as_it_is_and_then_what_changes_in_it(asking, poster):
    ann = poster.acting_for("ann", jobs_of="ann")
    first = ann.post("add", {"a": 1})
    with stream(asking, EVENTS) as found:
        name, _, snapshot = next(found)
        second = ann.post("add", {"a": 2})
        ann.cancel(first.id)

        name_then, _, changes = until(
            found, lambda each: any(job["state"] == "cancelled" for job in each[2]["jobs"])
        )

    assert (name, name_then) == ("snapshot", "changes")
    assert snapshot["ids"] == [first.id]
    assert snapshot["counts"]["pending"] == 1
    assert "params" not in snapshot["jobs"][0]
    assert changes["counts"]["cancelled"] == 1
    assert {job["id"] for job in changes["jobs"]} <= {first.id, second.id}


def test_a_list_that_is_filtered_tells_of_what_leaves_it(asking, poster):
    ann = poster.acting_for("ann", jobs_of="ann")
    job = ann.post("add", {"a": 1})
    with stream(asking, EVENTS, params={"state": "pending"}) as found:
        assert next(found)[2]["ids"] == [job.id]
        ann.cancel(job.id)

        assert until(found, lambda each: "ids" in each[2])[2]["ids"] == []


def test_nobody_is_told_of_the_jobs_of_others(serving, poster, token):
    headers = {"Authorization": f"Bearer {token('viewer', 'eve')}"}
    anns = poster.acting_for("ann", jobs_of="ann").post("add", {"a": 1})
    with httpx.Client(base_url=serving, headers=headers, timeout=20) as eve, stream(eve, EVENTS) as found:
        assert next(found)[2]["jobs"] == []
        poster.acting_for("ann", jobs_of="ann").cancel(anns.id)
        mine = poster.acting_for("eve", jobs_of="eve").post("add", {"a": 1})

        changes = next(found)[2]

        assert [job["id"] for job in changes["jobs"]] == [mine.id]
        assert eve.get(f"{JOBS}/{anns.id}/events").status_code == 404


def test_a_job_is_followed_and_the_stream_resumed_at_an_entry(asking, poster):
    job = poster.acting_for("ann", jobs_of="ann").post("add", {"a": 1})
    with stream(asking, f"{JOBS}/{job.id}/events") as found:
        assert [(name, number) for name, number, _ in (next(found), next(found))] == [
            ("entry", "1"),
            ("job", None),
        ]
        poster.cancel(job.id, "spring")
        entry = next(found)

    assert (entry[1], entry[2]["name"]) == ("2", "cancel_requested")
    with stream(asking, f"{JOBS}/{job.id}/events", headers={"Last-Event-ID": "2"}) as found:
        assert [(name, number) for name, number, _ in (next(found), next(found))] == [
            ("entry", "3"),
            ("job", None),
        ]


def test_a_stream_that_is_to_end_at_rest_does_and_one_of_a_deleted_job_ends(asking, poster):
    job = poster.acting_for("ann", jobs_of="ann").post("add", {"a": 1})
    with stream(asking, f"{JOBS}/{job.id}/events", params={"until_rest": True}) as found:
        next(found)
        poster.cancel(job.id)
        assert [name for name, _, _ in found][-1] == "job"
    with stream(asking, f"{JOBS}/{job.id}/events") as found:
        next(found)
        poster.delete(job.id)
        assert [name for name, _, _ in found][-1] == "deleted"


def test_a_stream_that_nobody_can_look_for_ends_and_the_next_is_looked_for(asking, poster, monkeypatch):
    def broken():
        raise StoreUnavailable("no signal")

    ann = poster.acting_for("ann", jobs_of="ann")
    job = ann.post("add", {"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(poster, "signal", broken)
        with stream(asking, EVENTS) as found:
            assert [name for name, _, _ in found] == ["snapshot"]

    with stream(asking, EVENTS) as found:
        next(found)
        ann.cancel(job.id)
        until(found, lambda each: any(one["state"] == "cancelled" for one in each[2]["jobs"]))


def test_a_stream_ends_with_the_token_that_opened_it(asking, poster):
    with stream(asking, EVENTS) as found:
        next(found)
        for each in poster.credentials.tokens():
            poster.credentials.revoke(each.id)
        poster.acting_for("ann", jobs_of="ann").post("add", {"a": 1})

        assert len(list(found)) <= 1


class TestLimits:
    @pytest.fixture
    def limits(self):
        return Limits(streams=2)

    def test_one_caller_has_so_many_streams_and_no_more(self, asking):
        with stream(asking, EVENTS), stream(asking, EVENTS):
            assert asking.get(EVENTS).status_code == 429
        with stream(asking, EVENTS) as found:
            assert next(found)[0] == "snapshot"


# --- the same over a WebSocket


def socket(serving, query="", **headers):
    url = f"{serving.replace('http', 'ws', 1)}{EVENTS}/ws{query}"
    return connect(url, additional_headers=headers, open_timeout=20, close_timeout=5)


def test_a_socket_tells_the_same(serving, poster, token):
    ann = poster.acting_for("ann", jobs_of="ann")
    job = ann.post("add", {"a": 1})
    with socket(serving, f"?job={job.id}", Authorization=f"Bearer {token()}") as opened:
        told = [json.loads(opened.recv(20)) for _ in range(2)]
        ann.cancel(job.id)
        news = json.loads(opened.recv(20))

    assert [(each["event"], each["id"]) for each in told] == [("entry", 1), ("job", None)]
    assert (news["event"], news["data"]["name"]) == ("entry", "cancel_requested")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer ebt_wrong"}])
def test_a_socket_wants_a_token(serving, headers):
    with pytest.raises(InvalidStatus, match="403"):
        socket(serving, **headers)


@pytest.mark.parametrize("origin, opens", [("http://evil.example", False), ("", False), (None, True)])
def test_a_socket_of_a_browser_comes_from_a_page_of_ours(serving, token, origin, opens):
    with httpx.Client(base_url=serving) as browser:
        browser.post("/login", data={"token": token()})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"Cookie": cookie} | ({} if origin == "" else {"Origin": serving if origin is None else origin})

    with contextlib.ExitStack() as stack:
        if not opens:
            stack.enter_context(pytest.raises(InvalidStatus, match="403"))
        with socket(serving, **headers) as opened:
            assert json.loads(opened.recv(20))["event"] == "snapshot"


@pytest.mark.parametrize("query", ["?job=ffffffff", "?limit=0", "?nothing=1", "?label=x"])
def test_a_socket_that_asks_for_what_is_not_there_is_not_opened(serving, token, query):
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        socket(serving, query, Authorization=f"Bearer {token()}").recv(20)
