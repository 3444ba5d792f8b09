"""Posting from a form that is made from the flow's schema."""

import re

import pytest

from ebbtide.flows import FlowDefinition
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.store import Store
from tests.api.page.conftest import sent_as_it_is, shown
from tests.api.page.flows_with_fields import every_kind

FILLED = {"p-title": "t", "p-count": "2"}


@pytest.fixture
def form(browser, poster, database):
    """The form of the flow with every kind of parameter."""
    with Store(database) as store:
        Catalogue(store).publish([FlowDefinition.of("every-kind", every_kind)])
    return browser.look("/post/every-kind")


def posted(answer, ann):
    assert answer.status_code == 303, shown(answer.text)
    place, _, query = answer.headers["location"].partition("?")
    assert query == "told=posted"
    return ann.get(f"/api/v1{place}").json()


def test_the_flows_that_conductors_have_published_are_offered(browser):
    page = browser.look("/post")

    assert re.findall(r'href="/post/([\w-]+)"', page) == ["add", "publish"]
    assert "Add two numbers." in shown(page)


def test_what_an_author_has_between_backticks_is_code(browser, database):
    def backed_up():
        """Copy to ``/srv/<b>``, as `cp` does; a ` is none."""

    with Store(database) as store:
        Catalogue(store).publish([FlowDefinition.of("backed-up", backed_up)])

    for place in ("/post", "/post/backed-up"):
        page = browser.look(place)
        assert "Copy to /srv/&lt;b&gt;, as <code>cp</code> does; a ` is none." in page


def test_the_form_has_a_field_for_each_parameter_with_its_default(form):
    assert re.findall(r'<label for="p-(\w+)"', form) == list(every_kind.__annotations__)
    assert "what it is called, <b>in short</b>" in shown(form)
    assert "<b>in short" not in form
    for name, control in (
        ("day", r'type="date" value="2026-01-31"'),
        ("hosts", r">\na\nb</textarea>"),
        ("region", r"<option selected>north</option>"),
        ("password", "env:NAME or file:/path"),
    ):
        assert re.search(rf"(?s)p-{name}.*{control}|{control}.*p-{name}", form), name


def test_a_form_that_is_filled_in_where_it_has_to_be_posts_the_defaults(browser, ann, form):
    job = posted(browser.fill("/post/every-kind@1", **(sent_as_it_is(form) | FILLED)), ann)

    assert job["params"] == {
        "title": "t",
        "count": 2,
        "day": "2026-01-31",
        "ratio": None,
        "dry": False,
        "region": "north",
        "hosts": ["a", "b"],
        "sizes": [],
        "size": None,
        "password": None,
        "greeting": "hello",
        "note": None,
    }


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("title", "  12 ", "  12 "),
        ("day", "2026-02-01", "2026-02-01"),
        ("ratio", "0.5", 0.5),
        ("dry", "true", True),
        ("region", "south", "south"),
        ("hosts", "x\r\n\r\n y ,z\r\n", ["x", "y ,z"]),
        ("hosts", "", []),
        ("sizes", "[1, 2]", [1, 2]),
        ("size", '{"width": 3}', {"width": 3}),
        ("password", "env:SECRET", "env:SECRET"),
        ("greeting", "", ""),
        ("note", "", None),
        ("note", "null", "null"),
        ("count", " 7 ", 7),
    ],
)
def test_what_is_typed_is_taken_as_the_schema_means_it(browser, ann, form, name, text, value):
    fields = {**sent_as_it_is(form), **FILLED, f"p-{name}": text}

    job = posted(browser.fill("/post/every-kind", **fields), ann)

    assert job["params"][name] == value


