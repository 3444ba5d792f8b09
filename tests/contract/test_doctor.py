"""What `ebbtide doctor` finds on a store: nothing on a bare one, and what was broken when something was."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

import certifi
import pytest
import sqlalchemy as sa
from kazoo.security import CREATOR_ALL_ACL

from ebbtide.config import Settings, load_settings
from ebbtide.jobs import moments, tables
from ebbtide.jobs.boards import Notice, open_boards
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.doctor import Level, configuration, databasefile, examine, versions
from ebbtide.jobs.pausing import Pauses
from ebbtide.jobs.schema import VERSION_TABLE, ensure_schema
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from tests.services.absence import missing


@pytest.fixture
def made(made, store_kind):
    """As Ebbtide makes it: a copied file is everybody's to read."""
    if store_kind == "sqlite":
        os.chmod(made.removeprefix("sqlite:///"), 0o600)
    return made


def found(database, **options):
    """What is not fine, as (subject, level, words), with its advice in the end."""
    findings = list(examine(Settings(database, **options)))
    assert all(each.advice for each in findings if each.level is not Level.FINE)
    return [
        (each.subject, str(each.level), f"{each.words}: {each.advice}")
        for each in findings
        # The server of tests is quick instead of safe from power cuts.
        if each.level is not Level.FINE and "fsync" not in each.words
    ]


def only(findings):
    (one,) = findings
    return one


def test_a_store_in_use_is_fine(made):
    assert found(made) == []


def test_a_store_that_does_not_exist_yet_is_fine_and_is_not_made(database, store_kind):
    assert found(database) == []
    if store_kind == "sqlite":
        assert not os.path.exists(database.removeprefix("sqlite:///"))


def test_the_server_of_tests_is_found_to_lose_what_was_answered_in_a_power_cut(made, store_kind):
    told = [each for each in examine(Settings(made)) if "fsync" in each.words]

    assert [str(each.level) for each in told] == (["wrong"] if store_kind == "postgresql" else [])


def test_tables_of_another_program_are_told_with_what_to_do(store, made):
    with store.write() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))

    subject, level, told = only(found(made))

    assert (subject, level) == ("store", "wrong")
    assert told.endswith("install the newer ebbtide here as well")


def test_jobs_that_nobody_takes_are_a_note_without_conductors_and_wrong_with_others(store, made, board):
    board.post("copy")

    subject, level, told = only(found(made))
    assert (subject, level) == ("conductors", "note")
    assert told == "none runs, and 1 job waits: start one: ebbtide conductor"
    other = Claims(store, "one", name="one", lease_seconds=30.0)
    other.register(flows=["x@1"], runners=1, isolation="thread")
    subject, level, told = only(found(made))
    assert (subject, level) == ("conductors", "wrong")
    assert told.startswith("1 job waits for a conductor that knows copy@1")


def test_a_conductor_that_fell_silent_with_a_job_is_named(made, board, conductor, clock):
    board.post()
    conductor("gone").claim(["copy@1"])
    clock.advance(60)
    conductor("here")

    assert [told[:2] for told in found(made)] == [("conductors", "note")]
    assert found(made)[0][2].startswith("gone fell silent with 1 running")


def test_a_job_whose_conductor_is_gone_waits_as_well(made, board, conductor):
    board.post()
    gone = conductor("gone")
    gone.claim(["copy@1"])
    gone.release()

    assert only(found(made))[2] == "none runs, and 1 job waits: start one: ebbtide conductor"


def test_jobs_that_wait_for_one_another_are_fine(made, board, conductor):
    one = conductor("one")
    for _ in range(2):
        board.post(exclusive_key="disk", key_limit=1)
    one.claim(["copy@1"])

    assert found(made) == []


def test_jobs_of_a_paused_flow_are_a_note_with_what_lets_them_go_on(store, made, board, conductor):
    conductor("one")
    board.post()
    Pauses(store).pause_flow("copy", who="ann")

    subject, level, told = only(found(made))

    assert (subject, level) == ("jobs", "note")
    assert told.startswith("1 job waits for somebody to resume flow copy, which is paused: ebbtide resume")


def test_conductors_of_another_version_are_told(store, made, conductor):
    conductor("one")
    with store.write() as connection:
        connection.execute(sa.update(tables.conductors).values(version="0.0.1"))

    assert only(found(made))[2].startswith("conductors run ebbtide 0.0.1; this is ")


def test_parked_jobs_are_told(made, board):
    board.put(JobState.PARKED)

    assert only(found(made))[:2] == ("jobs", "note")


@pytest.mark.postgresql_only("with a file there is one machine, and one clock")
def test_clocks_that_differ_from_the_database_are_told(store, made, conductor, clock, monkeypatch):
    conductor("one")
    with store.write() as connection:
        connection.execute(sa.update(tables.conductors).values(clock_ahead_seconds=-7.5))
    told = only(found(made))
    assert told[2].startswith("the clock of conductor one is 7.5 s behind the database's: have it set by NTP")

    monkeypatch.setitem(moments._ON_POSTGRESQL, "WallNow", "(SELECT now - 90 FROM test_clock)")

    assert "the clock of this host is 90.0 s before the database's" in found(made)[0][2]


