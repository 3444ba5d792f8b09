"""What the tasks that speak HTTP raise: which address, what is wrong with it, what to do now."""

from __future__ import annotations

from ebbtide.errors import EbbtideError
from ebbtide.wording import one_line

__all__ = ["ExtraMissing", "HttpTaskError", "RequestFailed"]


class HttpTaskError(EbbtideError):
    """Root of what these tasks raise. The job is undone; a retry is possible once the cause is gone."""


class ExtraMissing(HttpTaskError):
    """The conductor's environment lacks the package that speaks HTTP."""

    def __str__(self) -> str:
        return (
            "a request over HTTP wants the package httpx, which is not here: "
            'pip install "ebbtide[http]" where the conductor runs, then retry'
        )


class RequestFailed(HttpTaskError):
    """A request did not bring what was asked for.

    Attributes:
        url: the address as it may be shown.
        problem, advice: what is wrong, and what to do now.
        passing: whether the same request may do better a little later.
        retry_after: seconds that the server asks to wait before that; None: it says nothing.
    """

    def __init__(
        self, url: str, problem: str, advice: str, *, passing: bool = False, retry_after: float | None = None
    ) -> None:
        self.url, self.problem, self.advice = url, problem, advice
        self.passing, self.retry_after = passing, retry_after
        super().__init__(url, problem, advice)

    def __str__(self) -> str:
        return f"{self.url} {one_line(self.problem)}: {self.advice}"
