"""The drawing of a graph: where tasks stand, which way links point, and that names are nothing but text."""

import random
from xml.etree import ElementTree

import pytest

from ebbtide.api.page.drawing import STATE_WORDS, draw_graph
from ebbtide.api.page.layout import lay_out

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "]]></svg><svg onload=alert(1)>",
    "&amp;&lt;",
    "a\x00b\x1b[31m\x0b",
    "\ud800 half",
    "\u202egnp.exe",
    "javascript:alert(1)",
    "x" * 5000,
]


def graph(states, links, backwards=False, fraction=None):
    tasks = [
        {"name": name, "kind": "task", "state": state, "fraction": fraction} for name, state in states.items()
    ]
    return {"attempt": 1, "backwards": backwards, "tasks": tasks, "links": links}


def drawn(*args, order=None, **more):
    return ElementTree.fromstring(draw_graph(graph(*args, **more), order))


def classes(svg, of):
    return [each.get("class") for each in svg.iter(f"{SVG}g") if each.get("class").split()[0] == of]


def random_graph(seed, size):
    chance = random.Random(seed)
    names = [f"task-{number}" for number in range(size)]
    pairs = {tuple(sorted(chance.sample(range(size), 2))) for _ in range(size * 2)}
    return names, [(names[first], names[then]) for first, then in sorted(pairs)]


@pytest.mark.parametrize("seed", range(20))
def test_every_task_stands_in_a_column_behind_all_that_comes_before_it(seed):
    names, links = random_graph(seed, 40)

    layout = lay_out(names, links)

    columns = {name: number for number, layer in enumerate(layout.layers) for name in layer}
    assert sorted(columns) == sorted(names)
    assert all(columns[first] < columns[then] for first, then in links)
    # As far to the left as it can be.
    before = {name: [first for first, then in links if then == name] for name in names}
    assert all(
        columns[name] == max([columns[each] + 1 for each in before[name]], default=0) for name in names
    )


@pytest.mark.parametrize("seed", range(20))
def test_no_two_tasks_and_no_task_and_a_passing_link_share_a_place(seed):
    names, links = random_graph(seed, 40)

    layout = lay_out(names, links)

    places = [(column, layout.rows[name]) for column, layer in enumerate(layout.layers) for name in layer]
    places += [place for way in layout.ways.values() for place in way]
    assert len(places) == len(set(places))
    assert all(0 <= row < layout.height for _, row in places)


def test_parallel_chains_do_not_cross():
    names = [f"{chain}{number}" for number in range(4) for chain in "cab"]
    links = [(f"{chain}{number}", f"{chain}{number + 1}") for chain in "abc" for number in range(3)]

    rows = lay_out(names, links).rows

    assert all(rows[f"{chain}{number}"] == rows[f"{chain}0"] for chain in "abc" for number in range(4))


def test_links_in_a_circle_to_oneself_or_to_nobody_break_nothing():
    layout = lay_out(["a", "b", "c"], [("a", "b"), ("b", "a"), ("c", "c"), ("c", "nobody"), ("a", "c")])

    assert sorted(name for layer in layout.layers for name in layer) == ["a", "b", "c"]


def test_a_graph_of_hundreds_is_laid_out_and_has_room_for_each():
    names, links = random_graph(1, 600)

    svg = drawn(dict.fromkeys(names, "pending"), links)

    assert len(classes(svg, "task")) == 600
    assert len({each.get("transform") for each in svg.iter(f"{SVG}g") if each.get("transform")}) == 600


def test_a_graph_without_tasks_is_drawn_empty():
    assert classes(drawn({}, []), "task") == []


def test_forwards_links_are_gone_next_or_ahead():
    states = {"a": "done", "b": "running", "c": "done", "d": "pending", "e": "pending"}
    links = [["a", "b"], ["c", "d"], ["d", "e"]]

    assert classes(drawn(states, links), "link") == ["link gone", "link next", "link ahead"]


def test_backwards_the_links_between_what_had_begun_are_turned():
    states = {"a": "done", "b": "done", "c": "undoing", "d": "undone", "e": "pending"}
    links = [["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"]]

    svg = drawn(states, links, backwards=True, order={"d": 1, "c": 2})

    assert svg.get("class") == "graph backwards"
    assert classes(svg, "link") == ["link back", "link back moving", "link back moving", "link ahead"]
    numbers = [each.text for each in svg.iter(f"{SVG}text") if each.get("class") == "number"]
    assert sorted(numbers) == ["1", "2"]


def test_each_state_has_a_class_and_words_of_its_own():
    svg = drawn({state: state for state in STATE_WORDS}, [])

    assert classes(svg, "task") == [f"task is-{state}" for state in STATE_WORDS]
    titles = [title.text for title in svg.iter(f"{SVG}title")][1:]
    assert titles == [f"{state}: {words}" for state, words in STATE_WORDS.items()]


def test_it_says_what_it_shows_to_those_who_do_not_see_it():
    svg = drawn({"a": "done", "b": "undone"}, [["a", "b"]], backwards=True)

    assert svg.get("role") == "img"
    told = {each.get("id"): each.text for each in svg if each.get("id")}
    assert svg.get("aria-labelledby").split() == list(told)
    assert told["graph-desc"] == "It is being undone, newest first. Of 2 tasks: 1 done, 1 undone."


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text_and_nothing_else(name):
    svg = drawn({name: name, "b": "<b>"}, [[name, "b"], ["b", name]], fraction=0.5)

    assert {each.tag.removeprefix(SVG) for each in svg.iter()} <= {
        "svg",
        "g",
        "title",
        "desc",
        "rect",
        "path",
        "text",
    }
    attributes = {key for each in svg.iter() for key in each.keys()}  # noqa: SIM118  # an element has no other keys
    assert not {key for key in attributes if key.startswith("on") or key in ("style", "href", "src")}
    shown = [each.text for each in svg.iter(f"{SVG}text") if each.get("class") == "name"]
    assert all(len(text) <= 18 for text in shown)


@pytest.mark.parametrize("fraction", [float("nan"), float("inf"), -1, 7, True, "0.5", None])
def test_a_share_that_cannot_be_is_not_drawn_beyond_its_box(fraction):
    svg = drawn({"a": "running"}, [], fraction=fraction)

    bars = [each for each in svg.iter(f"{SVG}rect") if each.get("class") == "share"]
    assert all(0 <= float(bar.get("width")) <= 130 for bar in bars)


def test_long_names_end_within_their_box_and_savepoints_are_told_as_such():
    def shown(name):
        svg = drawn({name: "done"}, [])
        return [each.text for each in svg.iter(f"{SVG}text")]

    assert shown("copy-files") == ["copy-files", "✓ done"]
    assert shown("savepoint:copied") == ["copied", "✓ savepoint, done"]
    for name in ("savepoint:after-everything-was-copied", "WWWWWWWWWWWWWW", "界" * 20, "x" * 5000):
        assert len(shown(name)[0]) <= 18 and shown(name)[0].endswith("…")
    assert "Of 1 tasks: 1 done." in ElementTree.tostring(
        drawn({"a": "done", "savepoint:b": "done"}, []), encoding="unicode"
    )
