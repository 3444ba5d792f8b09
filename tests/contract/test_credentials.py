"""Credentials and the catalogue on every store."""

import pytest

from ebbtide.errors import TokenNotFound, UsageError
from ebbtide.flows import FlowDefinition
from ebbtide.jobs.catalogue import Catalogue
from ebbtide.jobs.credentials import SESSION_SECONDS, Credentials, Kind, Role


@pytest.fixture
def credentials(store, clock):
    return Credentials(store)


def test_a_secret_is_known_again_until_it_expires(credentials, clock):
    secret, made = credentials.create("ann", Role.OPERATOR, jobs_of="ann", seconds=60)

    held = credentials.holder(secret, Kind.TOKEN)
    assert (held.id, held.name, held.role, held.jobs_of) == (made.id, "ann", "operator", "ann")
    assert credentials.holder(secret, Kind.SESSION) is None
    assert credentials.holder(secret[:-1], Kind.TOKEN) is None
    clock.advance(60)
    assert credentials.holder(secret, Kind.TOKEN) is None
    assert credentials.living([made.id]) == set()


def test_its_last_use_is_known_to_the_minute(credentials, clock):
    secret, _ = credentials.create("ann", Role.VIEWER)
    first = clock.now
    credentials.holder(secret, Kind.TOKEN)
    clock.advance(59)
    credentials.holder(secret, Kind.TOKEN)
    assert credentials.tokens()[0].used_at == first
    clock.advance(1)
    credentials.holder(secret, Kind.TOKEN)
    assert credentials.tokens()[0].used_at == first + 60


def test_two_secrets_never_are_the_same_and_none_is_stored(credentials, store, board):
    from ebbtide.jobs import tables

    secrets = {credentials.create("ann", Role.VIEWER)[0] for _ in range(3)}

    assert len(secrets) == 3
    assert not any(secret in str(board.rows(tables.credentials)) for secret in secrets)


def test_a_session_ends_with_its_token_and_no_later_than_it(credentials, clock):
    secret, made = credentials.create("ann", Role.VIEWER, seconds=SESSION_SECONDS / 2)
    session, opened = credentials.open_session(secret)

    assert opened.expires_at == made.expires_at
    assert credentials.holder(session, Kind.SESSION).name == "ann"
    assert credentials.open_session(session) is None
    credentials.revoke(made.id)
    assert credentials.holder(session, Kind.SESSION) is None
    with pytest.raises(TokenNotFound):
        credentials.revoke(made.id)


def test_a_login_opens_one_session(credentials, clock):
    secret, _ = credentials.create("ann", Role.ADMIN, seconds=600, kind=Kind.LOGIN)

    session, _ = credentials.open_session(secret)

    assert credentials.open_session(secret) is None
    assert credentials.holder(session, Kind.SESSION).role == "admin"
    assert credentials.holder(secret, Kind.TOKEN) is None
    credentials.close_session(session)
    credentials.close_session(session)
    assert credentials.holder(session, Kind.SESSION) is None


def test_what_has_expired_is_cleared_away(credentials, clock):
    credentials.create("ann", Role.VIEWER, seconds=1)
    clock.advance(2)
    credentials.create("eve", Role.VIEWER)

    assert [each.name for each in credentials.tokens()] == ["eve"]


@pytest.mark.parametrize("name, seconds", [("", None), ("a\x1b", None), ("a", 0), ("a", -1), ("a", 1e12)])
def test_what_makes_no_sense_is_refused(credentials, name, seconds):
    with pytest.raises(UsageError):
        credentials.create(name, Role.VIEWER, seconds=seconds)


def test_a_flow_that_is_published_again_is_described_anew(store):
    def first(a: int): ...

    def second(a: int, b: int = 1): ...

    catalogue = Catalogue(store)
    catalogue.publish([FlowDefinition.of("add", first), FlowDefinition.of("add", first, version=2)])
    catalogue.publish([FlowDefinition.of("add", second)])

    assert [flow.key for flow in catalogue.flows()] == ["add@1", "add@2"]
    assert list(catalogue.get("add@1").parameters["properties"]) == ["a", "b"]
