"""Who may do what: the matrix of roles, routes and owners, made from the routes of the application."""

import itertools

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from ebbtide.api.app import ROUTERS
from ebbtide.api.desk import DeskFor
from ebbtide.jobs.credentials import Role

JOBS = "/api/v1/jobs"
BODIES = {
    f"{JOBS}": {"flow": "add", "params": {"a": 1}},
    f"{JOBS}/{{job_id}}/accept": {"reason": "it is fine"},
    f"{JOBS}/{{job_id}}/rewind": {"savepoint": "here"},
    f"{JOBS}/cancel": {"flow": "add", "dry_run": True},
    f"{JOBS}/retry": {"flow": "add", "dry_run": True},
    f"{JOBS}/delete": {"flow": "add", "dry_run": True},
}
# What concerns everybody's jobs.
FOR_ADMINS = {"/api/v1/flows/{name}/pause", "/api/v1/flows/{name}/resume"}
# Open to everybody: they tell nothing, or are how one becomes somebody.
OPEN = {"/healthz", "/readyz", "/login", "/login/{code}", "/logout"}
PATHS = {"name": "add"}


def routes():
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path not in OPEN:
                for method in sorted(route.methods):
                    yield method, route


ROUTES = list(routes())


def needed(route):
    roles = [each.call.role for each in route.dependant.dependencies if isinstance(each.call, DeskFor)]
    assert len(roles) == 1, f"{route.path} does not say who may use it"
    return roles[0]


def ask(client, method, route, job):
    path = route.path.replace("{job_id}", job)
    for name, value in PATHS.items():
        path = path.replace(f"{{{name}}}", value)
    if "events" in path:  # it would go on for ever
        return client.get(path, params={"limit": 0} if "{job_id}" not in route.path else {"after": -1})
    return client.request(method, path, json=BODIES.get(route.path))


def test_every_route_is_open_on_purpose_or_says_who_may_use_it():
    assert {method for method, _ in ROUTES} <= {"GET", "POST", "DELETE"}
    for method, route in ROUTES:
        role = Role.ADMIN if route.path in FOR_ADMINS else Role.VIEWER if method == "GET" else Role.OPERATOR
        assert needed(route) is role, route.path


@pytest.mark.parametrize("role", [None, *Role])
@pytest.mark.parametrize("owner", ["own", "foreign"])
def test_the_matrix_of_roles_routes_and_owners(client, post, role, owner):
    somebody = client(role, "ann" if owner == "own" else "eve")
    for method, route in ROUTES:
        job = post()

        status = ask(somebody, method, route, job).status_code

        cell = f"{role} {method} {route.path} of {owner} jobs: {status}"
        if role is None:
            assert status == 401, cell
        elif not role.covers(needed(route)):
            assert status == 403, cell
        elif "{job_id}" in route.path and owner == "foreign" and role is not Role.ADMIN:
            # A stream that was asked for wrongly is refused before its job is looked for.
            assert status == (400 if route.path.endswith("events") else 404), cell
        else:
            assert status in (200, 201, 202, 204, 400, 404, 409), cell


def test_somebody_elses_job_and_no_job_cannot_be_told_apart(client, post):
    eve, job = client("operator", "eve"), post()
    unknown = "f" * 8 + job[8:]

    for path, method in itertools.product(("", "/tasks", "/cancel"), ("GET", "POST", "DELETE")):
        foreign, absent = (eve.request(method, f"{JOBS}/{each}{path}") for each in (job, unknown))
        assert foreign.status_code == absent.status_code
        assert foreign.text.replace(job, "ID") == absent.text.replace(unknown, "ID")
    assert eve.get(JOBS).json()["jobs"] == []
    assert sum(eve.get(f"{JOBS}/counts").json()["counts"].values()) == 0


def test_many_are_only_ones_own(client, post):
    eve, job = client("operator", "eve"), post()

    for body in ({"everything": True}, {"flow": "add"}):
        assert eve.post(f"{JOBS}/cancel", json=body).json() == {"answers": []}
    named = eve.post(f"{JOBS}/cancel", json={"ids": [job]}).json()["answers"]

    assert named == [{"id": job, "answer": "unknown", "state": None}]
    assert client("viewer").get(f"{JOBS}/{job}").json()["state"] == "pending"


