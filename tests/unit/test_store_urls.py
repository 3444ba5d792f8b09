"""How a user may write the place of the database, and what is made of it."""

from pathlib import Path

import pytest

from ebbtide.errors import ConfigError
from ebbtide.jobs.store import Store
from ebbtide.jobs.urls import as_text, normalise


def _text(url: str) -> str:
    return as_text(normalise(url))


@pytest.mark.parametrize(
    "written",
    [
        "sqlite:////data/x.db",
        "sqlite:////data/../data/./x.db",
        "/data/x.db",
        "/data//x.db",
    ],
)
def test_an_absolute_path_is_kept(written: str) -> None:
    assert _text(written) == "sqlite:////data/x.db"


@pytest.mark.parametrize("written", ["sqlite:///x.db", "x.db", "./x.db", "sub/../x.db"])
def test_a_relative_path_is_that_of_the_folder_at_the_time(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(written)

    monkeypatch.chdir("/")

    assert store.url == f"sqlite:///{tmp_path / 'x.db'}"


@pytest.mark.parametrize("written", ["~/x.db", "sqlite:///~/x.db"])
def test_a_tilde_is_the_home_directory(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")

    assert _text(written) == "sqlite:////somewhere/x.db"


@pytest.mark.parametrize("name", ["with space.db", "percent%41.db", "hash#1.db", "ümlaut.db", "a:b@c.db"])
def test_unusual_characters_of_a_path_are_taken_as_they_stand(name: str) -> None:
    by_path, by_url = normalise(f"/data/{name}"), normalise(f"sqlite:////data/{name}")

    assert by_path.database == by_url.database == f"/data/{name}"


@pytest.mark.parametrize(
    "written",
    [
        "/data/percent%41.db",
        "x.db",
        "postgresql://me:s%40cret@host:5433/jobs?sslmode=require",
        "postgres://host/jobs",
    ],
)
def test_the_normal_form_is_its_own_normal_form(written: str) -> None:
    once = _text(written)

    assert _text(once) == once


@pytest.mark.parametrize("written", [":memory:", "sqlite://", "sqlite:///", "sqlite:///:memory:", ""])
def test_a_database_in_memory_is_refused_because_processes_cannot_share_it(written: str) -> None:
    with pytest.raises(ConfigError, match=r"^a database in memory cannot be shared by processes"):
        Store(written)


@pytest.mark.parametrize("written", ["/data/", "sqlite:////data/", "data/.", "sqlite:///.."])
def test_a_path_that_can_only_be_a_folder_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="is a folder: name a file in it"):
        Store(written)


@pytest.mark.parametrize(
    "written",
    [
        "mysql://host/x",
        "sqlite:/x.db",
        "sqlite:x.db",
        "sqlite://x.db",
        "file:x.db?mode=memory",
        "http://host/x.db",
    ],
)
def test_what_is_no_form_of_ours_is_refused_with_the_forms_that_are(written: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: write sqlite:///FILE"):
        Store(written)


@pytest.mark.parametrize("written", ["sqlite:///x.db?timeout=5", "x.db?mode=ro", "x\0.db"])
def test_options_and_null_characters_are_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="it may hold no"):
        Store(written)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_postgresql_gets_the_driver_that_is_installed(scheme: str) -> None:
    assert _text(f"{scheme}://me:secret@host:5433/jobs") == "postgresql+psycopg2://me:secret@host:5433/jobs"


def test_a_wrong_port_is_refused_without_showing_the_password() -> None:
    with pytest.raises(ConfigError) as caught:
        normalise("postgresql://me:secret@host:port/jobs")

    assert "secret" not in str(caught.value)


def test_a_store_on_a_server_is_opened_without_connecting() -> None:
    with Store("postgresql://nobody@no-such-host.invalid/jobs") as store:
        assert store.url == "postgresql+psycopg2://nobody@no-such-host.invalid/jobs"


def test_making_a_store_touches_no_file(tmp_path: Path) -> None:
    Store(str(tmp_path / "missing" / "x.db")).close()

    assert list(tmp_path.iterdir()) == []
