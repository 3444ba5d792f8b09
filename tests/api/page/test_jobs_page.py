"""The list of jobs as a page."""

import re

import pytest

from ebbtide.jobs.states import PHASES
from tests.api.page.conftest import shown

NASTY = "<script>alert(1)</script>\"'&"


def rows(page):
    return re.findall(r'<tr data-job="([^"]*)"', page)


def test_jobs_are_listed_with_their_state_progress_age_flow_and_labels(browser, post):
    job = post(labels={"team": "data"})

    page = browser.look("/")

    assert rows(page) == [job]
    row = shown(page)
    for word in ("pending", "add", "team", "data", "ago", job[:8], "waits for a conductor"):
        assert word in row
    assert f'href="/jobs/{job}"' in page
    assert f'data-job="{job}" data-state="pending" data-phase="pending" data-progress="0.0"' in page


def test_filters_are_in_the_url_and_all_must_fit(browser, ann, post):
    a, b = post(labels={"team": "a"}), post(labels={"team": "b"})
    ann.post(f"/api/v1/jobs/{b}/cancel")

    assert rows(browser.look("/?label=team%3Da")) == [a]
    assert rows(browser.look("/?state=pending&flow=add&text=&label=")) == [a]
    assert rows(browser.look("/?text=" + a[:8])) == [a]
    assert rows(browser.look("/?flow=other")) == []
    assert 'value="team=a"' in browser.look("/?label=team%3Da")


def test_there_is_a_count_of_each_state_that_leads_to_its_jobs(browser, post):
    post()

    page = browser.look("/?label=team%3Da")

    counts = dict(re.findall(r'data-count="(\w+)">(\d+)<', page))
    assert counts == {str(phase): "0" for phase in PHASES} | {"pending": "1", "all": "1"}
    assert 'href="/?label=team%3Da&amp;state=pending"' in page


def test_pages_follow_each_other_and_keep_their_filters(browser, post):
    jobs = [post() for _ in range(5)]

    first = browser.look("/?limit=2&flow=add")
    (older,) = re.findall(r'rel="next" href="([^"]*)"', first)
    second = browser.look(older.replace("&amp;", "&"))

    assert rows(first) + rows(second) == list(reversed(jobs))[:4]
    assert 'href="/?flow=add&amp;limit=2"' in second


@pytest.mark.parametrize(
    "query", ["state=nonsense", "label=nothing", "limit=0", "limit=x", "cursor=x", "text=" + "x" * 101]
)
def test_a_filter_that_is_none_is_told_of_on_the_page(browser, query):
    page = browser.get(f"/?{query}")

    assert page.status_code == 400
    assert "This filter cannot be used" in shown(page.text)


def test_empty_places_say_what_to_do(browse):
    assert "Post a job" in shown(browse().look("/"))
    assert "as soon as somebody posts one" in shown(browse("viewer").look("/"))
    assert "Show all jobs" in shown(browse().look("/?state=failed"))


def test_whatever_people_typed_is_text(browser, post):
    post(labels={NASTY: NASTY})

    page = browser.look("/?text=" + "%3Cscript%3E" + "&flow=%22%3E%3Cb%3E" + "&label=a%3D%3Cb%3E")
    listed = browser.look("/")

    for each in (page, listed):
        assert "<script>alert" not in each
        assert "<b>" not in each.partition("<main")[2].replace("<b data-count", "")
    assert NASTY in shown(listed)


def test_somebody_elses_jobs_are_not_there(browse, post):
    post()

    page = browse("operator", "eve").look("/")

    assert rows(page) == []
    assert 'data-count="all">0<' in page


def test_viewers_are_shown_no_act(browse, post):
    post()

    page = browse("viewer").look("/")

    assert rows(page)
    assert "/cancel" not in page
    assert "/post" not in page
    assert "checkbox" not in page
