"""What becomes of a test whose service this machine does not have."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """CI fails, since nobody would see there that nothing is tested; elsewhere the test is skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: skipped elsewhere, but CI has to have it", pytrace=False)
    pytest.skip(what)