@pytest.mark.postgresql_only("each signal is tried once")
@pytest.mark.parametrize("kind", ["auto", "redis", "zookeeper", "file"])
def test_a_signal_that_comes_through_is_fine(made, kind, signal_options):
    options = signal_options(kind)
    if kind == "file":
        os.mkdir(options["signal_folder"], 0o700)

    findings = list(examine(Settings(made, **options)))

    (told,) = [each for each in findings if each.subject == "signal"]
    assert told.level is Level.FINE and "comes through" in told.words


@pytest.mark.sqlite_only("each signal is tried once")
def test_a_server_of_signals_that_is_gone_is_wrong(made, redis_database, redis):
    redis.stop()

    subject, level, told = only(found(made, signal="redis", redis_url=redis_database))

    assert (subject, level) == ("signal", "wrong")
    assert told.startswith("redis cannot be reached: a cancel waits for the sweep, 1 s at most")


@pytest.mark.sqlite_only("the store plays no part in it")
def test_a_node_that_everybody_may_change_is_told_and_one_of_a_credential_is_fine(
    made, signal_options, monkeypatch
):
    options = signal_options("zookeeper")
    for _ in range(2):  # at first nothing is there; then what the first examination has rung with
        assert only(found(made, **options))[:2] == ("zookeeper", "note")
    subject, level, told = only(found(made, **options, board="zookeeper"))
    assert (subject, level) == ("zookeeper", "wrong")
    assert "may take jobs off the board" in told and "zookeeper_auth" in told

    monkeypatch.setenv("ZOOKEEPER_CREDENTIAL", "digest:ebbtide:a-password")
    options |= {"zookeeper_path": f"{options['zookeeper_path']}-closed"}
    options |= {"zookeeper_auth": "env:ZOOKEEPER_CREDENTIAL"}
    for _ in range(2):
        assert found(made, **options, board="zookeeper") == []

    del options["zookeeper_auth"]
    told = [(subject, level) for subject, level, _ in found(made, **options, board="zookeeper")]
    assert told == [(subject, "wrong") for subject in ("zookeeper", "signal", "board")]


@pytest.mark.sqlite_only("the store plays no part in it")
@pytest.mark.parametrize("node", ["board", "signal"])
def test_an_open_node_below_a_closed_one_is_told(made, signal_options, monkeypatch, zookeeper_client, node):
    """A node does not have the access list of the one above it."""
    monkeypatch.setenv("ZOOKEEPER_CREDENTIAL", "digest:ebbtide:a-password")
    options = signal_options("zookeeper") | {"zookeeper_auth": "env:ZOOKEEPER_CREDENTIAL"}
    options |= {"board": "zookeeper"}
    zookeeper_client.ensure_path(f"{options['zookeeper_path']}/{node}")  # open, as is what is above it
    zookeeper_client.add_auth("digest", "ebbtide:a-password")
    zookeeper_client.set_acls(options["zookeeper_path"], CREATOR_ALL_ACL)

    subject, level, told = only(found(made, **options))

    assert (subject, level) == ("zookeeper", "wrong")
    assert f"{options['zookeeper_path']}/{node}:" in told and "remove what is there" in told


@pytest.mark.sqlite_only("the store plays no part in it")
@pytest.mark.parametrize(
    ("wrong", "told", "advice"),
    [
        ({"zookeeper_auth": "env:NOT_SET_HERE"}, "cannot be used: it is not set", "mend that option"),
        ({"zookeeper_ca_file": "/no/such"}, "cannot be read", "mend that option"),
        ({"zookeeper_ca_file": certifi.where()}, "TLS", "that zookeeper_hosts names their TLS ports"),
    ],
    ids=["no credential", "no certificate", "no TLS there"],
)
def test_what_is_wrong_with_the_way_to_zookeeper_is_told_as_that(made, signal_options, wrong, told, advice):
    findings = found(made, **signal_options("zookeeper"), **wrong)

    subject, level, words = findings[0]
    assert (subject, level) == ("zookeeper", "wrong")
    assert told in words and advice in words


@pytest.mark.sqlite_only("the store plays no part in it")
def test_zookeeper_that_does_not_answer_is_wrong(made, signal_options, zookeeper):
    options = signal_options("zookeeper")
    zookeeper.stop()

    assert [told[:2] for told in found(made, **options)] == [("zookeeper", "wrong"), ("signal", "wrong")]


# What lies around a file.


@pytest.mark.sqlite_only("on a server there is no file")
@pytest.mark.parametrize(("mode", "level"), [(0o640, "note"), (0o602, "wrong")])
def test_a_database_that_others_may_touch_is_told(made, mode, level):
    os.chmod(made.removeprefix("sqlite:///"), mode)

    assert only(found(made))[:2] == ("permissions", level)


