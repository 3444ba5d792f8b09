"""What a task raised, as TaskFlow stores it."""

from __future__ import annotations

import logging

from oslo_serialization import jsonutils
from oslo_utils import reflection
from taskflow.types import failure

from ebbtide.tasks import payload
from ebbtide.tasks.wrapping import describe

__all__ = ["storable_failure"]

LOG = logging.getLogger(__name__)


def storable_failure(error: Exception) -> failure.Failure:
    """TaskFlow's record of what a task raised; without arguments and causes where they cannot be stored."""
    try:
        found = failure.Failure.from_exception(error)
        # Not every store takes NaN, which Python would write.
        if len(jsonutils.dumps(found.to_dict(), allow_nan=False)) <= payload.MAX_BYTES:
            return found
    except Exception:  # of whatever the error holds: bytes, a lock, a cause that raises
        LOG.debug("what a task raised cannot be stored as it is", exc_info=True)
    names = list(reflection.get_all_class_names(type(error), up_to=Exception))
    return failure.Failure(exc_type_names=names, exception_str=describe(error), exc_args=[], causes=[])
