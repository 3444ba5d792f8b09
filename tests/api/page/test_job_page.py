"""One job as a page: what it tells, and the acts that it offers, in each state."""

import re

import pytest
import sqlalchemy as sa

from ebbtide.api.gate import COOKIE
from ebbtide.jobs import tables
from ebbtide.jobs.acts import Act
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store
from tests.api.page.conftest import shown

NASTY = "<img src=x onerror=alert(1)>\"'&"
WISHES = {
    "none": {},
    "cancel": {"cancel_requested_at": 5.0},
    "pause": {"pause_requested_at": 5.0},
    "delete": {"delete_requested_at": 5.0},
}
FIELDS = {
    Act.REWIND: {"savepoint": "loaded"},
    Act.SKIP: {"task": "write", "reason": "it is fine"},
    Act.ACCEPT: {"reason": "it is fine"},
}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def change(database):
    """Write rows past all our code."""

    def apply(*statements):
        with Store(database) as store, store.write() as connection:
            for statement in statements:
                connection.execute(statement)

    return apply


@pytest.fixture
def standing(post, change, by_hand):
    """Make a job of ann's in a state: two tasks and a savepoint are done; if it is parked, an undo failed."""

    def make(state, wish="none", held=False, name="load", error="OSError: busy"):
        job = post()
        columns = {"state": state, "begun": 1, "epoch": 1, "tasks_total": 3, "tasks_done": 2, **WISHES[wish]}
        if state in FINAL_STATES:
            columns |= {"ended_at": 9.0, "undo": None if state is JobState.COMPLETED else "complete"}
        change(sa.update(tables.jobs).where(tables.jobs.c.id == job).values(**columns))
        by_hand.changed(job, 1, columns)
        task = {"job": job, "attempt": 1, "round": 1, "epoch": 1, "begun_at": 1.0, "ended_at": 2.0}
        rows = [{"task": each} for each in (name, "savepoint:loaded", "write")]
        if state is JobState.PARKED and not held:
            rows[-1] |= {"undo_begun_at": 3.0, "undo_error": error, "undo_tries": 3}
        for position, row in enumerate(rows, 1):
            change(sa.insert(tables.job_tasks).values(**task, **row, position=position, how="returned"))
        if wish == "cancel":
            told = {"reason": "wrong folder", "source": "user", "who": "ann", "requested_at": 5.0}
            change(sa.insert(tables.job_cancels).values(job=job, attempt=1, **told))
        if state is JobState.PARKED:
            parked = {"number": 1, "reason": "the undo of write failed", "parked_at": 4.0, "held": int(held)}
            change(sa.insert(tables.job_parks).values(job=job, attempt=1, **parked))
        return job

    return make


def offered(page, job):
    return {Act(word) for word in re.findall(rf'(?:action|href)="/jobs/{job}/(\w+)"', page)}


CASES = [
    (state, wish, held)
    for state in JobState
    for wish in WISHES
    for held in ((False, True) if state is JobState.PARKED else (False,))
]


@pytest.mark.parametrize(
    "state, wish, held", CASES, ids=[f"{s}-{w}-{'held' if h else 'free'}" for s, w, h in CASES]
)
def test_buttons_are_there_exactly_where_the_act_would_be_accepted(
    browser, browse, poster, standing, state, wish, held
):
    job = standing(state, wish, held)

    page = browser.look(f"/jobs/{job}")

    assert offered(page, job) == set(poster.choices(job).acts)
    assert offered(browse("viewer").look(f"/jobs/{job}"), job) == set()
    for act in Act:
        if act is Act.CANCEL or (held and act is Act.UNPARK):
            continue  # it has a page of its own; of a job that holds it is the same as to go on
        job = standing(state, wish, held)
        allowed = act in poster.choices(job).acts
        status = browser.fill(f"/jobs/{job}/{act}", **FIELDS.get(act, {})).status_code
        # Asking twice is asking once: that is no refusal, and no button is offered for it.
        again = act is Act.PAUSE or act is Act.DELETE
        assert status == 303 if allowed else status in ((303, 409) if again else (400, 404, 409)), act


def test_a_form_without_the_token_changes_nothing(browser, poster, standing):
    job = standing(JobState.PAUSED)

    answer = browser.post(f"/jobs/{job}/resume", headers={"Origin": "http://testserver"})

    assert answer.status_code == 403
    assert poster.show(job).state == "paused"


def test_what_was_done_is_said_on_the_page_that_follows(browser, standing):
    job = standing(JobState.FAILED)

    answer = browser.fill(f"/jobs/{job}/retry")

    assert answer.headers["location"] == f"/jobs/{job}?told=retried"
    assert "Posted once more" in shown(browser.look(answer.headers["location"]))


def test_what_was_foretold_is_not_said_once_it_is_past(browser, standing):
    moving, over = standing(JobState.RUNNING, "cancel"), standing(JobState.CANCELLED, "cancel")

    said, past = (shown(browser.look(f"/jobs/{job}?told=cancel-accepted")) for job in (moving, over))

    assert "The cancel is stored" in said
    assert "The cancel is stored" not in past


def test_a_deleted_job_leads_to_the_list(browser, standing):
    job = standing(JobState.COMPLETED)

    assert "What it has done stays done" in shown(browser.look(f"/jobs/{job}/delete"))
    answer = browser.fill(f"/jobs/{job}/delete")

    assert answer.headers["location"] == "/?told=deleted"
    assert browser.get(f"/jobs/{job}").status_code == 404


