"""HEAD: what a GET would answer, without its body."""

from __future__ import annotations

import asyncio

from ebbtide.api.headers import App, Message, Receive, Scope, Send

__all__ = ["Head"]

# A login URL is spent when it is opened, and whoever sends a HEAD asks for no change: it stays refused there.
_SPENT = "/login/"


class Head:
    """ASGI middleware: the rest of the application sees a GET. Nothing is answered before that has ended."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head or scope["path"].startswith(_SPENT):
            await self._app(scope, receive, send)
            return
        answered = asyncio.Event()
        kept: list[Message] = []
        first: Message | None = {"type": "http.request", "body": b"", "more_body": False}

        async def ask() -> Message:
            """No body; then, as soon as the headers are known, that nobody listens: so streams end."""
            nonlocal first
            if first is not None:
                message, first = first, None
                return message
            await answered.wait()
            return {"type": "http.disconnect"}

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept.append(message)
                answered.set()

        await self._app({**scope, "method": "GET"}, ask, keep)
        for message in kept:
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
