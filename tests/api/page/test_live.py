"""News for all tabs over one stream."""

import json

import httpx
import pytest

from ebbtide.api.limits import Limits
from tests.api.page.conftest import Browser


@pytest.fixture
def cookies(app, token):
    browser = Browser(app, headers={"Accept": "text/html"}, follow_redirects=False)
    assert browser.post("/login", data={"token": token()}).status_code == 303
    return dict(browser.cookies)


class Line:
    """A stream that is read news by news."""

    def __init__(self, response):
        self._lines = response.iter_lines()

    def news(self, event):
        """The next news of that event; what comes before it is passed over."""
        for line in self._lines:
            if line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
                if told["event"] == event:
                    return told
        raise AssertionError("the stream has ended")


def test_one_stream_tells_of_lists_and_of_jobs(serving, cookies, ann, post):
    first, second = post(), post()
    wanted = [("list", "?state=pending"), ("list", ""), ("job", first), ("job", second)]

    with httpx.stream("GET", f"{serving}/live", params=wanted, cookies=cookies, timeout=30) as response:
        line = Line(response)
        of = {line.news("snapshot")["of"] for _ in range(2)} | {line.news("touched")["of"] for _ in range(2)}
        ann.post(f"/api/v1/jobs/{first}/cancel")
        touched = line.news("touched")

    assert of == {"list:?state=pending", "list:", f"job:{first}", f"job:{second}"}
    assert touched["of"] == f"job:{first}"


def test_changes_of_a_row_have_its_words(serving, cookies, ann, post):
    job = post()

    with httpx.stream("GET", f"{serving}/live", params={"list": ""}, cookies=cookies, timeout=30) as response:
        line = Line(response)
        (row,) = line.news("snapshot")["data"]["jobs"]
        ann.post(f"/api/v1/jobs/{job}/cancel")
        changes = line.news("changes")["data"]

    assert (row["id"], row["phase"], row["asked"]) == (job, "pending", False)
    assert "params" not in row
    told = [(each["phase"], each["words"], each["asked"]) for each in changes["jobs"]]
    assert told == [("cancelled", "nothing had begun", True)]
    assert changes["counts"]["cancelled"] == 1


def test_a_job_that_is_removed_is_told_so_and_the_others_go_on(serving, cookies, ann, post):
    gone, kept = post(), post()
    wanted = [("job", gone), ("job", kept)]

    with httpx.stream("GET", f"{serving}/live", params=wanted, cookies=cookies, timeout=30) as response:
        line = Line(response)
        for _ in wanted:
            line.news("touched")
        ann.delete(f"/api/v1/jobs/{gone}")
        deleted = line.news("deleted")
        ann.post(f"/api/v1/jobs/{kept}/cancel")
        touched = line.news("touched")

    assert (deleted["of"], touched["of"]) == (f"job:{gone}", f"job:{kept}")


def test_what_cannot_be_watched_keeps_nothing_else_from_coming(serving, cookies, client, ann, post):
    foreign = (
        client("operator", "eve").post("/api/v1/jobs", json={"flow": "add", "params": {"a": 1}}).json()["id"]
    )
    mine = post()
    wanted = [("job", foreign), ("job", "nothing"), ("list", "?limit=x"), ("list", "?label=x"), ("job", mine)]

    with httpx.stream("GET", f"{serving}/live", params=wanted, cookies=cookies, timeout=30) as response:
        line = Line(response)
        gone = [line.news("deleted")["of"] for _ in range(4)]
        assert line.news("touched")["of"] == f"job:{mine}"

    assert gone == [f"job:{foreign}", "job:nothing", "list:?limit=x", "list:?label=x"]


def test_of_more_than_one_stream_may_tell_the_first_are_told_and_the_others_told_so(
    serving, cookies, ann, post
):
    mine = post()
    wanted = [("job", mine), *(("list", f"?text={number}") for number in range(100))]

    with httpx.stream("GET", f"{serving}/live", params=wanted, cookies=cookies, timeout=30) as response:
        line = Line(response)
        left = {line.news("left")["of"] for _ in range(61)}
        ann.post(f"/api/v1/jobs/{mine}/cancel")
        assert [line.news("touched")["of"] for _ in range(2)] == [f"job:{mine}"] * 2

    assert left == {f"list:?text={number}" for number in range(39, 100)}


def test_only_those_who_have_logged_in_are_told(anonymous):
    assert anonymous.get("/live", headers={"Accept": "text/event-stream"}).status_code == 401


def test_what_one_has_seen_already_is_not_kept_from_others(ann, serving, token, post):
    job, headers = post(), {"Authorization": f"Bearer {token()}"}
    url = f"{serving}/api/v1/jobs/{job}/events"

    def numbers(lines):
        return (int(line.removeprefix("id: ")) for line in lines if line.startswith("id: "))

    ahead = httpx.stream("GET", url, params={"after": 1000}, headers=headers, timeout=30)
    behind = httpx.stream("GET", url, headers=headers, timeout=30)
    with ahead as one, behind as other:
        next(one.iter_lines())
        seen = numbers(other.iter_lines())
        assert next(seen) == 1
        ann.post(f"/api/v1/jobs/{job}/pause")
        assert next(seen) == 2


class TestLimited:
    @pytest.fixture
    def limits(self):
        return Limits(streams=1)

    def test_a_stream_of_the_page_counts_as_one_of_those_that_a_caller_may_have(self, serving, cookies, post):
        wanted = [("job", post()), ("job", post())]

        with httpx.stream("GET", f"{serving}/live", params=wanted, cookies=cookies, timeout=30) as response:
            line = Line(response)
            assert {line.news("touched")["of"] for _ in wanted} == {f"job:{job}" for _, job in wanted}
            assert httpx.get(f"{serving}/live", params=wanted, cookies=cookies).status_code == 429
