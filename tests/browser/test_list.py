"""The list of jobs in a browser: logging in, filters, what changes as it changes, many cancelled at once."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import wait_until


def row(page, job):
    return page.locator(f'tr[data-job="{job}"]')


def test_a_login_url_works_once_and_leads_to_the_jobs(visit, site):
    page, other = visit(None), visit(None)
    page.goto(site.login)
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")

    other.goto(site.login)

    expect(other.get_by_role("alert")).to_contain_text("used before")
    other.forgive(401)


def test_a_token_logs_in_and_leads_to_where_one_wanted_to_go(visit, site, token):
    page = visit(None)
    page.goto("/?state=cancelled")
    page.get_by_label("Token").fill("ebt_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.forgive(401)

    page.goto("/?state=cancelled")
    page.get_by_label("Token").fill(token())
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/\?state=cancelled$"))

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert page.context.cookies() == []


def test_filters_are_in_the_url_and_hold_when_it_is_opened_again(visit, site):
    red, blue = (site.post(labels={"team": team}, delay_seconds=3600) for team in ("red", "blue"))
    page = visit()
    page.goto("/")
    page.get_by_label("Label, as key=value").fill("team=red")
    page.get_by_role("button", name="Filter").click()
    expect(row(page, blue)).to_have_count(0)
    expect(row(page, red)).to_be_visible()
    again = visit()

    again.goto(page.url)

    assert "team" in page.url
    expect(row(again, red)).to_be_visible()
    expect(row(again, blue)).to_have_count(0)
    again.get_by_label("Jobs by state").get_by_role("link", name=re.compile("^completed")).click()
    expect(again.get_by_role("heading", level=2)).to_have_text("No job fits")
    for job in (red, blue):
        site.poster.cancel(job)


def test_a_row_tells_what_becomes_of_its_job(visit, site):
    gate, undo_gate = site.gate("row"), site.gate("row-undo")
    job = site.post(params={"gate": str(gate), "undo_gate": str(undo_gate)})
    page = visit()
    page.goto("/")
    site.at_the_gate(job)
    badge = row(page, job).locator('[data-field="phase"]')
    expect(badge).to_have_text("running")

    site.poster.cancel(job)
    expect(badge).to_have_text(re.compile("cancelling|reverting"))
    undo_gate.touch()

    expect(badge).to_have_text("cancelled")
    other = site.post(delay_seconds=3600)
    expect(row(page, other)).to_be_visible()  # what is new comes by itself
    site.poster.cancel(other)


def test_many_are_cancelled_after_a_look_at_what_is_undone(visit, site):
    gate = site.gate("many")
    jobs = [site.post(params={"gate": str(gate)}, labels={"batch": "many"}) for _ in range(2)]
    for job in jobs:
        site.at_the_gate(job)
    page = visit()
    page.goto("/?label=batch%3Dmany")
    for job in jobs:
        row(page, job).get_by_role("checkbox").check()
    page.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 2 jobs?")
    expect(page.get_by_text("second").first).to_be_visible()
    page.get_by_label(re.compile("Why|Reason")).fill("wrong folder")
    page.get_by_role("button", name="Cancel 2 jobs").click()

    for job in jobs:
        site.wait(job, "cancelled")
        assert site.poster.show(job).cancel.reason == "wrong folder"


def test_all_of_it_goes_without_a_script(visit, site):
    gate = site.gate("plain")
    job = site.post(params={"gate": str(gate)}, labels={"js": "off"})
    site.at_the_gate(job)
    page = visit(java_script_enabled=False)
    page.goto("/")
    page.get_by_label("Label, as key=value").fill("js=off")
    page.get_by_role("button", name="Filter").click()
    row(page, job).get_by_role("link", name="Cancel").click()
    expect(page.get_by_text("What would be undone now")).to_be_visible()
    page.get_by_label(re.compile("Why|Reason")).fill("no script")
    page.get_by_role("button", name="Cancel and undo").click()
    site.wait(job, "cancelled")
    page.goto(f"/jobs/{job}")

    expect(page.get_by_text("no script").first).to_be_visible()
    expect(page.locator("h1")).to_contain_text("cancelled")


def test_a_job_is_found_and_cancelled_by_keys_alone(visit, site):
    job = site.post(params={"gate": str(site.gate("keys"))}, labels={"keys": "alone"})
    site.at_the_gate(job)
    page = visit()
    page.goto("/?label=keys%3Dalone")

    def tab_to(target):
        for _ in range(60):
            page.keyboard.press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                outline = target.evaluate("element => getComputedStyle(element).outlineStyle")
                assert outline != "none", "where the focus is cannot be seen"
                return
        pytest.fail(f"no key leads to {target}")

    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    tab_to(row(page, job).get_by_role("link", name="Cancel"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel this job?")
    tab_to(page.get_by_label(re.compile("Why|Reason")))
    page.keyboard.type("by keys")
    tab_to(page.get_by_role("button", name="Cancel and undo"))
    page.keyboard.press("Enter")

    site.wait(job, "cancelled")
    assert site.poster.show(job).cancel.reason == "by keys"


def test_ten_tabs_are_live_at_once_and_again_after_the_line_was_lost(visit, site):
    gate = site.gate("tabs")
    job = site.post(params={"gate": str(gate)}, labels={"tabs": "ten"})
    site.at_the_gate(job)
    first = visit()
    pages = [first, *(first.context.new_page() for _ in range(9))]
    for page in pages:
        page.goto("/?label=tabs%3Dten")
    badges = [row(page, job).locator('[data-field="phase"]') for page in pages]
    for badge in badges:
        expect(badge).to_have_text("running")

    first.context.set_offline(True)
    first.context.set_offline(False)
    site.poster.cancel(job)

    for badge in badges:
        expect(badge).to_have_text("cancelled")
    first.forgive("Failed to load resource")


def test_a_list_that_nobody_looks_at_is_fetched_again_once_somebody_does(visit, site):
    job = site.post(delay_seconds=3600, labels={"seen": "no"})
    looked_at = visit()
    looked_at.goto("/?label=seen%3Dno")
    unseen = looked_at.context.new_page()
    unseen.add_init_script("Object.defineProperty(document, 'hidden', { get: () => !window.seen })")
    unseen.goto("/?label=seen%3Dno")
    badge = row(unseen, job).locator('[data-field="phase"]')
    expect(badge).to_have_text("scheduled")
    asked = []
    unseen.on("request", lambda request: asked.append(request.url))

    other = site.post(delay_seconds=3600, labels={"seen": "no"})
    expect(row(looked_at, other)).to_be_visible()
    site.poster.cancel(job)
    expect(badge).to_have_text("cancelled")  # that there is another one was told before
    assert asked == []
    unseen.evaluate("window.seen = true; document.dispatchEvent(new Event('visibilitychange'))")

    expect(row(unseen, other)).to_be_visible()
    site.poster.cancel(other)


# As so many tabs do it, but without their pages.
LISTEN = """async (jobs) => {
    const url = performance.getEntriesByType("resource").find((each) => each.name.includes("/line")).name;
    const { listen } = await import(url);
    window.told = jobs.map(() => []);
    jobs.forEach((job, number) => listen(`job:${job}`, (news) => window.told[number].push(news.event)));
}"""


def test_where_too_many_tabs_are_open_the_one_that_is_looked_at_is_live_and_all_others_go_on(visit, site):
    jobs = [site.post(delay_seconds=3600, labels={"tab": "many"}) for _ in range(41)]
    page = visit()
    page.goto(f"/jobs/{jobs[0]}")
    others = page.context.new_page()
    others.goto(f"/jobs/{jobs[1]}")

    others.evaluate(LISTEN, jobs[1:])
    sign = page.get_by_text("Many tabs are open")
    expect(sign).to_be_visible()
    site.poster.cancel(jobs[0])
    expect(page.locator("h1")).to_contain_text("cancelled")  # it looks by itself
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # somebody looks at it
    expect(sign).to_have_count(0)

    site.poster.retry(jobs[0])
    expect(page.locator("h1")).to_contain_text("completed")
    site.poster.cancel(jobs[-1])
    last = "window.told.at(-1).filter((event) => event === 'touched').length > 1"
    wait_until(lambda: others.evaluate(last), "the last of the others is told of its cancel")
    assert others.evaluate("window.told.filter((told) => told.includes('left')).length") == 1
    assert others.evaluate("window.told.filter((told) => told.includes('offline')).length") == 0
    for job in jobs[1:-1]:
        site.poster.cancel(job)
