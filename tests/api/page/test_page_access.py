"""Who may look at which page and do what on it: roles, pages and owners, a matrix made from the routes."""

import pytest
from fastapi.routing import APIRoute

from ebbtide.api.app import PAGES
from ebbtide.api.desk import DeskFor
from ebbtide.jobs.credentials import Role
from tests.api.page.conftest import shown

# Open to everybody: how one becomes somebody, and files that are the same for all.
OPEN = {"/login", "/static/{version}/{name}"}
PATHS = {"{name}": "add", "{act}": "pause"}
ENDLESS = {"/live"}


def routes():
    for router in PAGES:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path not in OPEN | ENDLESS:
                for method in sorted(route.methods):
                    yield method, route


ROUTES = list(routes())


def needed(route):
    roles = [each.call.role for each in route.dependant.dependencies if isinstance(each.call, DeskFor)]
    assert len(roles) == 1, f"{route.path} does not say who may use it"
    return roles[0]


def ask(browser, method, route, job):
    path = route.path.replace("{job_id}", job)
    for name, value in PATHS.items():
        path = path.replace(name, value)
    if method == "GET":
        return browser.get(path, params={"id": job} if path == "/cancel" else None)
    return browser.fill(path, ids=job, reason="spring", a="1")


def test_what_a_page_changes_wants_an_operator():
    assert ROUTES
    for method, route in ROUTES:
        assert method in ("GET", "POST")
        if method == "POST":
            assert needed(route).covers(Role.OPERATOR), route.path


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("owner", ["own", "foreign"])
def test_the_matrix_of_roles_pages_and_owners(browse, post, ann, role, owner):
    somebody = browse(role, "ann" if owner == "own" else "eve")
    for method, route in ROUTES:
        job = post()

        response = ask(somebody, method, route, job)

        cell = f"{role} {method} {route.path} of {owner} jobs: {response.status_code}"
        assert response.is_redirect or response.headers["content-type"].startswith("text/html"), cell
        if not role.covers(needed(route)):
            assert response.status_code == 403, cell
        elif "{job_id}" in route.path and owner == "foreign" and role is not Role.ADMIN:
            assert response.status_code == 404, cell
        else:
            assert response.status_code in (200, 303, 409, 422), cell
        if role is not Role.ADMIN and owner == "foreign":
            assert job not in response.text, cell
            assert ann.get(f"/api/v1/jobs/{job}").json()["state"] == "pending", cell


def test_who_has_not_logged_in_is_led_to_where_he_can(anonymous, post):
    for method, route in ROUTES:
        path = route.path.replace("{job_id}", post())
        for name, value in PATHS.items():
            path = path.replace(name, value)

        response = anonymous.request(method, path, data={"reason": "x"} if method == "POST" else None)

        assert (response.status_code, response.headers.get("location", "")[:6]) == (303, "/login"), path


def test_somebody_elses_job_and_no_job_cannot_be_told_apart(browse, post):
    eve, job = browse("operator", "eve"), post()
    unknown = "f" * 8 + job[8:]
    for method, route in ROUTES:
        if "{job_id}" in route.path:
            foreign, absent = (ask(eve, method, route, each) for each in (job, unknown))
            assert foreign.status_code == absent.status_code == 404
            assert shown(foreign.text).replace(job, "ID") == shown(absent.text).replace(unknown, "ID")


@pytest.mark.parametrize("brought", ["", "0" * 64])
def test_no_form_is_obeyed_without_the_token_of_its_session(browser, post, ann, brought):
    for method, route in ROUTES:
        if method == "POST":
            job = post()
            path = route.path.replace("{job_id}", job).replace("{act}", "pause").replace("{name}", "add")
            fields = {"csrf": brought, "ids": job, "reason": "spring"}

            response = browser.post(path, data=fields, headers={"Origin": "http://testserver"})

            assert response.status_code == 403, path
            assert ann.get(f"/api/v1/jobs/{job}").json()["state"] == "pending"
