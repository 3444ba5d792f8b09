"""Jobs over HTTP: post, list, look, cancel, retry, delete; and each answer that is promised."""

import pytest
from starlette.testclient import TestClient

from ebbtide.errors import AnswerLost, CommitUnknown, StoreUnavailable
from ebbtide.jobs import Poster

JOBS = "/api/v1/jobs"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def kind(response):
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code
    return response.json()["type"].removeprefix("urn:ebbtide:problem:")


def test_a_post_answers_with_the_job_and_where_it_is(ann):
    response = ann.post(JOBS, json={"flow": "add", "params": {"a": 1}, "labels": {"team": "red"}})

    job = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"{JOBS}/{job['id']}"
    assert (job["flow"], job["version"], job["state"]) == ("add", 1, "pending")
    assert job["params"] == {"a": 1, "b": 2, "names": [], "note": ""}
    assert (job["labels"], job["posted_by"]) == ({"team": "red"}, "ann")
    assert ann.get(response.headers["location"]).json() == job


def test_a_post_that_is_repeated_with_its_key_is_stored_once(ann, client):
    body, key = {"flow": "add", "params": {"a": 1}}, {"Idempotency-Key": "k"}
    first, second = (ann.post(JOBS, json=body, headers=key) for _ in range(2))
    other = ann.post(JOBS, json=body | {"priority": 1}, headers=key)
    eves = client("operator", "eve").post(JOBS, json=body, headers=key)

    assert first.json()["id"] == second.json()["id"] != eves.json()["id"]
    assert (other.status_code, kind(other)) == (422, "idempotency-key-reused")
    assert ann.post(JOBS, json=body, headers={"Idempotency-Key": "x" * 256}).status_code == 400


def test_many_are_cancelled_after_it_was_asked_what_would_be(ann, post):
    red, blue = post(labels={"team": "red"}), post(labels={"team": "blue"})
    body = {"labels": {"team": "red"}, "reason": "spring"}

    asked = ann.post(f"{JOBS}/cancel", json=body | {"dry_run": True}).json()["answers"]
    assert ann.get(f"{JOBS}/{red}").json()["state"] == "pending"
    done = ann.post(f"{JOBS}/cancel", json=body).json()["answers"]

    assert asked == done == [{"id": red, "answer": "accepted", "state": "pending"}]
    assert ann.get(f"{JOBS}/{red}").json()["cancel"]["reason"] == "spring"
    assert ann.get(f"{JOBS}/{blue}").json()["state"] == "pending"
    assert kind(ann.post(f"{JOBS}/cancel", json={})) == "wrong-call"


def test_many_are_paused_and_resumed(ann, post):
    red, blue = post(labels={"team": "red"}), post(labels={"team": "blue"})
    body = {"labels": {"team": "red"}}

    paused = ann.post(f"{JOBS}/pause", json=body).json()["answers"]
    assert [ann.get(f"{JOBS}/{job}").json()["state"] for job in (red, blue)] == ["paused", "pending"]
    resumed = ann.post(f"{JOBS}/resume", json={"everything": True}).json()["answers"]

    assert paused == [{"id": red, "answer": "accepted", "state": "pending"}]
    assert resumed == [{"id": red, "answer": "accepted", "state": "paused"}]


def test_a_moment_has_a_zone(ann):
    body = {"flow": "add", "params": {"a": 1}}

    assert ann.post(JOBS, json=body | {"at": "2099-01-31T03:00:00Z"}).json()["phase"] == "scheduled"
    assert ann.post(JOBS, json=body | {"at": "2099-01-31T03:00:00"}).status_code == 422


def test_policies_are_posted_with_the_job(ann):
    body = {"flow": "add", "params": {"a": 1}, "retry": {"attempts": 3}, "limits": {"job_seconds": 5.0}}

    assert ann.post(JOBS, json=body).status_code == 201
    assert kind(ann.post(JOBS, json=body | {"retry": {"attempts": 0}})) == "invalid-body"


