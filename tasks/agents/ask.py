"""Asking a language model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from ebbtide.tasks.agents.events import AnswerUnusable, Reader
from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.http import Patience, RequestFailed, shown_url
from ebbtide.tasks.http.answers import (
    LONGEST_WORDS,
    failed,
    httpx_errors,
    refuse_error,
    require_httpx,
    settings,
    wants_words,
)
from ebbtide.tasks.streamtask import StreamTask

if TYPE_CHECKING:
    import httpx

__all__ = ["AskModel", "TellAnswer"]

_FIRST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 60.0


class AskModel(StreamTask):
    """Send a prompt to an OpenAI-compatible endpoint and stream its answer.

    execute: each piece of the answer is a chunk, a text, as it arrives; the last chunk is an object: why the
    answer ended, and how many tokens it took, if the endpoint says so. Where it is busy or cannot be
    reached, it is asked again, as long as nothing has come yet. On a cancel the connection is closed, which
    tells the endpoint to stop; what had come stays. Provides ``chunks``.

    undo: nothing. What others have read, and what the endpoint charges for, is not taken back.

    Args of execute:
        prompt: what is asked.
        endpoint: the address below which ``/chat/completions`` is.
        model: which one is asked, in the endpoint's word.
        key: sent as ``Authorization: Bearer``; None: nothing is.
        instructions: what it is told before the prompt; None: nothing.
        max_tokens, temperature: as the endpoint understands them; None: as it likes.
        timeout_seconds: how long it may be silent.
        retries: how often it is asked again.
    """

    default_provides = "chunks"

    async def execute(
        self,
        prompt: str,
        endpoint: str,
        model: str,
        key: str | None,
        instructions: str | None,
        max_tokens: int | None,
        temperature: float | None,
        timeout_seconds: float,
        retries: int,
    ) -> AsyncGenerator[Any, None]:
        require_httpx()
        told = [] if instructions is None else [{"role": "system", "content": instructions}]
        asked: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        asked["messages"] = [*told, {"role": "user", "content": prompt}]
        limits = {"max_tokens": max_tokens, "temperature": temperature}
        asked |= {name: value for name, value in limits.items() if value is not None}
        url = f"{endpoint.rstrip('/')}/chat/completions"
        patience = Patience(retries, _FIRST_WAIT_SECONDS, 2.0, _LONGEST_WAIT_SECONDS)
        failures = 0
        while True:
            pieces = 0
            try:
                async with contextlib.aclosing(_answer(url, asked, key, timeout_seconds)) as answer:
                    async for piece in answer:
                        pieces += 1
                        self.report(0.0, f"{pieces:,} pieces")
                        yield piece
                return
            except RequestFailed as error:
                failures += 1
                wait = patience.wait(failures, error.retry_after)
                if pieces or not error.passing or wait is None:
                    raise
                self.report(0.0, f"{error.problem}; asking again in {wait:.0f} s")
                await self.sleep(wait)


class TellAnswer(CancelableTask):
    """Say what came of it.

    execute: provides ``answer``: the whole text, why it ended (``finish``), and its prompt_tokens and
    completion_tokens (None: the endpoint did not say).

    undo: nothing, it changes nothing.

    Args of execute:
        chunks: what `AskModel` has sent.
    """

    default_provides = "answer"

    def execute(self, chunks: list[Any]) -> dict[str, Any]:
        *texts, end = chunks
        return {"text": "".join(texts), **end}


async def _answer(
    url: str, asked: dict[str, Any], key: str | None, timeout_seconds: float
) -> AsyncGenerator[Any, None]:
    """The pieces of one answer, and at its end what is known of it."""
    shown = shown_url(url)
    reader = Reader(shown)
    async with _posted(url, asked, key, timeout_seconds) as response:
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if response.status_code != 200 or kind != "text/event-stream":
            words = f"answered {response.status_code} with {kind or 'nothing'}, which is no stream"
            raise AnswerUnusable(shown, words)
        async for data in response.aiter_bytes():
            for text in reader.texts(data):
                yield text
            if reader.done:
                break
    if not (reader.done or reader.finish):
        raise RequestFailed(shown, "broke off before the end of its answer", "retry")
    usage = reader.usage
    yield {
        "finish": reader.finish,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }


@contextlib.asynccontextmanager
async def _posted(
    url: str, asked: dict[str, Any], key: str | None, timeout_seconds: float
) -> AsyncIterator[httpx.Response]:
    """The answer to a POST, its body not read yet. No redirect is followed: a prompt goes where it is sent.

    Within the block too, what httpx raises becomes `RequestFailed`.
    """
    import httpx

    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        async with (
            httpx.AsyncClient(**settings(timeout_seconds)) as client,
            client.stream("POST", url, json=asked, headers=headers) as response,
        ):
            if wants_words(response):
                refuse_error(response, url, await anext(response.aiter_bytes(LONGEST_WORDS), b""))
            refuse_error(response, url)
            yield response
    except httpx_errors() as error:
        raise failed(url, error) from error
