"""Requests over HTTP from within tasks: waits that a cancel ends, redirects by rules, errors of one line."""

from ebbtide.tasks.http.answers import require_httpx
from ebbtide.tasks.http.client import Client
from ebbtide.tasks.http.errors import ExtraMissing, HttpTaskError, RequestFailed
from ebbtide.tasks.http.patience import Patience, retry_after
from ebbtide.tasks.http.urls import plain_url, shown_url

__all__ = [
    "Client",
    "ExtraMissing",
    "HttpTaskError",
    "Patience",
    "RequestFailed",
    "plain_url",
    "require_httpx",
    "retry_after",
    "shown_url",
]