def test_reasons_are_kept_in_the_history(browser, poster, standing):
    skipped, accepted = standing(JobState.PARKED), standing(JobState.PARKED)

    browser.fill(f"/jobs/{skipped}/skip", task="write", reason="it is on tape")
    browser.fill(f"/jobs/{accepted}/accept", reason="nobody reads it")

    assert poster.entries(skipped)[-1].detail["reason"] == "it is on tape"
    assert poster.receipt(accepted).reason == "nobody reads it"
    assert "nobody reads it" in shown(browser.look(f"/jobs/{accepted}"))


def test_a_foreign_job_and_none_look_the_same(browse, standing):
    job, eve = standing(JobState.PARKED), browse("operator", "eve")

    for path in ("", "/delete", "?attempt=1"):
        foreign, absent = (eve.get(f"/jobs/{each}{path}") for each in (job, UNKNOWN))
        assert (foreign.status_code, absent.status_code) == (404, 404)
        assert foreign.text.replace(job, "ID") == absent.text.replace(UNKNOWN, "ID")
    assert eve.fill(f"/jobs/{job}/accept", reason="mine").status_code == 404


def test_somebody_without_a_session_is_led_to_the_login(anonymous, standing):
    job = standing(JobState.RUNNING)

    assert anonymous.get(f"/jobs/{job}").headers["location"] == f"/login?next=%2Fjobs%2F{job}"


def test_a_cancel_is_told_step_by_step_with_its_times(browser, change, standing):
    job = standing(JobState.RUNNING, "cancel")
    of = tables.job_cancels
    change(sa.update(of).where(of.c.job == job).values(forwarded_at=5.25, delivered_at=6.0))
    of = tables.job_tasks
    change(
        sa.update(of)
        .where(of.c.job == job, of.c.task == "write")
        .values(undo_begun_at=6.5, undo_ended_at=7.0)
    )

    page = browser.look(f"/jobs/{job}")

    steps = re.findall(r'class="step is-(\w+)".*?class="step-word">([^<]*)<', page, re.DOTALL)
    assert steps == [
        ("done", "requested"),
        ("done", "forwarded"),
        ("done", "delivered"),
        ("now", "reverting 1 of 2"),
        ("ahead", "cancelled"),
    ]
    words = shown(page)
    assert "after 250 ms" in words and "after 750 ms" in words
    assert "Cancel asked for by ann" in words and "wrong folder" in words
    assert "It is being cancelled: what it did is being undone" in words
    assert "number 1, in 500 ms" in words


def test_the_undo_is_drawn_and_told_in_the_table_as_well(browser, change, standing):
    job = standing(JobState.CANCELLED, "cancel")
    of = tables.job_tasks
    change(sa.update(of).where(of.c.job == job).values(undo_begun_at=6.5, undo_ended_at=7.0))
    change(sa.update(tables.jobs).where(tables.jobs.c.id == job).values(tasks_undone=3))

    page = browser.look(f"/jobs/{job}")

    assert 'class="graph backwards"' in page
    assert page.count('class="bar-undone"') == 2
    assert "reverted 2 of 2" in page
    assert shown(page).count("undone") > 2


def test_names_errors_and_reasons_are_text(browser, standing):
    page = browser.look(f"/jobs/{standing(JobState.PARKED, name=NASTY, error=NASTY)}")

    assert "<img" not in page
    assert "&lt;img" in page


def test_secrets_are_not_shown(browser, ann):
    body = {"flow": "publish", "params": {"token": "env:SOME_TOKEN"}}
    job = ann.post("/api/v1/jobs", json=body).json()["id"]

    page = browser.look(f"/jobs/{job}")

    assert "SOME_TOKEN" not in page
    assert "token ••••••" in shown(page)


def test_passwords_in_urls_and_what_is_called_a_secret_are_not_shown(browser, change, standing):
    job = standing(JobState.RUNNING)
    text = (
        '{"db": "postgresql://ann:hunter2@host/db", "deep": {"api_key": "hunter2", "n": 1}, "max_tokens": 5}'
    )
    of = tables.job_parameters
    change(sa.update(of).where(of.c.job == job).values(parameters=text))

    page = browser.look(f"/jobs/{job}")

    assert "hunter2" not in page
    assert "postgresql://ann:***@host/db" in page and "max_tokens" in page


def test_earlier_attempts_can_be_looked_at(browser, poster, change, standing):
    job = standing(JobState.FAILED, name="of-the-first")
    poster.retry(job)

    assert "of-the-first" not in shown(browser.look(f"/jobs/{job}"))
    first = browser.look(f"/jobs/{job}?attempt=1")
    assert "of-the-first" in shown(first)
    assert f'href="/jobs/{job}?attempt=1" aria-current="true"' in first
    assert browser.get(f"/jobs/{job}?attempt=0").status_code == 400


def test_the_beginning_of_an_id_is_enough(browser, post):
    job = post()

    assert job in browser.look(f"/jobs/{job[:13]}")


def test_no_page_has_inline_scripts_or_styles(browser, standing):
    for state in JobState:
        page = browser.look(f"/jobs/{standing(state, 'cancel')}")
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|javascript:", page)


def test_the_cookie_is_all_that_a_page_needs(browser):
    assert set(browser.cookies) == {COOKIE}
