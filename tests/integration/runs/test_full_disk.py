"""A job whose destination lies on the disk of the store, and is too small for it."""

import os

import pytest

from ebbtide.conductor import Conductor
from ebbtide.config import Settings
from ebbtide.flows import load_flows
from ebbtide.jobs import Poster
from tests.services.tmpfs import SIZE_BYTES


@pytest.fixture
def database(small_disk, replay):
    """A store on the small disk."""
    url = f"sqlite:///{small_disk.path / 'jobs.db'}"
    yield url
    replay(url)


def test_a_job_that_fills_the_disk_of_its_own_store_ends_failed_and_undone(database, small_disk, tmp_path):
    (tmp_path / "source").mkdir()
    for number in range(8):
        (tmp_path / "source" / str(number)).write_bytes(os.urandom(SIZE_BYTES // 4))
    registry = load_flows(["ebbtide.flows.file_processing"])
    conductor = Conductor(Settings(database=database, isolation="thread"), registry=registry)
    parameters = {"source": str(tmp_path / "source"), "destination": str(small_disk.path / "published")}

    with Poster(database, registry=registry) as poster:
        job = poster.post("file-processing", parameters)
        conductor.start()
        try:
            ended = poster.wait(job.id, timeout=50)
        finally:
            conductor.stop()
            conductor.wait()

    assert (ended.state, ended.undo) == ("failed", "complete")
    assert "no space left on device, but for the last 4 megabytes" in str(ended.error)
    assert all(name.startswith("jobs.db") for name in os.listdir(small_disk.path))
