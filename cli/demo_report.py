"""The end of the demo: what happened in a table, what was undone in which order, what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ebbtide.cli.demo_acts import Scene, undone_in_order
from ebbtide.cli.output import columns, phase, plain, styled

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text


def report(scenes: Sequence[Scene]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    names = ("job", "state", "attempt", "done", "undone", "to event", "to task", "to undone")
    table = columns(names, [_row(scene) for scene in scenes], right=names[2:])
    parts: list[RenderableType] = [table]
    for scene in scenes:
        order = undone_in_order(scene.end.tasks)
        if order:
            told = ", ".join(plain(task.task) for task in order)
            parts += [Text(""), Text(f"Undone of {scene.name}, in this order: {told}", style="yellow")]
    parts += [Text(""), Text("Checked in the store and on disk:")]
    parts += [_line(scene, number) for scene in scenes for number in range(len(scene.checks))]
    return Group(*parts)


def as_dict(scenes: Sequence[Scene]) -> dict[str, Any]:
    return {
        "holds": all(scene.holds for scene in scenes),
        "jobs": [
            {
                **scene.end.as_dict(),
                "name": scene.name,
                "undone_in_order": [task.task for task in undone_in_order(scene.end.tasks)],
                "latency_ms": _latencies(scene),
                "checks": [check.as_dict() for check in scene.checks],
            }
            for scene in scenes
        ],
    }


def _row(scene: Scene) -> list[Text | str]:
    job = scene.end.job
    done = sum(task.how == "returned" for task in scene.end.tasks)
    undone = len(undone_in_order(scene.end.tasks))
    latencies = [f"{value:.0f} ms" if value is not None else "" for value in _latencies(scene).values()]
    return [
        styled(scene.name, "bold"),
        phase(str(job.state)),
        str(job.attempt),
        str(done),
        str(undone) if undone else "",
        *latencies,
    ]


def _latencies(scene: Scene) -> dict[str, float | None]:
    """Milliseconds from the request to each of what followed it; None where there was no cancel."""
    request = scene.end.job.cancel
    times = (
        (request.forwarded_at, request.delivered_at, request.reverted_at) if request else (None, None, None)
    )
    return {
        name: None if at is None or request is None else round((at - request.requested_at) * 1000, 1)
        for name, at in zip(("event", "task", "undone"), times, strict=True)
    }


def _line(scene: Scene, number: int) -> Text:
    check = scene.checks[number]
    mark, style = ("yes", "green") if check.holds else ("NO", "bold red")
    found = f" ({check.found})" if check.found else ""
    attempt = f", attempt {scene.end.job.attempt}" if scene.end.job.attempt > 1 else ""
    line = styled(f"  {mark:4}", style)
    line.append_text(styled(f"{scene.name}{attempt}: {check.statement}{found}", "" if check.holds else style))
    return line
