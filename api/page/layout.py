"""The layout of a graph: each task in a layer behind all that comes before it, with few crossings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Layout", "lay_out"]

# Two sweeps there and two back untangle what people write; more change nothing that one would see.
_SWEEPS = 4


@dataclass(frozen=True)
class Layout:
    """Where everything stands, in whole columns and fractions of rows.

    Attributes:
        layers: the names in each column, from top to bottom.
        rows: of each name the row that it stands in; layers are centred to one another.
        ways: of each link the row that it passes in every column between its ends.
    """

    layers: Sequence[Sequence[str]]
    rows: dict[str, float]
    ways: dict[tuple[str, str], Sequence[tuple[int, float]]]

    @property
    def height(self) -> float:
        """How many rows there are."""
        passed = (row for way in self.ways.values() for _, row in way)
        return max([*self.rows.values(), *passed], default=-1.0) + 1.0


def lay_out(names: Sequence[str], links: Iterable[tuple[str, str]]) -> Layout:
    """Lay tasks out in layers by the longest way to them. Links in a circle, or to nobody, count for nothing.

    Args:
        names: each once; where nothing else decides, those that come first stand on top.
    """
    known = set(names)
    wanted = dict.fromkeys((first, then) for first, then in links if first != then and {first, then} <= known)
    depths, kept = _depths(names, wanted)
    # A link over several layers passes each of them between the tasks, as a point of its own.
    points: dict[object, list[object]] = {name: [] for name in names}
    layers: list[list[object]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for name in names:
        layers[depths[name]].append(name)
    for first, then in kept:
        before: object = first
        for depth in range(depths[first] + 1, depths[then]):
            passing = (first, then, depth)
            layers[depth].append(passing)
            points[passing] = []
            points[before].append(passing)
            before = passing
        points[before].append(then)
    _untangle(layers, points)
    tallest = max(map(len, layers), default=0)
    rows: dict[object, float] = {}
    for layer in layers:
        top = (tallest - len(layer)) / 2
        rows |= {each: top + place for place, each in enumerate(layer)}
    return Layout(
        layers=[[each for each in layer if isinstance(each, str)] for layer in layers],
        rows={name: rows[name] for name in names},
        ways={
            (first, then): [
                (depth, rows[first, then, depth]) for depth in range(depths[first] + 1, depths[then])
            ]
            for first, then in kept
        },
    )


def _depths(
    names: Sequence[str], links: Iterable[tuple[str, str]]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The layer of each name, and the links that are in no circle."""
    after: dict[str, list[str]] = {name: [] for name in names}
    waits = dict.fromkeys(names, 0)
    for first, then in links:
        after[first].append(then)
        waits[then] += 1
    depths = dict.fromkeys(names, 0)
    ready = [name for name in names if not waits[name]]
    kept = []
    for name in ready:  # it grows as it is gone through
        for then in after[name]:
            kept.append((name, then))
            depths[then] = max(depths[then], depths[name] + 1)
            waits[then] -= 1
            if not waits[then]:
                ready.append(then)
    placed = set(ready)
    # What is in a circle, or behind one, stands in the first layer, without links.
    depths |= {name: 0 for name in names if name not in placed}
    return depths, [(first, then) for first, then in kept if then in placed]


def _untangle(layers: list[list[object]], after: dict[object, list[object]]) -> None:
    """Order each layer by where its neighbours stand, there and back."""
    before: dict[object, list[object]] = {each: [] for each in after}
    for each, thens in after.items():
        for then in thens:
            before[then].append(each)
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        ordered = range(1, len(layers)) if forwards else range(len(layers) - 2, -1, -1)
        for depth in ordered:
            beside = layers[depth - 1 if forwards else depth + 1]
            _sort(layers[depth], beside, before if forwards else after)


def _sort(layer: list[object], beside: Sequence[object], neighbours: dict[object, list[object]]) -> None:
    places = {each: place / max(len(beside) - 1, 1) for place, each in enumerate(beside)}
    here = {each: place / max(len(layer) - 1, 1) for place, each in enumerate(layer)}

    def middle(each: object) -> float:
        found = [places[neighbour] for neighbour in neighbours[each]]
        return sum(found) / len(found) if found else here[each]

    layer.sort(key=middle)  # stable: equals keep the order that they had
