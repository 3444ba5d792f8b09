"""A poster's methods for asyncio programs: each call is made in a thread."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from ebbtide.errors import UsageError

__all__ = ["InThreads", "in_thread"]

_THREADS = 8

_P = ParamSpec("_P")
_T = TypeVar("_T")
_PosterT = TypeVar("_PosterT", covariant=True)


class InThreads(Generic[_PosterT]):
    """Has a poster, and threads to call its methods in. For one event loop."""

    def __init__(self, make: Callable[[], _PosterT]) -> None:
        self._make = make
        self._poster: _PosterT | None = None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ebbtide-poster")

    @property
    def _opened(self) -> _PosterT:
        if self._poster is None:
            raise UsageError(f"this {type(self).__name__} is not open: use it inside `async with`")
        return self._poster

    async def _open(self) -> _PosterT:
        self._poster = await self._call(self._make)
        return self._poster

    async def _call(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def in_thread(
    method: Callable[Concatenate[_PosterT, _P], _T],
) -> Callable[Concatenate[InThreads[_PosterT], _P], Coroutine[Any, Any, _T]]:
    """The method of a poster as one of whoever has it, which is awaited."""

    @functools.wraps(method)
    async def call(self: InThreads[_PosterT], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._call(functools.partial(method, self._opened, *args, **kwargs))

    return call