@pytest.mark.parametrize(
    "name, text",
    [
        ("title", ""),
        ("count", ""),
        ("count", "many"),
        ("count", "0"),
        ("day", "31.1."),
        ("ratio", "half"),
        ("region", "east"),
        ("sizes", "[1, "),
        ("size", '{"height": 3}'),
    ],
)
def test_what_does_not_fit_is_told_beside_its_field_and_nothing_is_lost(browser, ann, form, name, text):
    fields = {**sent_as_it_is(form), **FILLED, "labels": "team=a", f"p-{name}": text}

    answer = browser.fill("/post/every-kind", **fields)

    assert answer.status_code == 422
    assert re.findall(r'class="wrong" id="p-(\w+)-wrong"', answer.text) == [name]
    again = sent_as_it_is(answer.text)
    kept = {key: value for key, value in fields.items() if key.startswith("p-") and key != "p-region"}
    assert again | kept == again
    assert "team=a</textarea>" in answer.text
    assert ann.get("/api/v1/jobs").json()["jobs"] == []


def test_what_may_be_a_secret_is_not_shown_again(browser, form):
    answer = browser.fill("/post/every-kind", **FILLED, **{"p-password": "hunter2"})

    assert answer.status_code == 422
    assert "should be a reference" in shown(answer.text)
    assert "hunter2" not in answer.text


def test_labels_priority_delay_and_key_go_with_the_job(browser, ann):
    wished = {"labels": "team=a\r\nenv=prod=1\r\n", "priority": "5", "delay": "3600", "exclusive": "disk"}

    job = posted(browser.fill("/post/add", **{"p-a": "1"}, **wished), ann)

    assert job["labels"] == {"team": "a", "env": "prod=1"}
    assert (job["priority"], job["phase"], job["exclusive_key"]) == (5, "scheduled", "disk")
    assert job["posted_by"] == "ann"


@pytest.mark.parametrize(
    "name, text",
    [("labels", "team"), ("labels", "=a"), ("priority", "high"), ("priority", "1.5"), ("delay", "soon")],
)
def test_a_wish_that_is_none_is_told_beside_its_field(browser, name, text):
    answer = browser.fill("/post/add", **{"p-a": "1"}, **{name: text})

    assert answer.status_code == 422
    assert f'id="{name}-wrong"' in answer.text


@pytest.mark.parametrize(
    "name, text",
    [("labels", "a=" + "x" * 300), ("priority", "1001"), ("delay", "-1"), ("delay", "nan"), ("delay", "inf")],
)
def test_a_wish_that_cannot_be_is_told_on_the_page(browser, ann, name, text):
    answer = browser.fill("/post/add", **{"p-a": "1"}, **{name: text})

    assert answer.status_code in (400, 422)
    assert "Nothing was posted" in shown(answer.text)
    assert ann.get("/api/v1/jobs").json()["jobs"] == []


def test_a_form_that_is_sent_twice_posts_one_job(browser, ann):
    first, second = (posted(browser.fill("/post/add", key="k", **{"p-a": "1"}), ann) for _ in range(2))
    other = browser.fill("/post/add", key="k", **{"p-a": "2"})

    assert first["id"] == second["id"]
    assert other.status_code == 422
    assert f'href="/jobs/{first["id"]}"' in other.text
    (key,) = re.findall(r'name="key" value="([^"]*)"', other.text)
    assert posted(browser.fill("/post/add", key=key, **{"p-a": "2"}), ann)["id"] != first["id"]


def test_a_flow_that_is_not_there_is_a_page(browser):
    assert browser.get("/post/nothing").status_code == 404
    assert "There is no such flow" in shown(browser.get("/post/nothing").text)
    assert browser.get("/post/..%2Fadd").status_code in (400, 404)


def test_without_conductors_it_says_how_to_get_flows(browser, ask_for):
    ask_for("DELETE FROM published_flows")

    assert "Conductors publish the flows" in shown(browser.look("/post"))


@pytest.mark.parametrize("path", ["/post", "/post/add"])
def test_viewers_do_not_post(browse, ann, path):
    viewer = browse("viewer")

    assert viewer.get(path).status_code == 403
    assert viewer.fill("/post/add", **{"p-a": "1"}).status_code == 403
    assert ann.get("/api/v1/jobs").json()["jobs"] == []


def test_a_form_of_another_session_posts_nothing(browser, ann):
    assert browser.fill("/post/add", csrf="0" * 64, **{"p-a": "1"}).status_code == 403
    assert ann.get("/api/v1/jobs").json()["jobs"] == []
