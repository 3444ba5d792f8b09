"""What the tasks that speak HTTP reckon and say: waits, addresses, a package that is missing."""

import pickle
import sys
from datetime import UTC, datetime

import pytest

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.http import (
    Client,
    ExtraMissing,
    Patience,
    RequestFailed,
    plain_url,
    require_httpx,
    retry_after,
    shown_url,
)
from ebbtide.tasks.http.client import _redirected


class Idle(CancelableTask):
    def execute(self):
        pass


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def test_waits_grow_up_to_their_limit_and_end():
    patience = Patience(4, 1.0, factor=3.0, longest_seconds=20.0)

    assert [patience.wait(failures) for failures in range(1, 6)] == [1.0, 3.0, 9.0, 20.0, None]


def test_what_the_server_asks_for_makes_a_wait_longer_never_shorter():
    patience = Patience(1, 60.0, longest_seconds=300.0)

    assert [patience.wait(1, asked) for asked in (None, 5.0, 120.0, 1e9)] == [60.0, 60.0, 120.0, 300.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 50, None),
        ("-5", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thursday, 01-Jan-26 12:00:10 GMT", 10.0),
        ("Thu, 99 Jan 2026 12:01:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize("text", ["https://host/a?b=c", "http://[::1]:8080/", "https://host"])
def test_a_plain_address_is_taken_as_it_is(text):
    assert plain_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host/a",
        "ftp://host/a",
        "file:///a",
        "http:///a",
        "http://u:secret@h/",
        "http://h:99999/",
        "http://h/a b",
    ],
)
def test_another_address_is_refused_without_being_repeated(text):
    with pytest.raises(ValueError, match=r"^should be a URL") as caught:
        plain_url(text)

    assert "secret" not in str(caught.value)


def test_an_address_is_shown_without_what_may_be_a_token():
    assert shown_url("https://user:secret@host:8443/path?token=secret#secret") == "https://host:8443/path"


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://a/b/c", "d", "http://a/b/d"),
        ("http://a/b", "https://c/", "https://c/"),
        ("http://a/b", "//c/d", "http://c/d"),
    ],
)
def test_a_redirect_leads_where_it_says(url, location, target):
    assert _redirected(url, location) == target


@pytest.mark.parametrize("location", ["http://a/", "file:///etc/passwd", "javascript:x", "http://[x/"])
def test_some_redirects_are_not_followed(location):
    with pytest.raises(RequestFailed, match=r"^https://a/b redirects ") as caught:
        _redirected("https://a/b?token=secret", location)

    assert not caught.value.passing
    assert "secret" not in str(caught.value)


def test_without_httpx_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)

    for attempt in (require_httpx, lambda: Client(Idle(), timeout_seconds=1)):
        with pytest.raises(ExtraMissing, match=r'^a request .* pip install "ebbtide\[http\]" where'):
            attempt()


def test_an_error_survives_the_way_to_another_process():
    error = RequestFailed("http://a/b", "answered\n503", "try again later", passing=True)

    assert str(pickle.loads(pickle.dumps(error))) == "http://a/b answered 503: try again later"
