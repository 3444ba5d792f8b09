"""What an OpenAI-compatible endpoint sends: server-sent events, each with a piece of the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ebbtide.errors import EbbtideError
from ebbtide.wording import one_line

__all__ = ["AnswerUnusable", "Reader", "Usage"]

_LONGEST_LINE: Final = 1024 * 1024


class AnswerUnusable(EbbtideError):
    """The endpoint answered with something else than a stream of an answer. `url` is as it may be shown."""

    def __init__(self, url: str, problem: str) -> None:
        self.url, self.problem = url, problem
        super().__init__(url, problem)

    def __str__(self) -> str:
        return f"{self.url} {one_line(self.problem)}: compare the endpoint and the model, then retry"


@dataclass
class Usage:
    """How many tokens it took, as the endpoint says; None: it does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Reader:
    """Takes what arrives, in pieces of any size, and gives the pieces of the answer in it.

    Attributes:
        done: whether the answer has come to its end.
        finish: why it ended, in the endpoint's word; None: it did not say.
        usage: what it has said of tokens so far.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._rest = b""
        self.done = False
        self.finish: str | None = None
        self.usage = Usage()

    def texts(self, data: bytes) -> list[str]:
        """The pieces of the answer that `data` completes; never an empty one.

        Raises:
            AnswerUnusable: it is none, or the endpoint says that something went wrong.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise AnswerUnusable(self._url, "sent a line without an end")
        return [text for line in lines if (text := self._text(line.strip()))]

    def _text(self, line: bytes) -> str:
        if not line.startswith(b"data:"):
            return ""  # an empty line, a comment that keeps the connection open, the name of an event
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self.done = True
            return ""
        try:
            event = json.loads(data)
            return self._of(event)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise AnswerUnusable(self._url, "sent an event that is no piece of an answer") from None

    def _of(self, event: dict[str, Any]) -> str:
        if "error" in event:
            error = event["error"]
            told = error.get("message", error) if isinstance(error, dict) else error
            raise AnswerUnusable(self._url, f"broke off, {one_line(told, 160)}")
        usage = event.get("usage") or {}
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(usage.get(name), int):
                setattr(self.usage, name, usage[name])
        text = ""
        for choice in event["choices"][:1]:
            text = choice.get("delta", {}).get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish
        if not isinstance(text, str):
            raise TypeError(text)
        return text
