"""Cancel requests without a ledger: for the flows and jobs of plain TaskFlow programs."""

from ebbtide.jobs.plain.requests import CancelRequests
from ebbtide.jobs.plain.urls import open_requests

__all__ = ["CancelRequests", "open_requests"]
