"""Which flows conductors and clients with these settings know."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.config import Settings
from ebbtide.errors import EbbtideError
from ebbtide.flows import load_flows
from ebbtide.jobs.doctor.finding import Finding, fine, wrong

__all__ = ["look"]

_SUBJECT = "flows"


def look(settings: Settings) -> Iterator[Finding]:
    """Whether every module of flows can be imported."""
    try:
        known = load_flows(settings.flow_modules).definitions()
    except EbbtideError as error:
        yield wrong(_SUBJECT, str(error), "mend the module, or name another one in flow_modules")
        return
    yield fine(_SUBJECT, ", ".join(definition.key for definition in known) or "none")
