"""Texts that would be markup or scripts: wherever a page shows them they are texts, and nothing runs."""

import pytest
from playwright.sync_api import expect

from tests.browser.flows_of_the_browser import ELSEWHERE, PROBE

MARKUP = "img, main script, svg[onload], a[href^='javascript:']"


@pytest.fixture(scope="module")
def jobs(site):
    gate = site.gate("hostile")
    texts = {"note": PROBE, "gate": str(gate)}
    found = {
        "failed": site.post(params={"note": PROBE, "breaks": True}, labels={"x": PROBE[:200]}),
        "completed": site.post(params={"note": PROBE}, labels={"y": ELSEWHERE[:200]}),
        "cancelled": site.post(params=texts),
        "running": site.post(params=texts, labels={"<b>": "<i>"}),
    }
    site.at_the_gate(found["cancelled"])
    site.poster.cancel(found["cancelled"], PROBE)
    for state, job in found.items():
        site.wait(job, state)
    yield found
    gate.touch()
    site.wait(found["running"], "completed")


def test_nothing_of_them_runs_and_each_is_shown_as_it_is(visit, site, jobs):
    page = visit()
    for address in ("/", *(f"/jobs/{job}" for job in jobs.values()), f"/jobs/{jobs['running']}/cancel"):
        page.goto(address)
        page.wait_for_load_state("load")
        assert page.locator(MARKUP).count() == 0, address
        assert "54439" not in page.content()
    page.goto(f"/jobs/{jobs['failed']}")
    for place in ('[role="alert"]', ".log", "dl.facts"):
        expect(page.locator(place).first).to_contain_text(PROBE[:60])
    page.goto(f"/jobs/{jobs['cancelled']}")
    expect(page.locator("q").first).to_have_text(PROBE)


def test_what_comes_by_the_live_line_is_text_too(visit, site):
    page = visit()
    page.goto("/")
    job = site.post(params={"note": PROBE, "breaks": True}, labels={"late": PROBE[:200]})

    row = page.locator(f'tr[data-job="{job}"]')
    expect(row.locator('[data-field="phase"]')).to_have_text("failed")

    expect(row).to_contain_text("<img src=x onerror")
    assert row.locator("img, script").count() == 0


def test_what_a_flow_says_of_itself_and_what_is_typed_into_its_form_are_text(visit):
    page = visit()
    page.goto("/post")
    expect(page.get_by_role("main")).to_contain_text(PROBE)
    assert page.locator(MARKUP).count() == 0

    page.get_by_role("link", name="hostile").click()
    expect(page.locator("p.lead")).to_have_text(PROBE)
    expect(page.get_by_label("text")).to_have_value(PROBE)
    expect(page.get_by_label("lines")).to_have_value(PROBE)
    page.get_by_label("more").fill(ELSEWHERE)
    page.get_by_text("Labels, priority, delay").click()
    page.get_by_label("Labels").fill(PROBE)
    page.get_by_label("Priority").fill(ELSEWHERE)
    page.get_by_role("button", name="Post").click()

    expect(page.get_by_role("alert")).to_contain_text("Nothing was posted")
    expect(page.get_by_label("text")).to_have_value(PROBE)
    expect(page.get_by_label("more")).to_have_value(ELSEWHERE)
    expect(page.get_by_label("Priority")).to_have_value(ELSEWHERE)
    assert page.locator(MARKUP).count() == 0
    page.forgive(422)


def test_what_a_conductor_says_of_itself_is_text(visit, site):
    site.conductor(name=PROBE, host=PROBE, version=PROBE, isolation=PROBE, flows='["</script><b>@1"]')
    page = visit()
    page.goto("/conductors")

    expect(page.get_by_role("heading", name=PROBE)).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("</script><b>")
    assert page.locator(f"{MARKUP}, main b b").count() == 0


@pytest.mark.parametrize("field", ["text", "label", "flow", "state", "cursor", "told"])
def test_what_is_in_the_address_is_text(visit, site, field):
    page = visit()
    response = page.goto(
        f"/?{field}=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22'%3E%3Cscript%3Ealert(2)%3C/script%3E"
    )

    assert response.status < 500
    assert page.locator("img, main script").count() == 0
    page.forgive(400)
