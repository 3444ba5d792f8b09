"""Cancels by way of a page that shows what would be undone, and asks why."""

import re
import time
from urllib.parse import urlencode

import pytest

from tests.api.page.conftest import shown

NASTY = "<img src=x onerror=alert(1)>"

by_hand = pytest.mark.altered_by_hand("tasks begun, or jobs ended, without a conductor")


@pytest.fixture
def begin(ask_for):
    """Let tasks of a job have returned, the last one run, and those named in `stay` have no undo."""

    def call(job, *tasks, stay=()):
        ask_for("UPDATE jobs SET state = 'running', begun = 1, epoch = 1, owner = 'nobody' WHERE id = ?", job)
        for position, task in enumerate(tasks, start=1):
            last = position == len(tasks)
            ask_for(
                "INSERT INTO job_tasks (job, attempt, round, task, position, epoch, begun_at, ended_at, how,"
                " undo_tries, undo_failures, no_undo) VALUES (?, 1, 1, ?, ?, 1, ?, ?, ?, 0, 0, ?)",
                *(job, task, position, time.time(), None if last else time.time()),
                None if last else "returned",
                "none" if task in stay else None,
            )

    return call


def history(ann, job):
    return [entry["name"] for entry in ann.get(f"/api/v1/jobs/{job}/entries").json()["entries"]]


# --- one job


@by_hand
def test_what_would_be_undone_is_shown_before_it_is_asked_for(browser, ann, post, begin):
    job = post()
    begin(job, "copy", "mail", "index", stay=["mail"])

    page = browser.look(f"/jobs/{job}/cancel")

    steps = re.findall(r'class="task">(\w+)<', page)
    assert steps == ["index", "mail", "copy"]
    text = shown(page)
    assert "index runs now; it is stopped, then undone" in text
    assert "mail has no undo: what it did stays" in text
    assert "nothing undoes it" in text
    assert history(ann, job) == ["posted"]


def test_a_cancel_is_stored_with_its_reason_and_leads_to_the_job(browser, ann, post):
    job = post()

    answer = browser.fill(f"/jobs/{job}/cancel", reason="wrong folder")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}?told=cancel-at-once")
    told = ann.get(f"/api/v1/jobs/{job}").json()
    assert (told["state"], told["cancel"]["reason"], told["cancel"]["who"]) == (
        "cancelled",
        "wrong folder",
        "ann",
    )


@by_hand
def test_the_answer_says_whether_there_is_anything_to_undo(browser, post, begin):
    job = post()
    begin(job, "copy")

    places = [browser.fill(f"/jobs/{job}/cancel").headers["location"] for _ in range(2)]

    assert places == [f"/jobs/{job}?told=cancel-accepted", f"/jobs/{job}?told=cancel-known"]


def test_a_job_that_is_to_be_cancelled_already_shows_who_said_so_and_why(browser, post):
    job = post()
    browser.fill(f"/jobs/{job}/cancel", reason=NASTY)

    page = browser.look(f"/jobs/{job}/cancel")

    assert f"ann asked for it: “{NASTY}”" in shown(page)
    assert NASTY not in page
    assert "<form" not in page.partition("<main")[2]


@by_hand
def test_too_late_is_a_page_that_tells_the_outcome(browser, post, ask_for):
    job = post()
    ask_for("UPDATE jobs SET state = 'completed' WHERE id = ?", job)

    answer = browser.fill(f"/jobs/{job}/cancel")

    assert answer.status_code == 409
    assert "Too late to cancel" in shown(answer.text)
    assert "already completed" in shown(answer.text)


@pytest.mark.parametrize("reason", ["a\u202eb", "x" * 1001], ids=["turned", "long"])
def test_a_reason_that_cannot_be_kept_is_told_of_beside_its_field(browser, ann, post, reason):
    job = post()

    answer = browser.fill(f"/jobs/{job}/cancel", reason=reason)

    assert answer.status_code == 422
    assert "aria-invalid" in answer.text
    assert reason in answer.text
    assert history(ann, job) == ["posted"]


@pytest.mark.parametrize("path", ["/jobs/{}/cancel", "/cancel?id={}"])
def test_a_viewer_cannot_cancel(browse, ann, post, path):
    job, viewer = post(), browse("viewer")

    looked, asked = viewer.get(path.format(job)), viewer.fill(path.format(job), ids=job)

    assert (looked.status_code, asked.status_code) == (403, 403)
    assert "You may not do this" in shown(looked.text)
    assert history(ann, job) == ["posted"]


@pytest.mark.parametrize("method", ["look", "ask"])
def test_somebody_elses_job_and_no_job_are_the_same_page(browse, post, method):
    eve, job = browse("operator", "eve"), post()
    unknown = "f" * 8 + job[8:]
    ask = eve.get if method == "look" else eve.fill

    foreign, absent = (ask(f"/jobs/{each}/cancel") for each in (job, unknown))

    assert (foreign.status_code, absent.status_code) == (404, 404)
    assert foreign.text == absent.text


