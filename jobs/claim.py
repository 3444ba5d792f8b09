"""A claim, and the request to stop what is claimed: what a conductor hands to its runner."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Claim", "Request"]


@dataclass(frozen=True)
class Request:
    """A cancel request as it is forwarded."""

    job_id: str
    reason: str
    source: str
    attempt: int

    def is_for(self, claim: Claim) -> bool:
        """Whether it asks for the end of that run: it says nothing of the job's other attempts."""
        return (claim.job_id, claim.attempt) == (self.job_id, self.attempt)


@dataclass(frozen=True)
class Claim:
    """The right to run one job. Travels to its runner as JSON, so it is small; the runner reads the rest."""

    job_id: str
    flow: str
    version: int
    attempt: int
    epoch: int
    write: int
    cancel: Request | None = None

    @property
    def key(self) -> str:
        return f"{self.flow}@{self.version}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Claim:
        cancel = values["cancel"]
        return cls(**(values | {"cancel": Request(**cancel) if cancel else None}))
