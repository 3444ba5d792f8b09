"""The list of jobs in a browser."""

import pytest
from playwright.sync_api import expect


def test_a_login_url_works_once_and_leads_to_the_jobs(visit, site):
    page = visit(None)
    page.goto(site.login)
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")

    other = visit(None)
    other.goto(site.login)
    expect(other.get_by_role("alert")).to_be_visible()
    other.complaints.clear()
