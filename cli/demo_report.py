"""The end of the demo: what happened in a table, what was undone in which order, what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ebbtide.cli.demo_acts import Scene
from ebbtide.cli.output import columns, phase, plain, styled
from ebbtide.cli.view import undo_order

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


def report(scenes: Sequence[Scene]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    names = ("job", "state", "attempt", "tasks done", "undone", "request -> event", "-> undone")
    table = columns(names, [_row(scene) for scene in scenes], right=names[2:])
    parts: list[RenderableType] = [table]
    for scene in scenes:
        order = undo_order(scene.end.tasks)
        if order:
            told = ", ".join(plain(task.task) for task in order)
            parts += [Text(""), Text(f"Undone of {scene.name}, in this order: {told}")]
    parts += [Text(""), Text("Checked in the store and on disk:"), _check_table(scenes)]
    return Group(*parts)


def as_dict(scenes: Sequence[Scene]) -> dict[str, Any]:
    return {
        "holds": all(scene.holds for scene in scenes),
        "jobs": [
            {
                **scene.end.as_dict(),
                "name": scene.name,
                "undone_in_order": [task.task for task in undo_order(scene.end.tasks)],
                "latency_ms": _latencies(scene),
                "checks": [check.as_dict() for check in scene.checks],
            }
            for scene in scenes
        ],
    }


def _row(scene: Scene) -> list[Text | str]:
    job = scene.end.job
    done = sum(task.how == "returned" for task in scene.end.tasks)
    undone = len(undo_order(scene.end.tasks))
    latencies = _latencies(scene)
    told = (latencies["event"], latencies["undone"])
    return [
        styled(scene.name, "bold"),
        phase(str(job.state)),
        str(job.attempt),
        str(done),
        str(undone) if undone else "",
        *("" if value is None else f"{value:.0f} ms" for value in told),
    ]


def _latencies(scene: Scene) -> dict[str, float | None]:
    """Milliseconds from the request to each of what followed it; None where there was no cancel."""
    request = scene.end.job.cancel
    times = (
        (request.forwarded_at, request.delivered_at, request.reverted_at) if request else (None, None, None)
    )
    return {
        name: None if at is None or request is None else round((at - request.requested_at) * 1000, 1)
        for name, at in zip(("event", "delivered", "undone"), times, strict=True)
    }


def _check_table(scenes: Sequence[Scene]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column()
    for scene in scenes:
        attempt = f", attempt {scene.end.job.attempt}" if scene.end.job.attempt > 1 else ""
        for check in scene.checks:
            found = f" ({check.found})" if check.found else ""
            mark = styled("  yes", "green") if check.holds else styled("  NO", "bold red")
            words = styled(f"{check.statement}{found}", "" if check.holds else "bold red")
            table.add_row(mark, styled(f"{scene.name}{attempt}"), words)
    return table
