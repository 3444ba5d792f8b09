"""Posting from a form, and who runs what was posted, in a browser."""

import re

from playwright.sync_api import expect


def test_a_form_with_a_mistake_is_put_right_and_leads_to_the_job(visit, site):
    page = visit()
    page.goto("/")
    page.get_by_role("link", name="Post a job").first.click()
    page.get_by_role("link", name="every-kind").click()
    page.get_by_label("title").fill("spring")
    page.get_by_label("count").fill("many")
    page.get_by_label("region").select_option("south")
    page.get_by_label("hosts").fill("alpha\nbeta")
    page.get_by_text("Labels, priority, delay").click()
    page.get_by_label("Labels").fill("team=red")
    page.get_by_role("button", name="Post").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was posted yet")
    page.forgive(422)
    count = page.get_by_label("count")
    expect(count).to_have_attribute("aria-invalid", "true")
    expect(count).to_have_accessible_description(re.compile("whole number|integer"))
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    expect(page.get_by_label("title")).to_have_value("spring")
    expect(page.get_by_label("hosts")).to_have_value("alpha\nbeta")
    expect(page.get_by_label("Labels")).to_have_value("team=red")

    count.fill("7")
    page.get_by_role("button", name="Post").click()

    expect(page.get_by_role("status")).to_contain_text("Posted.")
    expect(page.locator("h1")).to_contain_text("completed")
    job = site.poster.show(page.url.rpartition("/")[2].partition("?")[0])
    assert (job.flow, job.labels, job.posted_by) == ("every-kind", {"team": "red"}, "ann")
    given = {name: job.params[name] for name in ("title", "count", "region", "hosts")}
    assert given == {"title": "spring", "count": 7, "region": "south", "hosts": ["alpha", "beta"]}
    expect(page.get_by_role("region", name="Parameters")).to_contain_text("spring")


def test_a_double_click_posts_one_job(visit, site):
    page = visit()
    page.goto("/post/every-kind")
    page.get_by_label("title").fill("once")
    page.get_by_text("Labels, priority, delay").click()
    page.get_by_label("Labels").fill("posted=once")
    page.get_by_role("button", name="Post").dblclick()
    page.wait_for_url("**/jobs/*")

    page.goto("/?label=posted%3Donce")

    expect(page.locator("tr[data-job]")).to_have_count(1)


def test_the_conductors_page_says_who_is_alive_and_leads_to_what_runs_there(visit, site):
    gate = site.gate("conductors")
    job = site.post(params={"gate": str(gate)})
    site.at_the_gate(job)
    page = visit()
    page.goto("/")
    page.get_by_role("link", name="Conductors").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conductors")
    (conductor,) = site.poster.conductors()
    card = page.get_by_role("article").filter(has_text=conductor.name)
    expect(card).to_contain_text("alive")
    expect(card).to_contain_text("of 4 runners at work")
    expect(card.get_by_role("listitem").filter(has_text=job[:8])).to_contain_text("running")

    card.get_by_role("listitem").filter(has_text=job[:8]).get_by_role("link").click()

    expect(page).to_have_url(re.compile(job))
    gate.touch()
    expect(page.locator("h1")).to_contain_text("completed")
