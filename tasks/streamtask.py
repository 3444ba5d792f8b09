"""StreamTask: a task that sends what it has piece by piece, while it works."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar

from ebbtide.tasks import payload
from ebbtide.tasks.asynctask import AsyncTask, wrap_execute, wrap_undo

__all__ = ["StreamTask"]


def _wrap(cls: type[StreamTask], verb: str, function: Any) -> Callable[..., Any]:
    if verb == "revert":
        return wrap_undo(cls, function)
    where = f"{cls.__module__}.{cls.__qualname__}.{verb}"
    if not inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{where} is no async generator: a StreamTask runs an `async def {verb}(self, ...)` that yields"
        )

    @functools.wraps(function)
    async def body(self: StreamTask, *args: Any, **kwargs: Any) -> Any:
        return await self._ebbtide_send(function(self, *args, **kwargs))

    return wrap_execute(where, body, inner=function)


class StreamTask(AsyncTask, kind=True):
    """An AsyncTask whose execute is an async generator of chunks: each is JSON, stored and delivered.

        class Answer(StreamTask):
            async def execute(self, prompt):
                async for token in model.stream(prompt):
                    yield token

    A chunk is stored within a fraction of a second, several in one commit, and is read by
    ``poster.stream(job)`` while the task goes on, and afterwards. On a cancel the generator is closed; what
    it had sent stays, and is the partial result. The undo does not take it back: others have read it.

    Of a job the newest chunks are kept, 4 MiB of them. When the task has begun before and its runner died,
    ``self.sent`` says how many of its chunks are there already: a body that can goes on from there, any other
    sends all anew, and a reader tells by the `epoch` of a chunk.

    Attributes:
        collects: whether the chunks are the result: joined, if all are texts, else as a list. They may take
            no more than a result may; the task fails where they do. False: the result is their number.
        sent: how many chunks this attempt had of the task when it began.
    """

    _ebbtide_wrap: ClassVar[Any] = staticmethod(_wrap)

    collects: bool = True
    sent: int = 0

    async def _ebbtide_send(self, generator: AsyncGenerator[Any, None]) -> Any:
        run = self.run
        chunks: list[Any] = []
        size = count = 0
        try:
            self.sent = await self._ebbtide_call(run.open_stream, self.name)
            async for chunk in generator:
                text = run.encode(chunk, f"a chunk of {self.name}")
                count += 1
                if self.collects:
                    size += len(text)
                    if size > run.max_bytes:
                        raise payload.PayloadError(
                            f"the chunks of {self.name} take more than the {run.max_bytes} bytes allowed: "
                            "send less, or set collects = False"
                        )
                    chunks.append(payload.decode(text))
                if run.send(self.name, text):
                    await self._ebbtide_call(run.store_sent)
                await asyncio.sleep(0)  # one that never waits by itself would keep all others from the loop
        finally:
            await generator.aclose()
        if not self.collects:
            return count
        return "".join(chunks) if chunks and all(isinstance(c, str) for c in chunks) else chunks
