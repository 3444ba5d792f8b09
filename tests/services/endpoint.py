"""What an OpenAI-compatible endpoint sends, for a site of a test."""

from __future__ import annotations

import json
from typing import Any

from tests.services.site import Answering, Fault, Page

PATH = "/v1/chat/completions"
STREAM = {"Content-Type": "text/event-stream", "Connection": "close"}


def event(text: str | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """One event of the stream: a piece of the answer, or why it ends."""
    said = text is not None or finish is not None
    choices = [{"delta": {"content": text}, "finish_reason": finish}] if said else []
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


END = event(finish="stop") + event(usage={"prompt_tokens": 7, "completion_tokens": 3}) + b"data: [DONE]\n\n"


def streams(*pieces: bytes, stall: bool = False) -> Fault:
    """It sends these pieces, one after the other, and closes the connection, or says no more."""

    def fault(answering: Answering, page: Page) -> None:
        answering.head(200, STREAM)
        for piece in pieces:
            answering.wfile.write(piece)
            answering.wfile.flush()
        if stall:
            answering.stall()
        else:
            answering.cut()

    return fault