@pytest.mark.parametrize("path", ["/jobs/{}/cancel", "/cancel"])
@pytest.mark.parametrize("brought", ["", "0" * 64])
def test_a_form_of_another_session_cancels_nothing(browser, ann, post, path, brought):
    job = post()

    answer = browser.fill(path.format(job), ids=job, csrf=brought)

    assert answer.status_code == 403
    assert history(ann, job) == ["posted"]


@pytest.mark.parametrize("path", ["/jobs/{}/cancel", "/cancel"])
def test_a_form_of_another_site_cancels_nothing(browser, ann, post, path):
    from ebbtide.api.gate import COOKIE, csrf_token

    job = post()

    answer = browser.post(
        path.format(job),
        data={"csrf": csrf_token(browser.cookies[COOKIE]), "ids": job},
        headers={"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    )

    assert answer.status_code == 403
    assert history(ann, job) == ["posted"]


# --- many


def ids_in(page):
    return page.partition('name="ids" value="')[2].partition('"')[0].split()


def test_ticked_jobs_are_shown_and_then_cancelled(browser, ann, post):
    chosen, other = [post(), post()], post()

    page = browser.look(f"/cancel?{urlencode({'id': chosen}, doseq=True)}")
    answer = browser.fill("/cancel", ids=" ".join(ids_in(page)), reason="all wrong")
    then = browser.look(answer.headers["location"])

    assert ids_in(page) == chosen
    assert "Cancel 2 jobs?" in shown(page)
    states = [ann.get(f"/api/v1/jobs/{each}").json()["state"] for each in [*chosen, other]]
    assert states == ["cancelled", "cancelled", "pending"]
    assert "2 stored" in shown(then)


def test_all_that_fit_are_those_that_were_shown_and_no_later_ones(browser, ann, post):
    shown_first, other = post(labels={"team": "a"}), post(labels={"team": "b"})
    page = browser.look("/cancel?label=team%3Da&state=&flow=add")
    later = post(labels={"team": "a"})

    browser.fill("/cancel", ids=" ".join(ids_in(page)))

    assert ids_in(page) == [shown_first]
    states = [ann.get(f"/api/v1/jobs/{each}").json()["state"] for each in (shown_first, other, later)]
    assert states == ["cancelled", "pending", "pending"]


def test_everything_has_to_be_meant(browser, post):
    job = post()

    assert ids_in(browser.look("/cancel?everything=true")) == [job]
    assert browser.get("/cancel").status_code == 400


@by_hand
def test_what_cannot_be_cancelled_is_left_alone_and_told(browser, post, ask_for, begin):
    ended, stopped, begun = post(), post(), post()
    ask_for("UPDATE jobs SET state = 'failed' WHERE id = ?", ended)
    browser.fill(f"/jobs/{stopped}/cancel")
    begin(begun, "copy", "mail", stay=["copy"])
    unknown = "f" * 8 + ended[8:]

    page = browser.look(f"/cancel?{urlencode({'id': [ended, stopped, begun, unknown]}, doseq=True)}")

    assert ids_in(page) == [begun]
    text = shown(page)
    for words in ("1 ended already", "1 to be cancelled already", "1 unknown", "1 without undo"):
        assert words in text


def test_nothing_to_cancel_is_a_page(browser, post):
    job = post()
    browser.fill(f"/jobs/{job}/cancel")

    assert "Nothing to cancel" in shown(browser.look(f"/cancel?id={job}"))


def test_somebody_elses_jobs_are_as_unknown_as_those_that_never_were(browse, ann, post):
    eve, job = browse("operator", "eve"), post()

    pages = [eve.look(f"/cancel?id={each}") for each in (job, "f" * 8 + job[8:])]
    eve.fill("/cancel", ids=job)

    assert pages[0] == pages[1]
    assert history(ann, job) == ["posted"]


@pytest.mark.parametrize("query", ["id=x", "id=../..", "state=nonsense", "label=x", "text=a", "limit=x"])
def test_a_choice_that_is_none_is_refused(browser, post, query):
    post()

    assert browser.get(f"/cancel?{query}").status_code == 400


@pytest.mark.parametrize("ids", ["", "x", "x" * 36, "1 2"])
def test_a_form_that_names_no_jobs_is_refused(browser, ids):
    assert browser.fill("/cancel", ids=ids).status_code == 400


@pytest.mark.parametrize(
    "query", ["told=<b>", "told=cancel-many&stored=<b>", "told=cancel-many&stored=" + "9" * 99]
)
def test_what_is_told_after_an_act_is_nobodys_text(browser, query):
    page = browser.look(f"/?{query}")

    assert "<b>" not in page
    assert "9" * 99 not in page
