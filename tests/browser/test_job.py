"""The page of one job in a browser: watched, cancelled in the middle, undone, retried."""

import re

from playwright.sync_api import expect


def badge(page):
    return page.locator('h1 [data-field="phase"], h1 .badge').first


def test_a_job_is_watched_cancelled_in_the_middle_undone_and_retried(visit, site):
    gate, undo_gate = site.gate("course"), site.gate("course-undo")
    job = site.post(params={"gate": str(gate), "undo_gate": str(undo_gate)})
    page = visit()
    page.goto(f"/jobs/{job}")
    site.at_the_gate(job)
    expect(badge(page)).to_have_text("running")
    expect(page.get_by_text("waits at the gate")).to_be_visible()
    expect(page.locator(".log")).to_contain_text("first says hello")

    page.get_by_role("link", name=re.compile("^Cancel")).click()
    page.get_by_label(re.compile("Why|Reason")).fill("wrong folder")
    page.get_by_role("button", name="Cancel and undo").click()
    expect(badge(page)).to_have_text("cancelling")
    expect(page.get_by_text("wrong folder").first).to_be_visible()
    undo_gate.touch()

    expect(badge(page)).to_have_text("cancelled")
    expect(page.get_by_role("heading", name="Receipt of the undo")).to_be_visible()
    undone = page.locator("ol.receipt li b").all_text_contents()
    assert undone[-1] == "first"
    assert set(undone) >= {"first", "left", "right", "second"}
    gate.touch()
    page.get_by_role("button", name="Retry").click()
    expect(badge(page)).to_have_text("completed")
    assert site.poster.show(job).attempt == 2


def test_a_job_rests_once_its_running_tasks_have_ended_and_goes_on(visit, site):
    gate = site.gate("rest")
    job = site.post(params={"gate": str(gate)})
    site.at_the_gate(job)
    page = visit()
    page.goto(f"/jobs/{job}")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".asked")).to_have_text("It will rest as soon as the tasks that run now have ended.")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    gate.touch()
    expect(badge(page)).to_have_text("paused")

    page.get_by_role("button", name="Resume").click()

    expect(badge(page)).to_have_text("completed")
    assert [record.task for record in site.poster.tasks(job)].count("hold") == 1


def test_a_job_is_rewound_and_resumed(visit, site):
    gate = site.gate("pause")
    job = site.post(params={"gate": str(gate)})
    site.at_the_gate(job)
    page = visit()
    page.goto(f"/jobs/{job}")
    page.get_by_label("Back to").select_option("halfway")
    page.get_by_role("button", name="Rewind").click()
    gate.touch()
    expect(badge(page)).to_have_text("paused")

    page.get_by_role("button", name="Resume").click()

    expect(badge(page)).to_have_text("completed")
    names = [entry.name for entry in site.poster.entries(job)]
    assert "rewind_requested" in names


def test_a_job_whose_undo_failed_is_tried_again_once_it_is_mended(visit, site):
    mended = site.gate("mended")
    job = site.post("stuck", {"mended": str(mended), "gate": str(site.gate("never"))})
    site.at_the_gate(job)
    site.poster.cancel(job)
    page = visit()
    page.goto(f"/jobs/{job}")
    expect(page.get_by_role("heading", name="It needs a person")).to_be_visible()
    expect(page.get_by_text("the other side is away").first).to_be_visible()
    mended.touch()

    page.get_by_role("button", name="Try again").first.click()

    expect(badge(page)).to_have_text("cancelled")


def test_a_job_whose_undo_failed_is_closed_as_it_is_with_a_reason(visit, site):
    job = site.post("stuck", {"mended": str(site.gate("nothing")), "gate": str(site.gate("never"))})
    site.at_the_gate(job)
    site.poster.cancel(job)
    site.wait(job, "parked")
    page = visit()
    page.goto(f"/jobs/{job}")
    page.get_by_label("Why it may stay so").fill("seen to by hand")
    page.get_by_role("button", name="Accept as it is").click()

    expect(badge(page)).to_have_text("cancelled")
    expect(page.get_by_text("seen to by hand").first).to_be_visible()


def test_an_undo_that_fails_is_left_out_with_a_reason(visit, site):
    job = site.post("stuck", {"mended": str(site.gate("never")), "gate": str(site.gate("never"))})
    site.at_the_gate(job)
    site.poster.cancel(job)
    page = visit()
    page.goto(f"/jobs/{job}")
    page.get_by_label("Why it may stay done").fill("seen to elsewhere")
    page.get_by_role("button", name="Leave it out").click()

    expect(badge(page)).to_have_text("cancelled")
    not_undone = page.get_by_role("region", name="Receipt of the undo").locator("ul.receipt")
    expect(not_undone).to_contain_text("part")
    expect(page.get_by_role("region", name="History")).to_contain_text("seen to elsewhere")


def test_a_job_that_holds_goes_on_from_its_failure(visit, site):
    mended = site.gate("wanted")
    job = site.post("holds", {"mended": str(mended)})
    page = visit()
    page.goto(f"/jobs/{job}")
    expect(badge(page)).to_have_text("parked")
    expect(page.get_by_text("what it wants is not there").first).to_be_visible()
    mended.touch()

    page.get_by_role("button", name="Go on from the failure").first.click()

    expect(badge(page)).to_have_text("completed")
    expect(page.get_by_role("main")).not_to_contain_text("attempt 2")
    assert [record.task for record in site.poster.tasks(job)].count("first") == 1


def test_who_may_only_look_is_offered_nothing_else(visit, site):
    job = site.post(delay_seconds=3600)
    page = visit("viewer")
    for address in ("/", f"/jobs/{job}"):
        page.goto(address)
        acts = re.compile("^(Cancel…|Cancel selected|Pause|Retry|Post|Delete)")
        for kind in ("link", "button"):
            expect(page.get_by_role("main").get_by_role(kind, name=acts)).to_have_count(0)
    site.poster.cancel(job)
