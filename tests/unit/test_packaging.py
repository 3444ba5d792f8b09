"""The public surface: which names `import ebbtide` offers, and that they come when asked for."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import ebbtide

PUBLIC = [
    "CancelableTask",
    "AsyncTask",
    "CommandTask",
    "StreamTask",
    "Cancelled",
    "INTERRUPTED",
    "task",
    "flow",
    "RetryPolicy",
    "Limits",
    "Poster",
    "Job",
    "JobState",
    "Conductor",
    "AsyncPoster",
    "Service",
    "TaskManager",
    "EbbtideError",
    "UsageError",
    "NotFound",
    "Conflict",
    "StoreUnavailable",
    "__version__",
]


def test_the_public_names_are_these():
    assert ebbtide.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(ebbtide))


@pytest.mark.filterwarnings("ignore:eventletutils module:DeprecationWarning")  # TaskFlow's engines import it
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_when_asked_for(name):
    assert getattr(ebbtide, name) is not None


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Task'"):
        _ = ebbtide.Task


def test_importing_the_front_door_loads_nothing_behind_it():
    code = "import json, sys, ebbtide; print(json.dumps([name for name in sys.modules]))"

    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))

    assert not {name for name in loaded if name.startswith(("ebbtide.", "taskflow", "sqlalchemy", "oslo_"))}


def test_the_version_is_that_of_the_installed_package():
    try:
        expected = version("ebbtide")
    except PackageNotFoundError:
        expected = "0+checkout"

    assert ebbtide.__version__ == expected