def test_who_holds_an_exclusive_key_is_told_to_those_alone_who_may_see_it(client):
    ann, eve = client(), client("operator", "eve")
    body = {"flow": "add", "params": {"a": 1}, "exclusive": "disk", "on_busy": "refuse"}
    held = ann.post(JOBS, json=body).json()["id"]

    foreign, own = eve.post(JOBS, json=body), ann.post(JOBS, json=body)

    assert (foreign.status_code, own.status_code) == (409, 409)
    assert held not in foreign.text
    assert own.json()["jobs"] == [held]


def test_a_token_may_be_about_the_jobs_of_another_or_of_everybody(app, client, token, post):
    job = post()
    for options in ({"name": "audit", "jobs_of": "ann"}, {"name": "audit", "jobs_of": None}):
        audit = TestClient(app, headers={"Authorization": f"Bearer {token('viewer', **options)}"})
        assert [each["id"] for each in audit.get(JOBS).json()["jobs"]] == [job]
        assert audit.post(f"{JOBS}/{job}/cancel").status_code == 403


def test_a_token_that_was_taken_back_or_has_expired_is_none(app, poster, token):
    kept, gone = token(), token()
    poster.credentials.revoke(poster.credentials.tokens()[1].id)
    short = token(seconds=1e-9)

    statuses = [
        TestClient(app, headers={"Authorization": f"Bearer {each}"}).get("/api/v1/me").status_code
        for each in (kept, gone, short)
    ]

    assert statuses == [200, 401, 401]


def test_no_secret_is_in_the_store(database, poster, token):
    secrets = [token(), poster.credentials.open_session(token())[0]]

    files = [path.read_bytes() for path in database_files(database)]

    assert all(secret.encode() not in content for secret in secrets for content in files)


def database_files(database):
    from pathlib import Path

    file = Path(database.removeprefix("sqlite:///"))
    return [path for path in file.parent.iterdir() if path.name.startswith(file.name)]


# --- browsers


@pytest.fixture
def browser(app, token):
    """A browser that has logged in with a token of ann's."""
    browser = TestClient(app, follow_redirects=False)
    answer = browser.post("/login", data={"token": token()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    return browser


def csrf(browser):
    from ebbtide.api.gate import COOKIE, csrf_token

    return csrf_token(browser.cookies[COOKIE])


def test_a_login_url_works_once(app, poster):
    from ebbtide.jobs.credentials import Kind

    code, _ = poster.credentials.create("ann", Role.ADMIN, seconds=60, kind=Kind.LOGIN)
    browsers = [TestClient(app, follow_redirects=False) for _ in range(2)]

    places = [browser.get(f"/login/{code}").headers["location"] for browser in browsers]

    assert places == ["/", "/login?problem=token"]
    assert [browser.get("/api/v1/me").status_code for browser in browsers] == [200, 401]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://testserver:81"}, 403),
    ],
)
def test_a_change_by_cookie_comes_from_a_page_of_ours(browser, post, headers, status):
    with_token = {**headers, "X-CSRF-Token": csrf(browser)}

    assert browser.post(f"{JOBS}/{post()}/cancel", headers=with_token).status_code == status


@pytest.mark.parametrize("brought", [None, "", "0" * 64, "é"])
def test_a_change_by_cookie_brings_the_token_of_its_session(browser, post, brought):
    job = post()
    headers = {"Origin": "http://testserver"} | (
        {} if brought is None else {"X-CSRF-Token": brought.encode()}
    )

    response = browser.post(f"{JOBS}/{job}/cancel", headers=headers)

    assert (response.status_code, response.json()["type"]) == (403, "urn:ebbtide:problem:csrf")
    assert browser.get(f"{JOBS}/{job}").json()["state"] == "pending"


def test_a_session_ends_by_logging_out_and_with_its_token(app, browser, poster, token):
    other = TestClient(app, follow_redirects=False)
    other.post("/login", data={"token": token()})
    browser.post("/logout", data={"csrf": csrf(browser)}, headers={"Origin": "http://testserver"})
    assert [each.get("/api/v1/me").status_code for each in (browser, other)] == [401, 200]

    for each in poster.credentials.tokens():
        poster.credentials.revoke(each.id)

    assert other.get("/api/v1/me").status_code == 401


def test_a_session_is_no_token_and_a_token_no_session(app, browser, token):
    from ebbtide.api.gate import COOKIE

    as_token = TestClient(app, headers={"Authorization": f"Bearer {browser.cookies[COOKIE]}"})
    as_session = TestClient(app, cookies={COOKIE: token()})

    assert [each.get("/api/v1/me").status_code for each in (as_token, as_session)] == [401, 401]
