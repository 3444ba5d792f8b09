"""Each verb on a real store, without a conductor: answers, exit codes, one line for a user's mistake."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ebbtide.api.page.steps import steps_of
from ebbtide.cli import command
from ebbtide.cli.exits import Exit
from ebbtide.jobs import Poster
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.store import Store
from ebbtide.jobs.tables import jobs

FLOWS = '''
from taskflow.patterns import linear_flow
from ebbtide.flows import Secret, flow
from ebbtide.tasks import task

@task(provides="total")
def add(a, b):
    return a + b

@flow("cli-add", returns="total")
def add_two(a: int, b: int = 2, note: str = ""):
    """Add two numbers."""
    return linear_flow.Flow("cli-add").add(add())

@task
def publish(token): ...

@flow("cli-publish")
def publish_it(token: Secret, proof: Secret | None = None):
    """Publish something."""
    return linear_flow.Flow("cli-publish").add(publish())
'''
MODULE = "flows_of_the_command_line_tests"


@pytest.fixture(scope="session")
def folder_of_flows(tmp_path_factory):
    """One folder for all tests: flows are registered once in a process."""
    folder = tmp_path_factory.mktemp("flows")
    (folder / f"{MODULE}.py").write_text(FLOWS)
    return folder


@pytest.fixture
def run_first(database, folder_of_flows, monkeypatch):
    """Run the command where no store is yet; the result has exit_code, stdout and stderr."""
    monkeypatch.chdir(folder_of_flows)
    for name in [name for name in os.environ if name.startswith("EBBTIDE_")]:
        monkeypatch.delenv(name)

    def call(*words, stdin=None, own_store=False):
        store = [] if own_store else ["--database", database]
        result = CliRunner().invoke(
            command,
            [*store, "--flow-module", MODULE, *words],
            input=stdin,
            catch_exceptions=False,
        )
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture
def run(run_first, database):
    """The same on this test's store, which is there."""
    with Poster(database):
        return run_first


@pytest.fixture
def posted(run):
    """The id of a job that nobody has claimed."""
    return run("post", "cli-add", "-p", "a=1").stdout.strip()


@pytest.fixture
def refused(run):
    """Run a command that fails: one line on stderr, the same as JSON on stdout if that was asked for.

    Returns exit code and line.
    """

    def call(*words, **how):
        result = run(*words, **how)
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("ebbtide: "), result.stderr
        if "--json" in words:
            told = json.loads(result.stdout)
            assert told == {
                "error": lines[0].removeprefix("ebbtide: "),
                "exit_code": result.exit_code,
            }
        else:
            assert result.stdout == ""
        return result.exit_code, lines[0]

    return call


def test_post_prints_the_id_alone(run):
    result = run("post", "cli-add", "-p", "a=1", "--label", "team=red", "--priority", "5")

    shown = json.loads(run("show", result.stdout.strip(), "--json").stdout)
    assert result.exit_code == Exit.DONE and result.stderr == ""
    assert shown["params"] == {"a": 1, "b": 2, "note": ""}
    assert shown["labels"] == {"team": "red"} and shown["priority"] == 5
    assert shown["state"] == "pending"


def test_post_as_json_prints_the_job(run):
    job = json.loads(run("--json", "post", "cli-add", "-p", "a=1").stdout)

    assert {"id", "flow", "state", "phase", "attempt", "progress", "error"} <= set(job)


