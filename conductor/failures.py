"""What a task raised, as TaskFlow stores it."""

from __future__ import annotations

import logging

from oslo_serialization import jsonutils
from oslo_utils import reflection
from taskflow.types import failure

from ebbtide.conductor.redaction import Redactor
from ebbtide.tasks import Cancelled, payload
from ebbtide.tasks.wrapping import describe

__all__ = ["storable_failure"]

LOG = logging.getLogger(__name__)


def storable_failure(error: Exception, redactor: Redactor) -> failure.Failure:
    """TaskFlow's record of what a task raised; without arguments and causes where they cannot be stored,
    or hold a secret. A cancel is told without the lines of code where it was delivered: nobody looks for
    its cause there, and a thousand at once would read them from disk.
    """
    if isinstance(error, Cancelled):
        error = error.with_traceback(None)
    try:
        found = failure.Failure.from_exception(error)
        # Not every store takes NaN, which Python would write.
        text = jsonutils.dumps(found.to_dict(), allow_nan=False)
        if len(text) <= payload.MAX_BYTES and redactor.found(text) is None:
            return found
    except Exception:  # of whatever the error holds: bytes, a lock, a cause that raises
        LOG.debug("what a task raised cannot be stored as it is", exc_info=True)
    names = list(reflection.get_all_class_names(type(error), up_to=Exception))
    told = describe(error, redactor.redact)
    return failure.Failure(exc_type_names=names, exception_str=told, exc_args=[], causes=[])
