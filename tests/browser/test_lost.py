"""The server goes away and comes back: pages that are open say so, and are live again."""

import re

import pytest
from playwright.sync_api import expect


@pytest.fixture
def server(site):
    """The server of the site, to be ended and started again."""
    yield site.server
    site.server.stop()


def test_open_pages_say_that_they_are_offline_and_are_live_again(server, visit, site):
    job, other = (site.post(delay_seconds=3600) for _ in range(2))
    listing = visit()
    listing.goto("/")
    one, another = (listing.context.new_page() for _ in range(2))
    one.goto(f"/jobs/{job}")
    another.goto(f"/jobs/{other}")
    row = listing.locator(f'tr[data-job="{job}"]').locator('[data-field="phase"]')
    expect(row).to_have_text("scheduled")

    server.stop()
    for page in (listing, one, another):
        expect(page.get_by_text("Offline, trying again")).to_be_visible()
    site.poster.cancel(job, "while nobody served it")
    server.start()

    for page in (listing, one, another):
        expect(page.get_by_text("Offline")).to_have_count(0)
    expect(row).to_have_text("cancelled")  # what happened meanwhile
    expect(one.locator("h1")).to_contain_text("cancelled")
    expect(one.get_by_text("while nobody served it").first).to_be_visible()
    late = site.post(delay_seconds=3600)  # what happens from now on
    expect(listing.locator(f'tr[data-job="{late}"]')).to_be_visible()
    site.poster.cancel(late)
    expect(listing.locator(f'tr[data-job="{late}"]')).to_contain_text(re.compile("cancelled"))
    another.get_by_role("button", name="Pause").click()  # by a form that was loaded before
    expect(another.locator("h1")).to_contain_text("paused")
    site.poster.cancel(other)
    listing.forgive("Failed to load resource")
