"""Logging in and out, and what those see who have not, or may not."""

import pytest

from ebbtide.jobs.credentials import Kind, Role
from tests.api.page.conftest import shown


@pytest.mark.parametrize("path", ["/", "/?state=running&label=team=a", "/jobs/abc/cancel"])
def test_whoever_has_not_logged_in_is_shown_the_door_and_comes_back_from_there(anonymous, token, path):
    refused = anonymous.get(path)
    door = refused.headers["location"]
    page = anonymous.get(door)
    fields = {"token": token()} | ({"next": path} if 'name="next"' in page.text else {})
    inside = anonymous.post("/login", data=fields)

    assert (refused.status_code, page.status_code, inside.status_code) == (303, 200, 303)
    assert "Sign in" in page.text
    assert inside.headers["location"] == path


@pytest.mark.parametrize(
    "place",
    [
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example/",
        "evil",
        "/a\nb",
        "/\t/evil.example",
        "javascript:x",
    ],
)
def test_the_door_leads_to_pages_of_ours_alone(anonymous, token, place):
    inside = anonymous.post("/login", data={"token": token(), "next": place})

    assert inside.headers["location"] == "/"


def test_a_wrong_token_is_told_so_and_asked_for_again(anonymous):
    answer = anonymous.post("/login", data={"token": "ebt_wrong", "next": "/conductors"})
    page = anonymous.get(answer.headers["location"])

    assert page.status_code == 401
    assert "not valid" in shown(page.text)
    assert 'name="next" value="/conductors"' in page.text


def test_the_url_of_ebbtide_up_leads_to_the_jobs(anonymous, poster):
    code, _ = poster.credentials.create("ann", Role.ADMIN, seconds=60, kind=Kind.LOGIN)

    assert anonymous.get(f"/login/{code}").headers["location"] == "/"
    assert "No jobs yet" in anonymous.get("/").text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_login_url_that_another_site_leads_to_is_refused_and_still_works(anonymous, poster, site):
    code, _ = poster.credentials.create("ann", Role.ADMIN, seconds=60, kind=Kind.LOGIN)

    refused = anonymous.get(f"/login/{code}", headers={"Sec-Fetch-Site": site})

    assert (refused.status_code, dict(anonymous.cookies)) == (403, {})
    assert "address bar" in shown(refused.text)
    assert anonymous.get(f"/login/{code}", headers={"Sec-Fetch-Site": "none"}).headers["location"] == "/"


def test_who_has_logged_in_is_named_and_can_log_out(browser):
    page = browser.look("/")
    assert "ann" in page
    assert "operator" in page

    assert browser.fill("/logout").headers["location"] == "/login"

    assert browser.get("/").status_code == 303


def test_what_is_not_there_is_a_page_for_browsers_and_a_problem_for_programs(browser):
    page, problem = (
        browser.get("/nothing", headers={"Accept": accept}) for accept in ("text/html", "application/json")
    )

    assert (page.status_code, problem.status_code) == (404, 404)
    assert "There is no such page" in shown(page.text)
    assert problem.headers["content-type"] == "application/problem+json"
    assert browser.get("/api/v1/nothing").headers["content-type"] == "application/problem+json"


def test_a_store_that_is_away_is_a_page(browser, ask_for):
    ask_for("ALTER TABLE jobs RENAME TO elsewhere")

    page = browser.get("/")

    assert page.status_code == 503
    assert "The store is away" in shown(page.text)
    assert "Try again" in shown(page.text)


def test_a_form_without_its_token_changes_nothing_and_is_answered_by_a_page(browser):
    answer = browser.fill("/logout", csrf="0" * 64)

    assert answer.status_code == 403
    assert "This form is too old" in shown(answer.text)
    assert browser.get("/").status_code == 200


def test_browsers_may_say_from_which_page_a_form_comes(anonymous):
    """Told to send no referrer at all, they send the origin `null` with forms, which is refused."""
    assert anonymous.get("/login").headers["referrer-policy"] == "same-origin"
