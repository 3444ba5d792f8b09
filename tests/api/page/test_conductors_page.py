"""Who is alive, and what runs where."""

import time

import pytest

from tests.api.page.conftest import shown

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def conductor(ask_for):
    """A conductor as it would stand in the store, with a lease of so many seconds from now."""

    def create(name, lease, **more):
        from ebbtide.jobs import clock

        values = {
            "id": f"{name}-id",
            "name": name,
            "host": "vm",
            "pid": 7,
            "boot_id": clock.boot_id(),
            "flows": '["add@1"]',
            "started_at": time.time() - 100,
            "lease_until": clock.boot_seconds() + lease,
            "isolation": "process",
            "runners": 2,
            **more,
        }
        marks = ", ".join("?" * len(values))
        ask_for(f"INSERT INTO conductors ({', '.join(values)}) VALUES ({marks})", *values.values())
        return values["id"]

    return create


def test_without_a_conductor_it_says_how_to_start_one(browser):
    assert "ebbtide conductor" in shown(browser.look("/conductors"))


def test_those_that_live_fell_silent_and_ended_are_told_apart(browser, conductor):
    conductor("harbour", 1000)
    conductor("lost", -1000)
    conductor("gone", -1000, released_at=time.time())

    page = shown(browser.look("/conductors"))

    assert "1 alive, 1 silent" in page
    assert "lost fell silent" in page
    assert "harbour alive" in page
    assert page.index("Ended of late") < page.index("gone")


@pytest.mark.altered_by_hand("claimed without a conductor")
def test_what_runs_there_is_shown_to_those_who_may_see_it(browse, post, conductor, ask_for):
    job, owner = post(), conductor("harbour", 1000)
    ask_for("UPDATE jobs SET state = 'running', epoch = 1, owner = ? WHERE id = ?", owner, job)

    own, foreign = (browse("viewer", name).look("/conductors") for name in ("ann", "eve"))

    assert f'href="/jobs/{job}"' in own
    assert "1 of 2 runners" in shown(own)
    assert job[:8] not in foreign


def test_what_conductors_say_of_themselves_is_text(browser, conductor):
    conductor(NASTY, 1000, host=NASTY, flows=f'["{NASTY}"]', version=NASTY)

    page = browser.look("/conductors")

    assert NASTY not in page
    assert NASTY in shown(page)