@pytest.mark.sqlite_only("on a server there is no file")
def test_a_database_that_this_user_may_only_read_is_wrong(made):
    path, prefix = made.removeprefix("sqlite:///"), []
    if os.geteuid() == 0:  # root writes everywhere, unless it gives that up
        if shutil.which("setpriv") is None:
            missing("setpriv (util-linux) is not installed, and root writes everywhere")
        powers = "-dac_override,-dac_read_search"
        prefix = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]
        os.chown(path, 65534, -1)
    os.chmod(path, 0o444)

    call = [*prefix, sys.executable, "-m", "ebbtide", "doctor", "--json", "--database", path]
    examined = subprocess.run(call, capture_output=True, text=True, check=False)

    told = [each["words"] for each in json.loads(examined.stdout) if each["level"] == "wrong"]
    assert told == [f"this user may not write to {path}: nothing can be posted, cancelled or run"]


@pytest.mark.sqlite_only("on a server there is no file")
def test_a_folder_that_everybody_may_write_to_is_wrong(made, tmp_path):
    tmp_path.chmod(0o777)

    assert only(found(made))[1:] == (
        "wrong",
        f"everybody may write into {tmp_path}, and put another database there: chmod o-w {tmp_path}",
    )


@pytest.mark.sqlite_only("on a server there is no file")
def test_a_network_file_system_is_wrong(made, tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "1 0 0:1 / / rw - ext4 /dev/root rw\n"
        f"2 1 0:2 / {tmp_path.parent} rw shared:1 - tmpfs tmpfs rw\n"
        f"3 2 0:3 / {tmp_path} rw - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(databasefile, "_MOUNTS", mounts)

    assert only(found(made))[2].startswith(f"{tmp_path} is on a network file system (nfs4)")


@pytest.mark.sqlite_only("on a server there is no file")
def test_a_disk_that_is_nearly_full_is_wrong(small_disk):
    with Store(f"sqlite:///{small_disk.path}/ebbtide.db") as store:
        ensure_schema(store)

        assert "MiB are free" in only(found(store.url))[2]


# What is around the store.


@pytest.mark.sqlite_only("the store plays no part in it")
def test_a_configuration_file_with_a_password_that_others_may_read_is_wrong(made, tmp_path):
    file = tmp_path / "ebbtide.conf"
    file.write_text("[DEFAULT]\nredis_url = redis://:geheim%21@here/0\n")
    settings = load_settings(str(file), environ={}, database=made)

    def look(mode):
        file.chmod(mode)
        return [(str(each.level), each.advice) for each in configuration.look(settings, str(file))]

    assert look(0o600) == [("fine", "")]
    assert look(0o644) == [("wrong", f"chmod 600 {file}")]
    assert look(0o666) == [("wrong", f"chmod go-w {file}")]
    file.write_text("[DEFAULT]\nrunners = 3\n")
    assert look(0o644) == [("fine", "")]


@pytest.mark.sqlite_only("the store plays no part in it")
def test_flows_that_cannot_be_imported_are_wrong(made):
    subject, level, told = only(found(made, flow_modules=("no_such_module_of_flows",)))

    assert (subject, level) == ("flows", "wrong")
    assert "no_such_module_of_flows" in told


@pytest.mark.sqlite_only("the store plays no part in it")
def test_a_package_that_does_not_fit_is_wrong(made, monkeypatch):
    monkeypatch.setattr(versions, "requires", lambda _: ["click>=1000", "nowhere-to-be-found>=1", "rich"])

    assert [told[2].partition(":")[0] for told in found(made)] == [
        f"click {version('click')} is installed; >=1000 is wanted",
        "nowhere-to-be-found is not installed; >=1 is wanted",
    ]


@pytest.mark.sqlite_only("the store plays no part in it")
def test_threads_for_runners_are_a_note(made):
    assert only(found(made, isolation="thread"))[:2] == ("isolation", "note")


# Boards.


@pytest.mark.sqlite_only("the store plays no part in it")
@pytest.mark.parametrize("kind", ["zookeeper", "redis"])
def test_a_board_that_serves_is_fine_and_one_that_does_not_is_wrong(made, kind, board_options, request):
    options = board_options(kind)
    told = {each.subject: each for each in examine(Settings(made, **options))}
    assert told["board"].level is Level.FINE
    assert told["board"].words == f"{kind} serves; 0 notices, of 500 at most"

    request.getfixturevalue(kind).stop()

    (told,) = [told for subject, _, told in found(made, **options) if subject == "board"]
    assert told.startswith(f"{kind} cannot be used (")
    assert "\\n" not in told and "\n" not in told


@pytest.mark.sqlite_only("the store plays no part in it")
def test_a_board_that_nobody_keeps_tidy_is_told(made, board_options):
    options = board_options("redis") | {"board_window": 1}
    open_board = open_boards(Settings(made, **options))
    with contextlib.closing(open_board()) as board:
        for number in range(3):
            board.post(Notice(f"job-{number}", "copy@1", 0, 0.0))

    assert only(found(made, **options))[2].startswith("redis holds 3 notices, where 1 are")
