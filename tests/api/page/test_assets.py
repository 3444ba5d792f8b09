"""Styles and scripts."""

import re

import pytest


def test_what_a_page_needs_is_served_to_anybody_and_kept_until_it_changes(anonymous):
    page = anonymous.get("/login").text

    found = re.findall(r'(?:href|src)="(/static/[^"]*)"', page)

    assert len(found) >= 2
    for path in found:
        answer = anonymous.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_an_older_page_asks_for_is_there_and_not_kept(anonymous):
    answer = anonymous.get("/static/0123456789abcdef/ebbtide.css")

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize("name", ["nothing.css", "..%2F__init__.py", "%2e%2e", "ebbtide.css%00"])
def test_nothing_else_is_served(anonymous, name):
    assert anonymous.get(f"/static/x/{name}").status_code == 404


def test_no_page_has_a_script_or_a_style_in_it_or_loads_from_elsewhere(anonymous, browser, post):
    post()
    for page in (anonymous.get("/login").text, browser.look("/")):
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", page))
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)