def test_parameters_are_checked_against_what_a_conductor_has_published(ann):
    for params, name in (
        ({}, "a"),
        ({"a": "1"}, "a"),
        ({"a": 1.0}, "a"),
        ({"a": True}, "a"),
        ({"a": 1, "names": ["x", 2]}, "names"),
        ({"a": 1, "c": 2}, "c"),
    ):
        response = ann.post(JOBS, json={"flow": "add", "params": params})
        assert (response.status_code, kind(response)) == (422, "invalid-parameters")
        assert [place for place, _ in response.json()["problems"]] == [name]


def test_what_may_be_a_secret_is_not_repeated(ann):
    response = ann.post(JOBS, json={"flow": "publish", "params": {"token": "hunter2"}})

    assert kind(response) == "invalid-parameters"
    assert "hunter2" not in response.text
    assert ann.post(JOBS, json={"flow": "publish", "params": {"token": "env:TOKEN"}}).status_code == 201


def test_lists_come_page_by_page_newest_first(ann, post):
    posted = [post() for _ in range(5)]
    found, cursor = [], None

    while cursor is not None or not found:
        page = ann.get(JOBS, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [job["id"] for job in page["jobs"]]
        assert all("params" not in job for job in page["jobs"])
        cursor = page["next"]

    assert found == posted[::-1]


@pytest.mark.parametrize(
    "query, wanted",
    [
        ({"state": "pending"}, {"red", "blue", "late"}),
        ({"state": "scheduled"}, {"late"}),
        ({"state": "cancelled"}, set()),
        ({"flow": "add"}, {"red", "blue", "late"}),
        ({"flow": "other"}, set()),
        ({"label": "team=red"}, {"red"}),
        ({"label": ["team=red", "team=blue"]}, {"blue"}),
        ({"text": "BLU"}, {"blue"}),
        ({"text": "ad"}, {"red", "blue", "late"}),
        ({"text": "%"}, set()),
        ({"text": "_"}, set()),
        ({"text": "\\"}, set()),
    ],
)
def test_lists_can_be_filtered(ann, post, query, wanted):
    for team in ("red", "blue"):
        post(labels={"team": team})
    post(labels={"team": "late"}, delay_seconds=3600.0)

    jobs = ann.get(JOBS, params=query).json()["jobs"]

    assert {job["labels"]["team"] for job in jobs} == wanted


def test_jobs_are_found_by_the_beginning_of_their_id(ann, post):
    job = post()

    assert [each["id"] for each in ann.get(JOBS, params={"text": job[:8]}).json()["jobs"]] == [job]
    assert ann.get(f"{JOBS}/{job[:8]}").json()["id"] == job


def test_counts_tell_every_phase(ann, post):
    post()
    post(delay_seconds=3600.0)
    ann.post(f"{JOBS}/{post()}/cancel")

    counts = ann.get(f"{JOBS}/counts").json()["counts"]

    assert {phase: count for phase, count in counts.items() if count} == {
        "pending": 1,
        "scheduled": 1,
        "cancelled": 1,
    }
    assert ann.get(f"{JOBS}/current").json() == {"jobs": [], "next": None}


def test_a_cancel_before_anything_began_is_done_at_once_and_asked_twice_the_same(ann, post):
    job = post()

    first = ann.post(f"{JOBS}/{job}/cancel", json={"reason": "wrong folder"})
    second = ann.post(f"{JOBS}/{job}/cancel", json={"reason": "another"})

    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json()["answer"], second.json()["answer"]) == ("accepted", "already requested")
    assert second.json()["cancel"]["reason"] == "wrong folder"
    assert second.json()["cancel"]["who"] == "ann"


