"""The drawing of a job: its graph as SVG, forwards and, while it is undone, backwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from ebbtide.api.page.layout import Layout, lay_out
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["STATE_WORDS", "draw_graph"]

_WIDTH, _HEIGHT = 148, 48
_GAP, _SPACE = 42, 16
_MARGIN = 14
_ROOM, _LETTERS = 134.0, 18  # for a name, in the units of the picture and in letters
# How wide letters are in the widest of the fonts that browsers take for our pages.
_WIDTHS = {
    **dict.fromkeys("fijlrt.,:;!|'()[] -", 5.9),
    **dict.fromkeys("ceksvxyz", 8.7),
    "w": 12.5,
    **dict.fromkeys("mMW@%", 14.5),
}
# Where an undo has begun, the links to it point back to what it comes to next.
_GOES_BACK = frozenset({"undoing", "undone", "stuck"})
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 65534, 65535), "�")

STATE_WORDS: Mapping[str, str] = {
    "pending": "not begun",
    "running": "running",
    "interrupted": "interrupted",
    "done": "done",
    "failed": "failed",
    "cancelled": "stopped",
    "undoing": "being undone",
    "undone": "undone",
    "stuck": "undo failed",
}
_SIGNS = {
    "pending": "",
    "running": "▸",
    "interrupted": "‖",
    "done": "✓",
    "failed": "✗",
    "cancelled": "■",
    "undoing": "↶",
    "undone": "↺",
    "stuck": "!",
}


def draw_graph(graph: Mapping[str, Any], order: Mapping[str, int] | None = None) -> str:
    """The graph document of a job, as `GET .../graph` answers it, as one SVG element.

    Classes alone say how it looks. Names may be anything: they are text in it, and nothing else.

    Args:
        order: of each task whose undo has begun its number in the order of the undo.
    """
    tasks: Sequence[Mapping[str, Any]] = graph["tasks"]
    by_name = {str(task["name"]): task for task in tasks}
    layout = lay_out(list(by_name), [(str(first), str(then)) for first, then in graph["links"]])
    backwards = bool(graph["backwards"])
    width = _MARGIN * 2 + len(layout.layers) * (_WIDTH + _GAP) - _GAP
    height = _MARGIN * 2 + layout.height * (_HEIGHT + _SPACE) - _SPACE
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "graph backwards" if backwards else "graph",
            "role": "img",
            "aria-labelledby": "graph-title graph-desc",
            "viewBox": f"0 0 {max(width, 1)} {_number(max(height, 1))}",
            "width": str(max(width, 1)),
            "height": _number(max(height, 1)),
        },
    )
    _text(svg, "title", "The tasks of the job, and what comes before what", id="graph-title")
    _text(svg, "desc", _told(tasks, backwards), id="graph-desc")
    for link, way in layout.ways.items():
        states = tuple(str(by_name[end]["state"]) for end in link)
        _draw_link(svg, layout, link, way, _direction(*states, backwards=backwards))
    for name, task in by_name.items():
        _draw_task(svg, layout, task, (order or {}).get(name))
    return ElementTree.tostring(svg, encoding="unicode")


def _told(tasks: Sequence[Mapping[str, Any]], backwards: bool) -> str:
    """The picture in a sentence; the table of tasks tells the same at length."""
    counts: dict[str, int] = {}
    for task in tasks:
        if str(task["name"]).startswith(PREFIX):
            continue
        word = STATE_WORDS.get(str(task["state"]), str(task["state"]))
        counts[word] = counts.get(word, 0) + 1
    told = ", ".join(f"{count} {word}" for word, count in counts.items()) or "none"
    way = "It is being undone, newest first. " if backwards else ""
    return f"{way}Of {sum(counts.values())} tasks: {told}."


def _direction(first: str, then: str, *, backwards: bool) -> str:
    """The classes of a link: how far it was gone, and in which direction it is gone now."""
    if then in _GOES_BACK or (backwards and then != "pending"):
        return "back moving" if then in _GOES_BACK and first != "undone" else "back"
    if then != "pending":
        return "gone"
    return "next" if first == "done" and not backwards else "ahead"


def _draw_link(
    svg: ElementTree.Element,
    layout: Layout,
    link: tuple[str, str],
    way: Sequence[tuple[int, float]],
    direction: str,
) -> None:
    places = {name: depth for depth, layer in enumerate(layout.layers) for name in layer}
    first, then = link
    points = [(_x(places[first]) + _WIDTH, _middle(layout.rows[first]))]
    for depth, row in way:
        points += [(_x(depth), _middle(row)), (_x(depth) + _WIDTH, _middle(row))]
    points.append((_x(places[then]), _middle(layout.rows[then])))
    group = ElementTree.SubElement(svg, "g", {"class": f"link {direction}"})
    ElementTree.SubElement(group, "path", {"d": _curve(points)})
    if direction.startswith("back"):
        x, y = points[0]
        wing, tip = x + 9, x + 1
    else:
        x, y = points[-1]
        wing, tip = x - 9, x - 1
    middle, ends = _number(y), (_number(y - 5), _number(y + 5))
    head = f"M{_number(wing)} {ends[0]}L{_number(tip)} {middle}L{_number(wing)} {ends[1]}Z"
    ElementTree.SubElement(group, "path", {"class": "head", "d": head})


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """From point to point: curved in the gaps between columns, straight through a column."""
    x, y = points[0]
    path = [f"M{_number(x)} {_number(y)}"]
    for number, (to_x, to_y) in enumerate(points[1:]):
        if number % 2:
            path.append(f"L{_number(to_x)} {_number(to_y)}")
        else:
            half = (x + to_x) / 2
            bend = (half, y, half, to_y, to_x, to_y)
            path.append(f"C{' '.join(map(_number, bend))}")
        x, y = to_x, to_y
    return "".join(path)


def _draw_task(svg: ElementTree.Element, layout: Layout, task: Mapping[str, Any], number: int | None) -> None:
    name, state = _clean(str(task["name"])), str(task["state"])
    depth = next(depth for depth, layer in enumerate(layout.layers) if task["name"] in layer)
    x, y = _x(depth), _middle(layout.rows[task["name"]]) - _HEIGHT / 2
    known = state if state in STATE_WORDS else "pending"
    group = ElementTree.SubElement(
        svg, "g", {"class": f"task is-{known}", "transform": f"translate({_number(x)} {_number(y)})"}
    )
    words = STATE_WORDS.get(state, state)
    share = _share(task.get("fraction")) if known in ("running", "interrupted") else None
    if share is not None:
        words = f"{words}, {int(share * 100 + 1e-9)} %"
    if number is not None:
        words = f"{words}, number {number} of the undo"
    _text(group, "title", f"{name}: {words}")
    box = {"width": str(_WIDTH), "height": str(_HEIGHT), "rx": "9"}
    ElementTree.SubElement(group, "rect", {"class": "box", **box})
    if share:
        ElementTree.SubElement(
            group, "rect", {"class": "share", "y": str(_HEIGHT - 4), "height": "4", "rx": "2", "x": "9"}
        ).set("width", _number((_WIDTH - 18) * share))
    shown = _fitting(name.removeprefix(PREFIX))
    _text(group, "text", shown, **{"class": "name", "x": "12", "y": "21"})
    sign, line = _SIGNS.get(state, ""), words.partition(", number")[0]
    if name.startswith(PREFIX):
        line = f"savepoint, {line}"
    line = f"{sign} {line}".strip()
    _text(group, "text", line, **{"class": "word", "x": "12", "y": "38"})
    if number is not None:
        x = _WIDTH - 4
        ElementTree.SubElement(group, "circle", {"class": "turn", "cx": str(x), "cy": "4", "r": "11"})
        _text(group, "text", str(number), **{"class": "number", "x": str(x), "y": "8"})


def _fitting(name: str) -> str:
    """As much of the name as has room."""
    shown = name[:_LETTERS]
    if shown == name and sum(map(_width, name)) <= _ROOM:
        return name
    shown = shown[: _LETTERS - 1]
    while sum(map(_width, shown)) + _width("…") > _ROOM:
        shown = shown[:-1]
    return shown.rstrip() + "…"


def _width(letter: str) -> float:
    if not letter.isascii():
        return 13.5
    return _WIDTHS.get(letter, 10.6 if letter.isupper() else 9.5)


def _share(fraction: Any) -> float | None:
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not math.isfinite(fraction):
        return None
    return min(max(float(fraction), 0.0), 1.0)


def _x(depth: int) -> float:
    return _MARGIN + depth * (_WIDTH + _GAP)


def _middle(row: float) -> float:
    return _MARGIN + row * (_HEIGHT + _SPACE) + _HEIGHT / 2


def _text(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, tag, attributes).text = _clean(text)


def _clean(text: str) -> str:
    """Without what no XML may hold, however it is written."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode("utf-8")


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
