"""The pytest plug-in: `prove_flow`, `cancel_at`, `ebbtide_service`. Whoever uses none loads nothing of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ebbtide.conductor import Service
    from ebbtide.testing import Cue, TaskRun
    from ebbtide.testing.proving.proof import Proof

__all__ = ["cancel_at", "ebbtide_service", "prove_flow"]


@pytest.fixture
def prove_flow() -> Callable[..., Proof]:
    """Proves a flow, and fails the test with its report when something is found; else returns the proof.

    def test_the_undo_of_my_flow(prove_flow, tmp_path):
        prove_flow("my-flow", {"folder": str(tmp_path)}, flow_modules=["myflows"], same=[tmp_path])

    All arguments are those of `ebbtide.testing.proving.prove_flow`.
    """
    from ebbtide.testing.proving import prove_flow as prove

    def proven(flow: str, *args: Any, **options: Any) -> Proof:
        proof = prove(flow, *args, **options)
        if not proof.holds:
            pytest.fail(proof.report(), pytrace=False)
        return proof

    return proven


@pytest.fixture
def cancel_at() -> Callable[..., TaskRun]:
    """Runs one task, cancels it at a moment, and undoes it; fails the test where no cancel took hold.

    def test_cancelled_half_way_nothing_is_left(cancel_at, tmp_path):
        cancel_at(at_message("page 1"), WritePages(), {"folder": tmp_path, "pages": 3})
        assert list(tmp_path.iterdir()) == []

    The first argument is a cue of `ebbtide.testing`, or a number: that checkpoint. The others are those of
    `ebbtide.testing.run_task`. Returns the run; what the undo raises is raised.
    """
    from ebbtide.testing import at_checkpoint, run_task

    def cancelled(cue: Cue | int, *args: Any, **options: Any) -> TaskRun:
        when = at_checkpoint(cue) if isinstance(cue, int) else cue
        run = run_task(*args, cancel=when, **options)
        if not run.cancelled:
            error = run.error
            pytest.fail(f"no cancel has stopped the task: {type(error).__name__}: {error}", pytrace=False)
        run.revert()
        return run

    return cancelled


@pytest.fixture
def ebbtide_service(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Service]]:
    """Makes an `ebbtide.Service` with a store of the test's own, which cancels what still runs at its end.

    def test_a_story_is_told(ebbtide_service):
        async def program():
            async with ebbtide_service(flows=[story]) as service:
                job = await service.post("story", {"words": ["once ", "upon ", "a time"]})
                return [chunk.value async for chunk in service.stream(job.id, timeout=30)]

        assert asyncio.run(program()) == ["once ", "upon ", "a time"]

    All arguments are those of `ebbtide.Service`. Called again in the same test it finds the same jobs, as a
    program does that is started again.
    """

    @contextlib.asynccontextmanager
    async def serving(database: str | None = None, **options: Any) -> AsyncIterator[Service]:
        from ebbtide.conductor import Service

        given: dict[str, Any] = {"shutdown_seconds": 0.0, "rest": "cancel"} | options
        async with Service(database or f"sqlite:///{tmp_path / 'ebbtide-service.db'}", **given) as service:
            yield service

    return serving