def test_a_cancel_of_begun_work_is_accepted(ann, post, ask_for):
    job = post()
    ask_for("UPDATE jobs SET begun = 1 WHERE id = ?", job)

    first, second = (ann.post(f"{JOBS}/{job}/cancel") for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["phase"] == "cancelling"


@pytest.mark.altered_by_hand("completed without a conductor")
def test_a_cancel_that_comes_too_late_tells_the_outcome(ann, post, ask_for):
    job = post()
    ask_for("UPDATE jobs SET state = 'completed' WHERE id = ?", job)

    response = ann.post(f"{JOBS}/{job}/cancel")

    assert (response.status_code, kind(response)) == (409, "already-finished")
    assert (response.json()["job_id"], response.json()["state"]) == (job, "completed")
    assert ann.get(f"{JOBS}/{job}/result").json() == {"result": None}


def test_a_cancelled_job_is_retried_and_one_that_is_not_is_refused(ann, post):
    job = post()
    refused = ann.post(f"{JOBS}/{job}/retry")
    ann.post(f"{JOBS}/{job}/cancel")

    again = ann.post(f"{JOBS}/{job}/retry")

    assert (refused.status_code, kind(refused)) == (409, "not-in-this-state")
    assert (again.status_code, again.json()["attempt"]) == (200, 2)


@pytest.mark.parametrize("act, body", [("unpark", None), ("accept", {"reason": "it is fine"})])
def test_only_a_parked_job_is_unparked_or_accepted(ann, post, act, body):
    response = ann.post(f"{JOBS}/{post()}/{act}", json=body)

    assert (response.status_code, kind(response)) == (409, "not-in-this-state")


def test_a_deleted_job_is_gone(ann, post):
    job = post()

    assert ann.delete(f"{JOBS}/{job}").status_code == 204
    assert kind(ann.get(f"{JOBS}/{job}")) == "job-not-found"


def test_the_history_tells_who_did_what(ann, post, client):
    job = post()
    client("admin", "root").post(f"{JOBS}/{job}/cancel", json={"reason": "spring"})

    entries = ann.get(f"{JOBS}/{job}/entries").json()["entries"]

    told = [(entry["number"], entry["name"], entry["actor"]) for entry in entries]
    assert told == [(1, "posted", "ann"), (2, "cancel_requested", "root"), (3, "cancelled_unclaimed", "root")]
    assert ann.get(f"{JOBS}/{job}/entries", params={"after": 2}).json()["entries"] == entries[2:]


def test_a_job_that_has_not_begun_has_no_graph_yet(ann, post):
    graph = ann.get(f"{JOBS}/{post()}/graph").json()

    assert graph == {"attempt": 1, "backwards": False, "tasks": [], "links": []}


def test_flows_are_those_that_conductors_have_published(ann):
    names = [flow["name"] for flow in ann.get("/api/v1/flows").json()["flows"]]
    flow = ann.get("/api/v1/flows/add@1").json()

    assert names == ["add", "publish"]
    assert flow["doc"] == "Add two numbers."
    assert flow["parameters"]["required"] == ["a"]
    assert kind(ann.get("/api/v1/flows/nothing")) == "unknown-flow"


def test_the_service_tells_of_itself(client, app, post):
    post()
    nobody, admin = TestClient(app), client("admin", "root")

    assert nobody.get("/healthz").text == "ok\n"
    assert nobody.get("/readyz").text == "ready\n"
    assert admin.get("/api/v1/me").json() == {"name": "root", "role": "admin", "jobs_of": None}
    assert admin.get("/api/v1/stats").json()["total"]["posted"] == 1
    assert client("viewer", "eve").get("/api/v1/stats").json()["total"]["posted"] == 0
    assert admin.get("/api/v1/conductors").json() == {"conductors": []}
    metrics = admin.get("/metrics").text
    assert 'ebbtide_jobs{phase="pending"} 1.0' in metrics
    assert 'ebbtide_conductors{state="alive"} 0.0' in metrics


@pytest.mark.parametrize(
    "error, name, stored",
    [
        (StoreUnavailable("postgresql://ann:hunter2@db is away"), "store-unavailable", False),
        (CommitUnknown("db is away"), "commit-unknown", None),
        (AnswerLost(UNKNOWN, "db is away"), "answer-lost", True),
    ],
)
def test_a_store_that_is_away_is_told_as_what_it_means_for_the_caller(
    ann, post, monkeypatch, caplog, error, name, stored
):
    job = post()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Poster, "cancel", fail)
    response = ann.post(f"{JOBS}/{job}/cancel")

    assert (response.status_code, kind(response), response.json()["stored"]) == (503, name, stored)
    assert "db" not in response.text
    assert "hunter2" not in response.text + caplog.text


def test_a_fault_of_ours_is_a_problem_without_its_text(ann, post, monkeypatch):
    job = post()

    def fail(*_, **__):
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(Poster, "show", fail)
    response = ann.get(f"{JOBS}/{job}")

    assert (response.status_code, kind(response)) == (500, "fault")
    assert "hunter2" not in response.text
