"""Which tests run on which store. Those of this folder run on every one."""

import psycopg2
import pytest

from ebbtide.jobs.urls import normalise

# conftest.py as pytest has loaded it.
from tests import conftest


class Somewhere:
    """As much of a test as is asked for its stores."""

    nodeid = "test"

    def __init__(self, folder, **markers):
        self.path = conftest.HERE / folder / "test_it.py"
        self._markers = {name: getattr(pytest.mark, name)(*args).mark for name, args in markers.items()}

    def iter_markers(self, name):
        return [mark for own, mark in self._markers.items() if own == name]


@pytest.fixture
def two_folders(monkeypatch):
    monkeypatch.setattr(conftest, "ON_EVERY_STORE", ("contract", "integration/runs"))


@pytest.mark.parametrize("folder", ["contract", "integration/runs", "integration/runs/deeper"])
def test_a_test_of_such_a_folder_runs_on_every_store(two_folders, folder):
    assert conftest.store_kinds(Somewhere(folder)) == ("sqlite", "postgresql")


@pytest.mark.parametrize("folder", ["unit", "integration", "integration/runs2", "process"])
def test_a_test_of_another_folder_runs_on_sqlite(two_folders, folder):
    assert conftest.store_kinds(Somewhere(folder)) == ("sqlite",)


@pytest.mark.parametrize("folder", ["contract", "unit"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_marked_test_runs_on_its_store_alone(two_folders, folder, kind):
    assert conftest.store_kinds(Somewhere(folder, **{f"{kind}_only": ["it is about that"]})) == (kind,)


def test_a_marker_without_a_reason_is_refused():
    with pytest.raises(pytest.UsageError, match="test: sqlite_only wants a reason"):
        conftest.store_kinds(Somewhere("unit", sqlite_only=[]))


def test_the_name_of_a_test_says_on_which_store_it_runs(database, store_kind, request):
    assert request.node.name.endswith(f"[{store_kind}]")
    assert normalise(database).get_backend_name() == store_kind


@pytest.mark.sqlite_only("to see that there is nothing yet")
def test_an_sqlite_file_does_not_exist_yet(database, tmp_path):
    assert database == f"sqlite:///{tmp_path}/ebbtide.db"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgresql_only("to see that there is nothing yet")
def test_a_database_on_postgresql_is_empty(database, postgresql):
    assert postgresql.query(database, "SELECT * FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.postgresql_only("to see that it goes")
def test_a_database_on_postgresql_is_gone_after_its_test(request, postgresql, replay, tmp_path):
    made = conftest.database.__wrapped__("postgresql", tmp_path, replay, request)
    url = next(made)
    psycopg2.connect(url).close()

    assert next(made, None) is None

    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(url)
