"""HEAD: every address that can be read answers it as it answers GET, without a body."""

import httpx
import pytest

from ebbtide.api.app import PAGES, ROUTERS
from ebbtide.api.limits import Limits, Rate
from ebbtide.jobs.credentials import Kind, Role

JOBS = "/api/v1/jobs"
STREAMS = ["/api/v1/events", "/api/v1/jobs/{job}/events", "/live?job={job}"]


@pytest.fixture
def limits():
    unlimited = Rate(1e6, 1_000_000)
    return Limits(requests=unlimited, streams=1)


@pytest.fixture
def asking(serving, token):
    with httpx.Client(base_url=serving, headers={"Authorization": f"Bearer {token()}"}, timeout=20) as client:
        yield client


def test_every_address_that_answers_get_answers_head_alike(asking, poster):
    job = poster.acting_for("ann", jobs_of="ann").post("add", {"a": 1}).id
    fillings = {"job_id": job, "name": "add", "version": "0"}
    streams = {path.format(job=job).partition("?")[0] for path in STREAMS}
    paths = {
        route.path.format(**fillings)
        for router in (*ROUTERS, *PAGES)
        for route in router.routes
        if "GET" in (getattr(route, "methods", None) or ()) and "{code}" not in route.path
    }
    assert {"/", "/healthz", "/metrics", "/login", JOBS, f"{JOBS}/{job}", *streams} <= paths

    for path in sorted(paths - streams):
        got, head = asking.get(path), asking.head(path)

        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"], path
        assert "content-length" in head.headers, path


@pytest.mark.parametrize("path", STREAMS)
def test_head_of_a_stream_ends_and_leaves_none_open(asking, poster, path):
    job = poster.acting_for("ann", jobs_of="ann").post("add", {"a": 1}).id
    for _ in range(3):  # one stream is allowed at a time
        head = asking.head(path.format(job=job))

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")


def test_what_get_refuses_head_refuses(asking, ann):
    with httpx.Client(base_url=asking.base_url) as nobody:
        assert nobody.head(JOBS).status_code == 401
    assert asking.head(f"{JOBS}/00000000-0000-0000-0000-000000000000").status_code == 404
    assert asking.head(f"{JOBS}/00000000-0000-0000-0000-000000000000/events").status_code == 404
    assert asking.head("/nothing").status_code == 404
    assert asking.head("/logout").status_code == 405


def test_head_does_not_spend_a_login_url(asking, poster):
    code, _ = poster.credentials.create("ann", Role.ADMIN, seconds=300, kind=Kind.LOGIN)

    assert asking.head(f"/login/{code}").status_code == 405
    assert asking.get(f"/login/{code}").headers["location"] == "/"
