"""The states of a job as a picture and as a table for the docs, generated from the edges.

`python -m ebbtide.jobs.picture` prints both. With files as arguments it renews, in each of them, what stands
between ``<!-- generated: states -->`` or ``<!-- generated: edges -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ebbtide.jobs.states import EDGES, FINAL_STATES, Edge, JobState

__all__ = ["BLOCKS", "edges_table", "fill", "picture"]

_BLOCK = re.compile(r"(?<=<!-- generated: )(?P<name>[a-z-]+) -->\n.*?(?=<!-- end -->)", re.DOTALL)


def picture() -> str:
    """A Mermaid state diagram: one arrow for each pair of states, labelled with the edges it stands for."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for edge in EDGES:
        for source in _sources(edge) or ["[*]"]:
            arrows.setdefault((source, edge.target.value), []).append(edge.name)
    lines = [f"    {source} --> {target} : {', '.join(names)}" for (source, target), names in arrows.items()]
    lines += [f"    {state.value} --> [*]" for state in JobState if state in FINAL_STATES]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def edges_table() -> str:
    """A Markdown table with a row for each edge."""
    rows = [("edge", "from", "to", "who", "only if"), ("---",) * 5]
    for edge in EDGES:
        sources = ", ".join(_sources(edge)) or "-"
        rows.append((f"`{edge.name}`", sources, edge.target.value, edge.who, edge.only_if or "-"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """`text` with every generated block of it renewed that `blocks` names; all else stays as it is."""

    def renewed(found: re.Match[str]) -> str:
        name = found["name"]
        return f"{name} -->\n{blocks[name]}\n" if name in blocks else found[0]

    return _BLOCK.sub(renewed, text)


def _sources(edge: Edge) -> list[str]:
    return [state.value for state in JobState if state in edge.sources]


BLOCKS = {"states": picture(), "edges": edges_table()}


def main(files: list[str]) -> None:
    """Renew the blocks in `files`, or print them."""
    if not files:
        print("\n\n".join(BLOCKS.values()))
    for path in map(Path, files):
        path.write_text(fill(path.read_text(encoding="utf-8"), BLOCKS), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
