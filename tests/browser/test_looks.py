"""Every page, in each state of a job, light and dark and on a phone: axe finds nothing, nothing is cut."""

import time

import pytest
from axe_playwright_python.sync_playwright import Axe

# Every page is looked at by axe, four times over.
pytestmark = pytest.mark.timeout(180)

STICKS_OUT = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const all = [...document.querySelectorAll("main *")];
  const wide = all.filter((each) => each.getBoundingClientRect().right > width);
  return wide.map((each) => each.outerHTML.slice(0, 80)).slice(0, 3);
}"""


@pytest.fixture(scope="module")
def jobs(site):
    """A job in each state, for as long as this module runs."""
    gate, undo_gate = site.gate("looks"), site.gate("looks-undo")
    waiting = {"gate": str(gate), "undo_gate": str(undo_gate)}
    found = {
        "scheduled": site.post(delay_seconds=3600, labels={"team": "red", "long": "x" * 100}),
        "running": site.post(params=waiting),
        "cancelling": site.post(params=waiting),
        "reverting": site.post(params={"undo_gate": str(undo_gate), "breaks": True}),
        "paused": site.post(delay_seconds=3600),
        "parked": site.post("stuck", {"mended": str(site.gate("no")), "gate": str(site.gate("no"))}),
        "completed": site.post(),
        "failed": site.post(params={"breaks": True, "note": "x" * 300}),
        "cancelled": site.post(delay_seconds=3600),
    }
    site.conductor(name="lost", isolation="process", version="1", lease_seconds=-1000)
    site.conductor(name="gone", isolation="process", released_at=time.time())
    site.poster.pause(found["paused"])
    site.poster.cancel(found["cancelled"], "not today")
    for state in ("cancelling", "parked", "running"):
        site.at_the_gate(found[state])
    for state in ("cancelling", "parked"):
        site.poster.cancel(found[state], "wrong folder")
    for state, job in found.items():
        site.wait(job, state)
    yield found
    for opened in (gate, undo_gate):
        opened.touch()
    site.wait(found["running"], "completed")
    site.wait(found["cancelling"], "cancelled")
    site.wait(found["reverting"], "failed")


def addresses(jobs):
    yield from ("/", "/?state=parked", "/?text=nothing-like-it")
    yield from (f"/jobs/{job}" for job in jobs.values())
    yield from (f"/jobs/{jobs[state]}/cancel" for state in ("running", "completed", "cancelled"))
    yield f"/jobs/{jobs['scheduled']}/delete"
    yield f"/cancel?id={jobs['running']}&id={jobs['scheduled']}"
    yield from ("/post", "/post/every-kind", "/conductors")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_and_nothing_sticks_out(visit, jobs, scheme, width):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce")
    found = []
    for address in addresses(jobs):
        page.goto(address)
        found += complaints(page, address)
    page.goto("/post/every-kind")
    page.get_by_label("count").fill("many")
    page.get_by_text("Labels, priority, delay").click()
    page.get_by_label("Labels").fill("none")
    page.get_by_role("button", name="Post").click()
    found += complaints(page, "a form that was refused")
    page.forgive(422)

    assert found == []


def complaints(page, place):
    """What axe finds on a page, and what is wider than it."""
    page.wait_for_load_state("load")
    for each in Axe().run(page).response["violations"]:
        nodes = [node["html"][:160] for node in each["nodes"][:3]]
        yield f"{place}: {each['id']}: {each['help']}: {nodes}"
    for each in page.evaluate(STICKS_OUT):
        yield f"{place}: {each} sticks out"


def test_the_login_and_what_is_not_there_are_looked_at_too(visit):
    found = []
    for scheme in ("light", "dark"):
        page = visit(None, color_scheme=scheme)
        for address in ("/login", "/login?problem=token"):
            page.goto(address)
            found += [(address, each["id"]) for each in Axe().run(page).response["violations"]]
        inside = visit(color_scheme=scheme)
        for address in ("/nothing", "/jobs/00000000-0000-4000-8000-000000000000"):
            inside.goto(address)
            found += [(address, each["id"]) for each in Axe().run(inside).response["violations"]]
        page.forgive(401)
        inside.forgive(404)

    assert found == []
