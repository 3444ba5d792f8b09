"""The API from end to end on each store: what one posts is found, followed, cancelled, retried and shown."""

import contextlib
import json

import httpx
import pytest

JOBS = "/api/v1/jobs"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def kind(response):
    return response.status_code, response.json()["type"].removeprefix("urn:ebbtide:problem:")


def ids(answer):
    return [job["id"] for job in answer["jobs"]]


@contextlib.contextmanager
def told(url, token, path, **query):
    """The events of a stream as (name, data)."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", url + path, params=query, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        yield _events(response.iter_lines())


def _events(lines):
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_what_is_posted_is_there_and_a_post_that_is_repeated_is_stored_once(ann, client):
    body = {"flow": "add", "params": {"a": 1}, "labels": {"team": "red"}}
    first, again = (ann.post(JOBS, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    job = first.json()

    assert (first.status_code, again.json()["id"]) == (201, job["id"])
    assert ann.get(f"{JOBS}/{job['id']}").json() == job
    assert (job["params"], job["labels"]) == ({"a": 1, "b": 2, "names": [], "note": ""}, {"team": "red"})
    assert [entry["name"] for entry in ann.get(f"{JOBS}/{job['id']}/entries").json()["entries"]] == ["posted"]
    assert kind(client("operator", "eve").get(f"{JOBS}/{job['id']}")) == (404, "job-not-found")


def test_a_list_goes_from_page_to_page_newest_first_and_filters_fit_together(ann, post):
    jobs = [post(labels={"team": "red" if number % 2 else "blue"}) for number in range(7)]
    found, cursor = [], {}
    while True:
        page = ann.get(JOBS, params={"limit": 3, **cursor}).json()
        found += ids(page)
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    ann.post(f"{JOBS}/{jobs[1]}/cancel")

    assert found == jobs[::-1]
    assert ids(ann.get(JOBS, params={"label": "team=red", "state": "pending"}).json()) == [jobs[5], jobs[3]]
    assert ids(ann.get(JOBS, params={"text": "BLU", "flow": "add"}).json()) == jobs[6::-2]
    assert ids(ann.get(JOBS, params={"text": jobs[2][:8]}).json()) == [jobs[2]]
    assert ids(ann.get(JOBS, params={"label": "team=%"}).json()) == []


def test_counts_tell_each_phase_apart(ann, post, begun):
    for job in (begun("pending"), begun("running"), post()):
        ann.post(f"{JOBS}/{job}/cancel")
    for _ in range(2):
        post()
    post(delay_seconds=3600.0)
    begun("running")
    begun("completed")

    counts = ann.get(f"{JOBS}/counts").json()["counts"]

    assert {phase: count for phase, count in counts.items() if count} == {
        "cancelling": 2,
        "cancelled": 1,
        "pending": 2,
        "scheduled": 1,
        "running": 1,
        "completed": 1,
    }


def test_a_cancel_is_accepted_known_too_late_or_of_nothing(ann, post, begun):
    running, queued, over = begun("running"), post(), begun("completed")

    accepted, known = (ann.post(f"{JOBS}/{running}/cancel", json={"reason": why}) for why in ("one", "two"))
    at_once = ann.post(f"{JOBS}/{queued}/cancel")
    late = ann.post(f"{JOBS}/{over}/cancel")

    assert [answer.status_code for answer in (accepted, known, at_once)] == [202, 200, 200]
    assert known.json()["cancel"]["reason"] == "one"
    assert at_once.json()["state"] == "cancelled"
    assert kind(late) == (409, "already-finished")
    assert kind(ann.post(f"{JOBS}/{UNKNOWN}/cancel")) == (404, "job-not-found")


def test_many_are_cancelled_by_their_labels_and_one_is_retried(ann, post):
    red = [post(labels={"team": "red"}) for _ in range(3)]
    blue = post(labels={"team": "blue"})
    body = {"labels": {"team": "red"}, "reason": "spring"}

    foretold = ann.post(f"{JOBS}/cancel", json=body | {"dry_run": True}).json()["answers"]
    done = ann.post(f"{JOBS}/cancel", json=body).json()["answers"]
    retried = ann.post(f"{JOBS}/{red[0]}/retry")

    assert {each["id"] for each in done} == {each["id"] for each in foretold} == set(red)
    assert {each["answer"] for each in done} == {"accepted"}
    assert (retried.status_code, ann.get(f"{JOBS}/{red[0]}").json()["attempt"]) == (200, 2)
    assert kind(ann.post(f"{JOBS}/{blue}/retry"))[0] == 409
    assert {job["id"]: job["state"] for job in ann.get(JOBS).json()["jobs"]} == {
        **dict.fromkeys(red[1:], "cancelled"),
        red[0]: "pending",
        blue: "pending",
    }


def test_lists_and_jobs_are_told_as_they_change(serving, token, ann, post):
    job = post()
    held = token()
    with (
        told(serving, held, "/api/v1/events", state="pending") as listed,
        told(serving, held, f"{JOBS}/{job}/events", until_rest="true") as followed,
        told(serving, held, "/live", job=job) as touched,
    ):
        assert next(listed)[1]["ids"] == [job]
        assert next(touched)[1] == {"of": f"job:{job}", "event": "touched", "data": {}}

        ann.post(f"{JOBS}/{job}/cancel", json={"reason": "spring"})

        assert next(data for _, data in listed if "ids" in data)["ids"] == []
        assert next(touched)[1]["event"] == "touched"
        names = [data["name"] for name, data in followed if name == "entry"]
    assert names == ["posted", "cancel_requested", "cancelled_unclaimed"]


@pytest.mark.parametrize("path", ["/", "/?state=cancelled&label=team%3Dred", "/jobs/{job}", "/conductors"])
def test_pages_show_what_is_stored(app, token, ann, post, path):
    job = post(labels={"team": "red"})
    ann.post(f"{JOBS}/{job}/cancel", json={"reason": "wrong folder"})
    headers = {"Authorization": f"Bearer {token()}", "Accept": "text/html"}

    page = ann.get(path.format(job=job), headers=headers)

    assert page.status_code == 200
    if path != "/conductors":
        assert job in page.text
        assert "cancelled" in page.text
    if "{job}" in path:
        assert "wrong folder" in page.text