def test_parameters_of_the_call_win_over_those_of_the_file(run, tmp_path):
    file = tmp_path / "params.json"
    file.write_text('{"a": 1, "b": 7, "note": "12"}')

    job = json.loads(run("--json", "post", "cli-add", "--params-file", str(file), "-p", "b=3").stdout)

    assert job["params"] == {"a": 1, "b": 3, "note": "12"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "a JSON object is wanted"),
        ("{", "not JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice"),
        ('{"a": {"b": 2, "b": 2}}', "has the key 'b' twice"),
        ("\udcff", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_parameter_file_that_is_no_object_is_refused(refused, tmp_path, text, said):
    file = tmp_path / "params.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))

    code, line = refused("post", "cli-add", "--params-file", str(file))

    assert code == Exit.USAGE and said in line


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "token=hunter2"],
        ["-p", "token=env:TOKEN", "-p", "proof=hunter2"],
        ["-p", "token=env:hun-ter2"],
        ["-p", 'token="hunter2"'],
        ["-p", 'token={"hunter2": [NaN, "hunter2"]}'],
        ["-p", "hunter2"],
        ["-p", "=hunter2"],
        ["-p", "token:hunter2"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("shape", [[], ["--json"]], ids=["words", "json"])
def test_a_secret_that_is_given_itself_is_refused_and_not_shown(refused, run, words, shape):
    code, line = refused("post", "cli-publish", *words, *shape)

    assert code == Exit.USAGE and "ter2" not in line
    assert "should be a reference, env:NAME" in line or "-p wants name=value" in line
    assert json.loads(run("ls", "--json").stdout) == []


@pytest.mark.parametrize("value", ["hunter2", 7, ["hunter2"], {"hunter2": 1}, 1e999], ids=repr)
def test_a_secret_in_a_parameter_file_is_refused_and_not_shown(refused, tmp_path, value):
    file = tmp_path / "params.json"
    file.write_text(json.dumps({"token": value}))

    code, line = refused("post", "cli-publish", "--params-file", str(file))

    assert code == Exit.USAGE and "hunter2" not in line and "should be a reference" in line


def test_a_reference_to_a_secret_is_posted_and_shown_and_not_looked_up(run, monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2-hunter3")

    posted = run("post", "cli-publish", "-p", "token=env:TOKEN", "-p", "proof=file:/no/such/file")

    assert posted.exit_code == Exit.DONE
    shown = run("show", posted.stdout.strip())
    assert 'token = "env:TOKEN"' in shown.stdout and 'proof = "file:/no/such/file"' in shown.stdout
    assert "hunter2" not in shown.stdout


def test_flows_tells_which_parameters_are_secrets(run):
    told = run("flows", "cli-publish").stdout

    assert ["token", "secret-reference", "(required)"] in [line.split() for line in told.splitlines()]
    assert "secret-reference or null" in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["post", "cli-add"], Exit.USAGE, "a: missing"),
        (["post", "cli-add", "-p", "a=1", "-p", "c=2"], Exit.USAGE, "c: unknown parameter"),
        (["post", "cli-add", "-p", "a=one"], Exit.USAGE, "a: should be"),
        (["post", "cli-add", "-p", "a"], Exit.USAGE, "-p wants name=value"),
        (["post", "cli-add", "-p", "a=1", "-p", "a=2"], Exit.USAGE, "a is given twice"),
        (["post", "cli-add", "-p", "a=1", "--label", "x"], Exit.USAGE, "--label wants name=value"),
        (["post", "cli-add", "-p", "a=1", "--delay", "nan"], Exit.USAGE, "--delay"),
        (["post", "cli-add", "-p", "a=1", "--delay", "-1"], Exit.USAGE, "--delay"),
        (["post", "cli-ad"], Exit.UNKNOWN, "did you mean cli-add?"),
        (["post", "cli-add@9"], Exit.UNKNOWN, "cli-add@9"),
        (["post", "os.system"], Exit.UNKNOWN, "os.system"),
        (["post"], Exit.USAGE, "FLOW"),
        (["show"], Exit.USAGE, "JOB"),
        (["ls", "--state", "abandoned"], Exit.USAGE, "abandoned"),
        (["ls", "--limit", "0"], Exit.USAGE, "limit"),
        (["ls", "--limit", "1_0"], Exit.USAGE, "'1_0' is not a number in plain digits"),
        (["post", "cli-add", "-p", "a=1", "--priority", "\u0663"], Exit.USAGE, "in plain digits"),
        (["post", "cli-add", "-p", "a=1", "--delay", "1_0.5"], Exit.USAGE, "is not a number in plain digits"),
        (["flows", "nothing"], Exit.UNKNOWN, "nothing"),
        (["no-such-verb"], Exit.USAGE, "no-such-verb"),
        (["ls", "--no-such-option"], Exit.USAGE, "see `ebbtide ls --help`"),
        (["--config", "/nowhere.conf", "ls"], Exit.USAGE, "/nowhere.conf"),
        (["--database", "mysql://jobs", "ls"], Exit.USAGE, "mysql"),
        (["--database", "", "ls"], Exit.USAGE, "--database is empty"),
        (["ls", "--database", " "], Exit.USAGE, "--database is empty"),
        (["ls", "--config", ""], Exit.USAGE, "--config is empty"),
        (["ls", "--flow-module", ""], Exit.USAGE, "--flow-module is empty"),
        (["flows", "--flow-module", "os", "--flow-module", " ,"], Exit.USAGE, "--flow-module is empty"),
        (["--flow-module", "no_such_module_here", "flows"], Exit.USAGE, "no_such_module_here"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_wrong_call_is_answered_in_one_line(refused, words, code, said):
    answered, line = refused(*words)

    assert (answered, said in line) == (code, True), line


@pytest.mark.parametrize(
    "job_id",
    ["../../etc/passwd", "' OR 1=1 --", "%", "zz", "", "\x1b[2J", "7" * 10_000, "00000000-0000", "💥"],
)
@pytest.mark.parametrize("verb", ["show", "logs", "result", "watch", "cancel", "retry", "unpark", "delete"])
def test_an_id_of_no_job_is_unknown_whatever_it_looks_like(refused, posted, verb, job_id):
    code, line = refused(verb, job_id)

    assert code == Exit.UNKNOWN
    assert line.isprintable() and len(line) < 300


def test_a_unique_prefix_is_as_good_as_the_id(run, posted):
    assert json.loads(run("show", posted[:8], "--json").stdout)["id"] == posted


def test_a_prefix_of_several_jobs_is_refused_with_their_names(refused, run):
    # More jobs than there are first characters: two of them share one.
    ids = [run("post", "cli-add", "-p", "a=1").stdout.strip() for _ in range(17)]
    first = max("0123456789abcdef", key=lambda digit: sum(job_id[0] == digit for job_id in ids))

    code, line = refused("show", first)

    assert code == Exit.USAGE and "more than one job" in line


def test_a_repeated_cancel_is_done_and_names_the_first_reason(run, posted):
    first = run("cancel", posted, "--reason", "too slow")
    second = run("cancel", posted, "--reason", "other")

    assert (first.exit_code, second.exit_code) == (Exit.DONE, Exit.DONE)
    assert first.stdout == f"{posted}  accepted  cancelled, nothing had begun\n"
    assert (
        "already requested" in second.stdout and "too slow" in second.stdout and "other" not in second.stdout
    )


def test_each_of_several_jobs_is_answered_and_the_worst_is_the_exit_code(run, posted):
    result = run("cancel", "ffffffff", posted)

    assert result.exit_code == Exit.UNKNOWN
    assert "ffffffff is not known" in result.stderr
    assert result.stdout.startswith(f"{posted}  accepted")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["show", "zz"], Exit.UNKNOWN),
        (["result", "zz"], Exit.UNKNOWN),
        (["watch", "zz"], Exit.UNKNOWN),
        (["retry", "zz"], Exit.UNKNOWN),
        (["post", "no-such-flow"], Exit.UNKNOWN),
        (["post", "cli-add"], Exit.USAGE),
        (["ls", "--no-such-option"], Exit.USAGE),
        (["demo", "/no/such/folder"], Exit.USAGE),
        (["cancel", "zz", "--database", "/proc/x.db"], Exit.STORE),
        (["db", "upgrade", "--database", "/proc/x.db"], Exit.STORE),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
@pytest.mark.parametrize("last", [True, False], ids=["after", "before"])
def test_an_error_is_an_object_for_programs(refused, words, code, last):
    answered, _ = refused(*words, "--json") if last else refused("--json", *words)

    assert answered == code


def test_a_group_of_verbs_takes_the_shared_options_too(run_first):
    assert json.loads(run_first("db", "--json", "check").stdout)["state"] == "empty"


def test_a_schema_that_does_not_fit_is_one_object(run_first, database):
    with Store(database) as store:
        store.dialect.create()
        with store.write() as connection:
            connection.exec_driver_sql("CREATE TABLE customers (name TEXT)")

    result = run_first("db", "check", "--json")

    assert (result.exit_code, json.loads(result.stdout)["state"]) == (Exit.STORE, "foreign")
    assert len(result.stderr.splitlines()) == 1


def test_answers_as_json_are_a_line_for_each_job(run, posted):
    lines = [json.loads(line) for line in run("--json", "cancel", posted, "zz").stdout.splitlines()]

    assert [(line["id"], line["answer"]) for line in lines] == [(posted, "accepted"), ("zz", "unknown")]
    assert lines[0]["state"] == "cancelled" and lines[0]["cancel"]["reason"] == ""
    assert "not known" in lines[1]["message"]


def test_ids_may_come_from_stdin(run, posted):
    other = run("post", "cli-add", "-p", "a=2").stdout.strip()

    result = run("cancel", "-", "--json", stdin=f"{posted}\n\n  {other}\n")

    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [posted, other]


@pytest.mark.altered_by_hand("nothing runs here: the run is made up")
def test_a_repeated_cancel_says_that_the_job_does_not_stop(run, posted, database):
    with Store(database) as store, store.write() as connection:
        connection.execute(sa.update(jobs).values(state="running", begun=1))
    assert "being undone" in run("cancel", posted).stdout
    with Store(database) as store, store.write() as connection:
        connection.execute(sa.update(jobs).values(overdue_at=1.0))

    repeated = run("cancel", posted)

    assert (repeated.exit_code, "overdue: it does not stop" in repeated.stdout) == (0, True)
    assert json.loads(run("show", posted, "--json").stdout)["phase"] == "overdue"
    assert posted in run("ls", "--state", "overdue").stdout


def test_cancel_with_wait_is_done_when_it_ended_cancelled(run, posted):
    result = run("cancel", posted, "--wait")

    assert result.exit_code == Exit.DONE
    assert result.stdout == f"{posted}  accepted  cancelled, nothing had begun\n"


def test_a_cancelled_job_is_retried_under_its_id(run, posted):
    run("cancel", posted)

    result = run("retry", posted)

    assert result.stdout == f"{posted}  pending  attempt 2\n"


def test_how_long_a_job_waited_is_told_of_its_first_attempt_alone(run, posted, database):
    run("cancel", posted)
    run("retry", posted)
    fresh = run("post", "cli-add", "-p", "a=1").stdout.strip()
    with Store(database) as store:
        claims = Claims(store, "here:1", name="here:1", lease_seconds=30.0)
        claims.register(flows=["cli-add@1"], runners=2, isolation="thread")
        claimed = {claims.claim(["cli-add@1"]).job_id for _ in range(2)}

    first, second = run("show", fresh).stdout, run("show", posted).stdout

    assert claimed == {fresh, posted}
    assert "started after" in first
    assert "attempt 2 started" in second and "started after" not in second
    with Poster(database) as poster:
        begun = {job: steps_of(poster.show(job), [])[1] for job in claimed}
    assert begun[fresh].after.startswith("after ")
    assert (begun[posted].word, begun[posted].after) == ("begun", "")


@pytest.mark.parametrize("verb", ["retry", "result"])
def test_what_a_pending_job_does_not_allow_is_refused(refused, posted, verb):
    code, line = refused(verb, posted)

    assert code == Exit.NOT_ALLOWED and "pending" in line


def test_a_deleted_job_is_unknown(run, refused, posted):
    run("cancel", posted)

    assert run("delete", posted).stdout == f"{posted}  deleted\n"
    assert refused("show", posted)[0] == Exit.UNKNOWN


def test_ls_filters(run, posted):
    run("post", "cli-add", "-p", "a=2", "--label", "team=red")
    run("cancel", posted)

    def listed(*words):
        return [job["id"] for job in json.loads(run("ls", "--json", *words).stdout)]

    assert listed("--state", "cancelled") == [posted]
    assert len(listed()) == 2 and len(listed("--limit", "1")) == 1
    assert posted not in listed("--label", "team=red") != []
    assert listed("--flow", "other") == []


def test_an_empty_list_is_an_array_or_a_word_on_stderr(run):
    assert json.loads(run("ls", "--json").stdout) == []
    assert run("ls").stdout == "" and "no job" in run("ls").stderr


def test_flows_are_listed_with_their_parameters(run):
    text = run("flows", "cli-add").stdout
    (definition,) = json.loads(run("flows", "cli-add", "--json").stdout)

    assert "cli-add@1  Add two numbers." in text and "(required)" in text
    assert definition["name"] == "cli-add" and definition["parameters"]["required"] == ["a"]


def test_the_schema_is_told(run_first):
    empty = json.loads(run_first("db", "check", "--json").stdout)
    upgraded = json.loads(run_first("db", "upgrade", "--json").stdout)

    assert (empty["state"], upgraded["state"]) == ("empty", "current")
    assert run_first("db", "check").exit_code == Exit.DONE


def test_two_megabytes_of_parameter_are_too_much(refused, tmp_path):
    file = tmp_path / "params.json"
    file.write_text(json.dumps({"a": 1, "note": "x" * 2_000_000}))

    code, line = refused("post", "cli-add", "--params-file", str(file))

    assert code == Exit.USAGE and "above the limit" in line and len(line) < 500


def test_the_option_sets_the_limit_of_parameters(run, refused, monkeypatch):
    monkeypatch.setenv("EBBTIDE_MAX_PARAMETER_BYTES", "1024")

    code, line = refused("post", "cli-add", "-p", "a=1", "-p", f"note={'x' * 1024}")

    assert code == Exit.USAGE and "bytes are above the limit of 1024" in line
    assert run("post", "cli-add", "-p", "a=1").exit_code == Exit.DONE


@pytest.mark.parametrize(
    "words", [("ls",), ("post", "cli-add", "-p", "a=1"), ("db", "check"), ("db", "upgrade")]
)
def test_a_text_file_is_no_store_and_stays_as_it_is(refused, tmp_path, words):
    file = tmp_path / "notes.txt"
    file.write_text("no database\n" * 500)

    code, line = refused("--database", f"sqlite:///{file}", *words)

    assert code == Exit.STORE and "notes.txt" in line
    assert file.read_text() == "no database\n" * 500


def test_a_store_in_a_folder_that_cannot_be_written_is_not_reachable(refused):
    code, line = refused("--database", "sqlite:////proc/ebbtide.db", "ls")

    assert code == Exit.STORE and "/proc" in line


@pytest.mark.parametrize("words", [("db", "check"), ("ls",), ("db", "upgrade")], ids=" ".join)
@pytest.mark.parametrize("place", ["named", "default"])
def test_where_no_file_can_be_made_every_verb_says_so(refused, monkeypatch, words, place):
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    given = [] if place == "default" else ["--database", "sqlite:////proc/x.db"]

    code, line = refused(*given, *words, own_store=place == "default")

    assert code == Exit.STORE and "/proc/" in line


def test_a_check_of_a_store_that_is_not_there_leaves_nothing(run_first, database):
    folder = os.path.dirname(database.removeprefix("sqlite:///"))
    before = os.listdir(folder)

    assert run_first("db", "check").exit_code == Exit.DONE
    assert os.listdir(folder) == before


def test_a_newer_schema_is_refused(run, refused, database):
    import sqlite3

    run("ls")
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE ebbtide_alembic_version SET version_num = '9999'")
    connection.close()

    assert refused("ls")[0] == Exit.STORE
    result = run("db", "check")
    assert result.exit_code == Exit.STORE and "newer" in result.stdout


def test_ctrl_c_in_a_wait_says_that_the_job_goes_on(run, posted, monkeypatch):
    def interrupted(self, job_id, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Poster, "wait", interrupted)

    for words in (("watch", posted), ("watch", posted, "--json"), ("logs", "-f", posted)):
        result = run(*words)
        assert result.exit_code == Exit.INTERRUPTED
        assert f"job {posted[:8]} goes on" in result.stderr


def test_who_is_asked_about_one_job_is_asked_about_one_job(run, posted, monkeypatch):
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("ebbtide.cli.selecting.sys", SimpleNamespace(stdin=terminal))

    result = run("cancel", "--all", stdin="n\n")

    assert result.stderr.startswith("cancel 1 job? [y/N]")


def test_no_lines_are_said_to_be_none(run, posted):
    text, array = run("logs", posted), run("logs", posted, "--json")

    told = f"ebbtide: job {posted[:8]} has no lines; `ebbtide show {posted[:8]}` tells what it did\n"
    assert (text.exit_code, text.stdout, text.stderr) == (Exit.DONE, "", told)
    assert (json.loads(array.stdout), array.stderr) == ([], "")


def test_a_stdout_that_cannot_be_written_is_one_line(run, posted, database):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "ebbtide", "--database", database, "ls", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert ended.returncode == Exit.ENDED_BADLY
    assert ended.stderr == "ebbtide: the output cannot be written: No space left on device\n"


def test_a_reader_that_goes_away_is_no_error_to_speak_of(database):
    Poster(database).close()
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "ebbtide", "--database", database, "ls", "--json"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert (ended.returncode, ended.stderr) == (Exit.BROKEN_PIPE, "")


def test_help_lists_every_verb_and_every_exit_code():
    text = CliRunner().invoke(command, ["--help"]).stdout

    assert all(f"\n  {name} " in text for name in command.commands)
    assert "..." not in text.partition("COMMAND [ARGS]...")[2]  # every verb is told whole
    assert all(f"\n    {int(code)} " in text for code in Exit if code is not Exit.BROKEN_PIPE)


@pytest.mark.parametrize("name", sorted(command.commands))
def test_every_verb_has_help_and_takes_the_shared_options(name):
    text = CliRunner().invoke(command, [name, "--help"]).stdout

    assert text.startswith("Usage: ")
    assert name == "db" or all(
        option in text for option in ("--json", "--database", "--config", "--flow-module")
    )


def test_help_and_version_load_nothing_heavy():
    heavy = ("sqlalchemy", "taskflow", "rich", "pydantic", "oslo_config", "alembic")
    program = (
        "import sys\nfrom ebbtide.cli import command\n"
        "for words in (['--help'], ['version'], ['post', '--help']):\n"
        "    try: command.main(words)\n"
        "    except SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines()[-1] == "[]"


def test_job_ids_are_completed_in_the_shell(run, posted, database):
    environment = {"_EBBTIDE_COMPLETE": "bash_complete", "COMP_CWORD": "4"}
    environment["COMP_WORDS"] = f"ebbtide --database {database} show {posted[:4]}"

    result = CliRunner().invoke(command, [], env=environment, prog_name="ebbtide")

    assert posted in result.stdout


# -- conductors


def test_conductors_of_a_store_without_any(run):
    listed = run("conductors")

    assert (listed.exit_code, listed.stdout) == (0, "")
    assert listed.stderr == "ebbtide: no conductor is here; `ebbtide conductor` starts one\n"
    assert json.loads(run("conductors", "--json").stdout) == []


def test_conductors_are_listed_with_what_runs_there_and_ended_ones_on_request(run, posted, database):
    with Store(database) as store:
        for name in ("here:1", "gone:2"):
            claims = Claims(store, name, name=name, lease_seconds=30.0)
            claims.register(flows=["cli-add@1"], runners=2, isolation="thread")
            claims.claim(["cli-add@1"])
        claims.release()

    text, shown, all_of_them = run("conductors"), run("conductors", "--json"), run("conductors", "--all")

    (line,) = [line for line in text.stdout.splitlines() if "here:1" in line]
    assert line.split()[:2] == ["here:1", "alive"]
    assert "1 of 2" in line and f"{posted} cli-add running" in line
    (told,) = json.loads(shown.stdout)
    assert (told["name"], told["state"], [job["id"] for job in told["jobs"]]) == ("here:1", "alive", [posted])
    assert "gone:2" in all_of_them.stdout and "gone:2" not in text.stdout


# -- doctor


def test_the_doctor_finds_nothing_on_a_bare_set_up_and_makes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    examined = run("doctor", own_store=True)

    assert (examined.exit_code, examined.stderr) == (0, "")
    assert {line.split()[0] for line in examined.stdout.splitlines()} == {"fine"}
    assert not (tmp_path / "home").exists()


def test_the_doctor_says_what_is_wrong_and_what_to_do_and_ends_with_1(run, posted, database):
    path = database.removeprefix("sqlite:///")
    os.chmod(path, 0o602)

    text, told = run("doctor"), run("doctor", "--json")

    assert (text.exit_code, told.exit_code) == (1, 1)
    assert f"wrong  permissions   everybody may write to {path}\n{'':21}chmod o-w {path}\n" in text.stdout
    assert "note   conductors    none runs, and 1 job waits\n" in text.stdout
    findings = {(each["subject"], each["level"]): each for each in json.loads(told.stdout)}
    assert findings["permissions", "wrong"]["advice"] == f"chmod o-w {path}"


def test_the_doctor_goes_on_where_a_store_cannot_be_used(run, tmp_path):
    examined = run("doctor", "--database", f"{tmp_path}/no/such.db", own_store=True)

    assert examined.exit_code == 1
    (told,) = [line for line in examined.stdout.splitlines() if line.startswith("wrong")]
    assert told.split()[1] == "store" and told.endswith("does not exist: create it first")


@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("show", "7f3a"),
        ("watch", "7f3a"),
        ("cancel", "7f3a"),
        ("pause", "--flow", "cli-add"),
        ("stats",),
        ("conductors",),
        ("token", "list"),
        ("prune",),
    ],
)
def test_a_verb_that_puts_nothing_into_a_store_makes_none(run_first, database, words):
    path = database.removeprefix("sqlite:///")
    told = run_first(*words)

    assert told.exit_code == Exit.STORE
    assert told.stderr == (
        "ebbtide: the store cannot be used, nothing was stored: "
        f"database {path} does not exist: name another, or make it with `ebbtide post`\n"
    )
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "words",
    [("post", "cli-add", "-p", "a=1"), ("token", "create", "ann", "--role", "viewer"), ("db", "upgrade")],
)
def test_a_verb_that_puts_something_into_a_store_makes_it(run_first, words):
    assert run_first(*words).exit_code == Exit.DONE

    assert run_first("ls").exit_code == Exit.DONE


def test_the_default_store_is_empty_for_whoever_asks_first(run_first, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    told = run_first("ls", own_store=True)

    assert (told.exit_code, told.stdout) == (Exit.DONE, "")
    assert told.stderr.startswith("ebbtide: no job yet")
